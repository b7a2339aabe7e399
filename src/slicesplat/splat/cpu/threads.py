"""Threads for the CPU's kernels: as many as numba is given."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue
from typing import Any, TypeAlias

import numba as nb
import torch

# A thread does half of its share of a kernel's work at once, then a quarter and two eighths (guided self-scheduling,
# Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987, 1425-1439): one that is held up leaves what it
# has not begun to the others, and few calls are needed. Into how many pieces the share is cut, and which of them it is.
_PIECES = ((2, 0), (4, 2), (8, 6), (8, 7))
_Job: TypeAlias = "tuple[Callable[[int], None], SimpleQueue[BaseException | None]]"


class _Team:
    """Threads that wait for work: with queues alone they are at it in half the time that an executor's futures take."""

    def __init__(self, helpers: int) -> None:
        self._jobs: list[SimpleQueue[_Job]] = [SimpleQueue() for _ in range(helpers)]
        for number, jobs in enumerate(self._jobs, start=1):
            threading.Thread(target=self._serve, args=(number, jobs), name="slicesplat", daemon=True).start()

    @classmethod
    def _serve(cls, number: int, jobs: SimpleQueue[_Job]) -> None:
        while True:
            cls._do(number, *jobs.get())

    @staticmethod
    def _do(number: int, work: Callable[[int], None], done: SimpleQueue[BaseException | None]) -> None:
        try:
            work(number)
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)

    def run(self, work: Callable[[int], None]) -> None:
        """Do the work in all threads: 0 is this one, helpers count from 1. What one of them raises is raised here."""
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for jobs in self._jobs:
            jobs.put((work, done))
        work(0)
        errors = [done.get() for _ in self._jobs]
        for error in errors:
            if error is not None:
                raise error


@cache
def _team(threads: int) -> _Team:
    return _Team(threads - 1)


if hasattr(os, "register_at_fork"):
    # A forked process has the teams, but not their threads.
    os.register_at_fork(after_in_child=_team.cache_clear)


def in_parts(kernel: Callable[..., None], *args: Any) -> None:
    """Run a kernel, which releases the interpreter's lock, in as many threads as numba is to use.

    The kernel's last two arguments are the number of the part to do, and how many parts there are.

    A thread begins with its own share, the same in every kernel: what it wrote in one is near it in the next. Then it
    takes what others have left.
    """
    threads = nb.get_num_threads()
    if threads == 1:
        kernel(*args, 0, 1)
        return
    todo = [iter([(cut * k + part, cut * threads) for cut, part in _PIECES]) for k in range(threads)]

    def work(own: int) -> None:
        for left in todo[own:] + todo[:own]:
            for part, parts in left:
                kernel(*args, part, parts)

    _team(threads).run(work)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Use so many threads in our kernels; all that there are for 0.

    PyTorch gets one: its share of the work is small, its sums depend on the number of threads, and a second pool of
    threads would spin for the cores that the first one works on.
    """
    before = nb.get_num_threads(), torch.get_num_threads()
    most = nb.config.NUMBA_NUM_THREADS
    nb.set_num_threads(min(threads, most) or most)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        nb.set_num_threads(before[0])
        torch.set_num_threads(before[1])
