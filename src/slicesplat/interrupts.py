"""Signals that ask the program to end: Ctrl-C, a scheduler's or a container's stop, a closed terminal.

It ends at once, with one line, a status that names the signal, and without temporary files. Nothing is raised: an
exception that comes from nowhere gets lost in destructors and in what native code calls. What must not be cut off is
`Uninterrupted`; all else is safe against being killed anyway.

This module imports next to nothing, as Python's own handlers are at work until it is there.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

# Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
GRACE = 1.0
"""s that native code may keep Python from handling a signal: half of what users and schedulers are promised."""
_STDERR = 2
# Clears the line of a progress bar and shows the cursor that it hides.
_END_OF_BAR = b"\r\x1b[2K\x1b[?25h"
_first = [True]
"""Emptied by the signal that ends the program: a second one, or the thread that watches, does not say it again."""


def catch() -> None:
    """From now on, a signal ends the program as it should; one that the parent process has had ignored stays so.

    That is what nohup asks for, and a shell for the background jobs of a script.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def watch() -> None:
    """Have a thread end the program when the main one does not get to it, busy in native code."""
    if os.name == "nt":
        return
    import threading

    source, sink = os.pipe()
    os.set_blocking(sink, False)
    signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(source,), name="signals", daemon=True).start()


def release() -> None:
    """The run is over and its status known: nothing that comes now shall change it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Uninterrupted:
    """While it is entered, signals wait; for the moments in which a run cannot be ended without harm."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._waiting: list[int] = []

    def __enter__(self) -> None:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                try:
                    signal.signal(number, lambda number, _: self._waiting.append(number))
                except ValueError:
                    # Only the main thread can, and only there is a signal handled.
                    return
                self._before[number] = handler

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for number in self._waiting:
            signal.raise_signal(number)


def _end(number: int, frame: FrameType | None = None) -> None:
    try:
        _first.pop()
    except IndexError:
        return
    atomic = sys.modules.get("slicesplat.io.atomic")
    try:
        if atomic:
            atomic.discard_all()
        start = _END_OF_BAR if os.isatty(_STDERR) else b""
        os.write(_STDERR, start + f"slicesplat: interrupted ({signal.Signals(number).name})\n".encode())
    finally:
        # Also where the terminal is what has gone.
        os._exit(128 + number)


def _watch(source: int) -> None:
    import time

    while True:
        number = os.read(source, 1)[0]
        if number in SIGNALS:
            time.sleep(GRACE)
            _end(number)
