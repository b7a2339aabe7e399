"""Warnings of a run, kept for who reads its result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Kept(logging.Handler):
    """Keeps the warnings of one thread: another one may be at other work."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.thread == self._thread and text not in self.texts:
            self.texts.append(text)


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """Lend a list that gets every warning of the block, once each.

    Examples
    --------
    >>> log = logging.getLogger("slicesplat")
    >>> with kept_warnings() as told:
    ...     log.warning("a.nii.gz: %s", "is the only stack")
    >>> told
    ['a.nii.gz: is the only stack']
    """
    log, handler = logging.getLogger("slicesplat"), _Kept()
    log.addHandler(handler)
    try:
        yield handler.texts
    finally:
        log.removeHandler(handler)
