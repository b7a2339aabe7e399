"""What goes wrong for a reason that the person who runs the program can do something about, in words for them."""

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


class OutputError(OSError):
    """Something could not be written; the message names the files and the reasons in one line."""
