"""A subject is worked on by one run at a time; what a run that was killed has locked is free again.

A lock is a file that names machine and process. Of a process on this machine it can be told whether it still runs; one
on another machine touches its lock now and then.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slicesplat.io.atomic import is_process, owner, same_host

TOUCHED_EVERY = 30.0
"""s between two signs of life."""
STALE_AFTER = 10 * TOUCHED_EVERY
"""s without one after which a lock of another machine does not count: clocks differ, and file systems are slow."""


_mine: set[Path] = set()
"""Locks of this process: one that has its number and is not among them was left by another, as often in containers."""


class Locked(Exception):
    """Another run that is alive has the lock."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have the lock for the time of the block.

    Raises
    ------
    Locked
        Another run has it.
    OSError
        The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _take(path)
    _mine.add(path)
    released = threading.Event()
    threading.Thread(target=_touch, args=(path, released), name="lock", daemon=True).start()
    try:
        yield
    finally:
        released.set()
        _mine.discard(path)
        with suppress(OSError):
            path.unlink()


def _take(path: Path) -> None:
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if _is_held(path):
                raise Locked(str(path)) from None
            # The one who wins the race to rename it away removes it; others find a new lock or none.
            _remove_stale(path)
            continue
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{owner()}-{threading.get_native_id()}")
        return
    raise Locked(str(path))


def _remove_stale(path: Path) -> None:
    aside = path.with_name(f"{path.name}-{owner()}-{threading.get_native_id()}")
    with suppress(OSError):
        path.rename(aside)
        aside.unlink()


def _is_held(path: Path) -> bool:
    try:
        host, process, *_ = path.read_text(encoding="ascii").split("-")
        if same_host(host):
            return path in _mine if int(process) == os.getpid() else is_process(int(process))
        return time.time() - path.stat().st_mtime < STALE_AFTER
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        # It is being written at this moment, or was when its run was killed.
        with suppress(OSError):
            return time.time() - path.stat().st_mtime < STALE_AFTER
        return False


def _touch(path: Path, released: threading.Event) -> None:
    while not released.wait(TOUCHED_EVERY):
        with suppress(OSError):
            os.utime(path)
