"""How far a computation has come, and what its steps took: plain values, quick to import."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from slicesplat.machine import peak_memory_mb

log = logging.getLogger("slicesplat")


@dataclass(frozen=True)
class Progress:
    """How far a computation has come.

    Attributes
    ----------
    step : str
        What is being done.
    done, total : int
    loss : float or None
        Present value of what is being minimised.
    """

    step: str
    done: int
    total: int
    loss: float | None = None


Callback = Callable[[Progress], None]
ReportProgress = Callable[[int, int, float | None], None]
"""Told how much is done, of how much, and the present loss."""


@dataclass(frozen=True)
class StepRecord:
    """What a step took.

    Attributes
    ----------
    step : str
        What was done.
    seconds : float
    peak_memory_mb : int or None
        Largest memory of the process up to its end, MB of 2^20 bytes; None where the platform does not tell.
    """

    step: str
    seconds: float
    peak_memory_mb: int | None

    def json(self) -> dict[str, Any]:
        """The entry of a result's JSON file."""
        return asdict(self)


@dataclass
class StepClock:
    """Seconds and peak memory of each step, and the road for progress.

    Attributes
    ----------
    callback : callable, optional
        Told a `Progress` now and then.
    steps : list of StepRecord
        Those that are done.
    name : str
        Of the step that is at work.

    Examples
    --------
    >>> clock = StepClock(lambda now: print(now.step, now.done, "of", now.total))
    >>> with clock.step("fit") as report:
    ...     report(3, 4, None)
    fit 0 of 1
    fit 3 of 4
    >>> [record.step for record in clock.steps]
    ['fit']
    """

    callback: Callback | None = None
    steps: list[StepRecord] = field(default_factory=list)
    name: str = ""

    @contextmanager
    def step(self, name: str) -> Iterator[ReportProgress]:
        """Begin a step, which ends with the block; lends what reports how far it has come."""
        start = time.perf_counter()
        self.rename(name)
        yield self._report
        seconds = time.perf_counter() - start
        self.steps.append(StepRecord(self.name, round(seconds, 3), peak_memory_mb()))
        log.debug("%s took %.1f s", self.name, seconds)

    def rename(self, name: str) -> None:
        """Name the step that has begun, or give it another name once it turns out what it does."""
        self.name = name
        self._report(0, 1)

    def _report(self, done: int, total: int, loss: float | None = None) -> None:
        if self.callback:
            self.callback(Progress(self.name, done, total, loss))
