"""What goes wrong for a reason that the person who runs the program can do something about, in words for them."""

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


class OutputError(OSError):
    """Something could not be written; the message names the files and the reasons in one line."""


class VerdictError(RuntimeError):
    """What was computed and written is not to be believed, and that was to be an error."""
