"""What goes wrong through the input's fault, in words for the person who gave it."""

from __future__ import annotations


class InputError(ValueError):
    r"""The input cannot be used.

    The message is one line: which file, what is wrong with it, what to do.

    Examples
    --------
    >>> print(InputError("scan.nii.gz: is two-dimensional;\n give a stack"))
    scan.nii.gz: is two-dimensional; give a stack
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
