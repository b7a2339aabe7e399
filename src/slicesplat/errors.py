"""What goes wrong through the input's fault, in words for the person who gave it."""

from __future__ import annotations

from slicesplat.terminal import printable


class InputError(ValueError):
    r"""The input cannot be used.

    The message is one line that any terminal can show: which file, what is wrong with it, what to do.

    Examples
    --------
    >>> print(InputError("two\nlines.nii.gz: is two-dimensional; give a stack"))
    two\nlines.nii.gz: is two-dimensional; give a stack
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message.strip()))
