"""A Dask cluster that somebody else runs: it does what it is given, and when its scheduler dies that is told."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from cohorts import scheduler_address, task

from slicesplat.cohort import engine
from slicesplat.cohort.clusters import ClusterSettings, client_of, local_share
from slicesplat.cohort.engine import Count, run_all
from slicesplat.cohort.task import Outcome, Task
from slicesplat.errors import OutputError

pytest.importorskip("distributed")
HERE = local_share(ClusterSettings(), [], 1, None)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler and a worker, as processes: its address, and the scheduler's process."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    place = tmp_path / "scheduler.json"
    flags = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]
    module = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler: subprocess.Popen[Any] = subprocess.Popen([*module, *flags], **quiet)
    address = scheduler_address(place)
    worker_flags = [address, "--nthreads", "2", "--no-nanny", "--death-timeout", "60", "--no-dashboard"]
    worker: subprocess.Popen[Any] = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", *worker_flags], **quiet
    )
    yield address, scheduler
    for process in (worker, scheduler):
        process.kill()
        process.wait()


def test_outcomes_come_in_the_order_of_the_tasks(cluster: tuple[str, Any], tmp_path: Path) -> None:
    tasks = [replace(task(tmp_path, f"s{n}"), problem=f"problem {n}") for n in range(5)]
    counts: list[Count] = []

    def told(count: Count, outcome: Outcome | None) -> None:
        counts.append(count)

    with client_of(ClusterSettings(scheduler=cluster[0]), HERE, 0.0) as client:
        outcomes = run_all(client, tasks, 1, told)
    assert [(outcome.name, outcome.error) for outcome in outcomes] == [(f"s{n}", f"problem {n}") for n in range(5)]
    assert (counts[-1].total, counts[-1].done, counts[-1].failed, counts[-1].running) == (5, 0, 5, 0)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, ["0", "1", "0"]), ("2,5", ["2", "5", "2"]), ("GPU-a,GPU-b", ["GPU-a", "GPU-b", "GPU-a"])],
)
def test_every_worker_has_a_gpu_of_its_own(
    visible: str | None, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def run(task: Task, threads: int, environment: dict[str, str]) -> Outcome:
        seen.append(environment["CUDA_VISIBLE_DEVICES"])
        return Outcome(task.name, "written")

    monkeypatch.setattr(engine, "run", run)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name in range(3):
        monkeypatch.setattr("distributed.get_worker", lambda name=name: SimpleNamespace(name=name))
        engine._run_on_worker(task(tmp_path, "a"), 1, gpus=2)
    assert seen == expected


def test_a_scheduler_that_dies_is_told(cluster: tuple[str, subprocess.Popen[str]], tmp_path: Path) -> None:
    address, scheduler = cluster
    slow: Task = task(tmp_path, "slow", "demo", "--output", str(tmp_path / "slow"))

    def told(count: Count, outcome: Outcome | None) -> None:
        if outcome is None:
            threading.Thread(target=scheduler.kill).start()

    with (
        pytest.raises(OutputError, match="scheduler is gone; what is done stays done"),
        client_of(ClusterSettings(scheduler=address), HERE, 0.0) as client,
    ):
        run_all(client, [slow], 1, told)


@pytest.mark.parametrize("part", ["submit", "nthreads"])
def test_a_scheduler_that_cannot_be_reached_is_told_and_a_full_disk_is_not_taken_for_it(
    tmp_path: Path, part: str
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Timed out trying to connect to tcp://127.0.0.1:1 after 15 s")

    slow: Task = task(tmp_path, "slow", "demo")
    future = Mock(done=lambda: False, status="pending")
    working: dict[str, Any] = {"submit": lambda *_, **__: future, "nthreads": lambda: {"one": 1}, "status": "running"}
    with pytest.raises(OutputError, match="scheduler is gone; what is done stays done"):
        run_all(SimpleNamespace(**{**working, part: unreachable}), [slow], 1, lambda count, outcome: None)

    def full(count: Count, outcome: Outcome | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run_all(SimpleNamespace(**working), [slow], 1, full)
