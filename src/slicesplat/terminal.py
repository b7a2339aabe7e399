"""Standard output and standard error as they are found: closed, full, not UTF-8, or a terminal that obeys what it gets.

What is asked for goes to standard output: if it cannot be written, the command has failed. Messages go to standard
error: if they cannot be written, the work goes on all the same.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


def printable(text: str) -> str:
    r"""The text with whatever a terminal does not show as a character escaped: it is one line, and what it seems to be.

    File names are any bytes but two: control sequences, line ends, marks that turn the direction of writing, bytes that
    are no UTF-8.

    Examples
    --------
    >>> print(printable("a\x1b[31mb\nc.nii.gz"), printable("\udcff"), printable("Hülle"))
    a\x1b[31mb\nc.nii.gz \xff Hülle
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # how Python writes a byte that it cannot decode
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def open_standard_streams() -> None:
    """Let every standard stream be there, and show in escapes what its encoding lacks.

    One that is closed stays useless but takes its number: the next file that somebody opens, an output perhaps, would
    get it, and with it the messages of the libraries.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
        if getattr(sys, name) is None and number:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def written_to_stdout() -> Iterator[None]:
    """What the block prints has arrived when it ends, unless its reader, `head` for one, has seen enough and left.

    Raises
    ------
    OSError
        Standard output cannot be written: it is closed, or on a full disk.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        raise OSError(f"standard output cannot be written ({error.strerror or error})") from error


class Messages(io.TextIOBase):
    """A stream for messages, standard error: what it does not take is lost without a word.

    Parameters
    ----------
    stream : text stream or None
        None: there is no standard error.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What the stream writes in."""
        return getattr(self._stream, "encoding", None) or "ascii"

    def isatty(self) -> bool:
        """Whether somebody watches."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Number of the stream's file."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write, or lose, the text."""
        if self._stream is not None:
            with _tolerant(self._stream):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is waiting, or lose it."""
        if self._stream is not None:
            with _tolerant(self._stream):
                self._stream.flush()


@contextlib.contextmanager
def _tolerant(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError):  # it cannot be written, or has been closed
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Let go to nowhere what is still to be written: at its end, the interpreter would fail at it once more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
