"""Signals that ask the program to end: Ctrl-C, a scheduler's or a container's stop, a closed terminal.

It ends with one line, a status that names the signal, and no temporary file; at once, if it has nothing to put in order
yet. This module imports next to nothing, as Python's own handlers are at work until it is there.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

# Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_STDERR = 2
GRACE = 1.0
"""s to leave things as they should be; half of what people and schedulers are promised."""


class Ended(KeyboardInterrupt):
    """A signal asks the program to end.

    Attributes
    ----------
    number : int
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Unwinding:
    """While it is entered, a signal is raised as `Ended`, for whoever has something to put in order.

    Changes nothing where `catch` has not been called.
    """

    def __enter__(self) -> None:
        _replace(end, _unwind)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _replace(_unwind, end)


def catch() -> None:
    """From now on, a signal ends the program, and as it should; what the parent process has had ignored stays so."""
    for number in SIGNALS:
        # Nobody asked with nohup, or for a background job of a shell's script, that it end.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def end(number: int, frame: FrameType | None = None) -> None:
    """Say in one line which signal it was, and exit with 128 more than its number, at once."""
    name = signal.Signals(number).name
    try:
        os.write(_STDERR, f"slicesplat: interrupted ({name})\n".encode())
    finally:
        # The terminal may be what has gone.
        os._exit(128 + number)


def _unwind(number: int, frame: FrameType | None) -> None:
    # A second one must not interrupt what the first one set off.
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    import threading

    # What is raised may be lost in a destructor or a library's handler, or come up only after a long computation.
    last_resort = threading.Timer(GRACE, _give_up, [number])
    last_resort.daemon = True
    last_resort.start()
    raise Ended(number)


def _give_up(number: int) -> None:
    from slicesplat.io.atomic import discard_all

    discard_all()
    end(number)


def _replace(old: object, new: object) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is old:
            signal.signal(number, new)  # type: ignore[arg-type]
