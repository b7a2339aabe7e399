"""Runs the tasks of a cohort on a Dask cluster: what fails is told, the others go on, and nothing is done twice.

Dask hands out the tasks, notices workers that are gone, and gives their tasks to others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from slicesplat.cohort.clusters import TRIES, needed
from slicesplat.cohort.task import Outcome, Task, run
from slicesplat.errors import OutputError

_PAUSE = 2.0
"""s between two reports while nothing is finished."""


@dataclass(frozen=True)
class Count:
    """How far a cohort is.

    Attributes
    ----------
    total, done, failed, running : int
    left : float or None
        s until the end, if subjects go on taking as long; None before any is done.
    """

    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    left: float | None = None


Told = Callable[[Count, "Outcome | None"], None]
"""Called with every outcome, and with None now and then."""


def run_all(client: Any, tasks: Sequence[Task], threads: int, told: Told, gpus: int = 0) -> list[Outcome]:
    """Run tasks on a cluster.

    Parameters
    ----------
    client : distributed.Client
    tasks : sequence of Task
    threads : int
        Of each subject.
    told : callable
    gpus : int
        Of a machine; every worker's subjects see one of them.

    Returns
    -------
    list of Outcome
        In the order of the tasks.

    Raises
    ------
    OutputError
        The scheduler is gone.
    """
    started = time.monotonic()
    with _asked():
        futures = {
            client.submit(_run_on_worker, task, threads, gpus, key=_key(task), pure=False): task for task in tasks
        }
    outcomes: dict[str, Outcome] = {}

    def tell(outcome: Outcome | None = None) -> None:
        with _asked():
            count = _count(client, len(tasks), list(outcomes.values()), time.monotonic() - started)
        told(count, outcome)

    for outcome in _finished(client, futures, tell):
        outcomes[outcome.name] = outcome
        tell(outcome)
    return [outcomes[task.name] for task in tasks]


@contextmanager
def _asked() -> Iterator[None]:
    """The scheduler is asked for something in the block: it may be gone, or go at that moment, and not be reached."""
    try:
        yield
    except OutputError:
        raise
    except (CancelledError, OSError) as error:
        raise _gone() from error


def _key(task: Task) -> str:
    return f"{task.name}-{os.urandom(4).hex()}"


def _finished(client: Any, futures: dict[Any, Task], waiting: Callable[[], None]) -> Iterator[Outcome]:
    distributed = needed("distributed")
    pending = dict(futures)
    while pending:
        for future in [each for each in pending if each.done()]:
            with _asked():
                outcome = _outcome(future, pending.pop(future))
            yield outcome
        if not pending:
            return
        if client.status not in ("running", "connecting"):
            raise _gone()
        waiting()
        with _asked(), suppress(TimeoutError):
            distributed.wait(list(pending), timeout=_PAUSE, return_when="FIRST_COMPLETED")


def _outcome(future: Any, task: Task) -> Outcome:
    distributed = needed("distributed")
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    if future.status == "error":
        error = future.exception()
        if isinstance(error, distributed.scheduler.KilledWorker):
            return Outcome(task.name, "failed", f"its worker died {TRIES + 1} times; see that it has memory enough")
        return Outcome(task.name, "failed", f"{type(error).__name__}: {error}")
    raise _gone()


def _gone() -> OutputError:
    return OutputError("the Dask scheduler is gone; what is done stays done, start again to do the rest")


def _count(client: Any, total: int, outcomes: Sequence[Outcome], seconds: float) -> Count:
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    computed = failed + sum(outcome.state == "written" for outcome in outcomes)
    rest = total - len(outcomes)
    slots = sum(client.nthreads().values()) if client.status == "running" else 0
    left = seconds / computed * rest if computed else None
    return Count(total, len(outcomes) - failed, failed, min(slots, rest), left)


def _run_on_worker(task: Task, threads: int, gpus: int) -> Outcome:
    """Runs in a worker."""
    environment = _as_without_dask(os.environ)
    if gpus:
        name = str(needed("distributed").get_worker().name)
        # Those that the user leaves to this run, where it is said: others belong to somebody else.
        shown = [each for each in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
        devices = shown or [str(number) for number in range(gpus)]
        environment["CUDA_VISIBLE_DEVICES"] = devices[int(name) % len(devices) if name.isdecimal() else 0]
    return run(task, threads, environment)


def _as_without_dask(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that a subject gets: without what Dask sets for its workers, as thrift with memory.

    Examples
    --------
    >>> _as_without_dask({"MALLOC_TRIM_THRESHOLD_": "65536", "HOME": "here"})
    {'HOME': 'here'}
    """
    needed("distributed")  # whose settings are there once it is
    own = needed("dask").config.get("distributed.nanny.pre-spawn-environ", {})
    return {name: value for name, value in environment.items() if str(own.get(name)) != value}
