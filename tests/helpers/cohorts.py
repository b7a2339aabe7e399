"""Small subjects for cohorts, and tasks that are done in no time."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from reconstructions import small

import slicesplat
from slicesplat.cli import main
from slicesplat.cohort.engine import Count
from slicesplat.cohort.task import Made, Outcome, Task
from slicesplat.io.nifti import save_mask, save_stack


def subject(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Writes three stacks and their masks; their names."""
    stacks, masks = ([f"{name}-{kind}-{n}.nii.gz" for n in range(3)] for kind in ("stack", "mask"))
    for stack, image, mask in zip(small().stacks, stacks, masks, strict=True):
        save_stack(stack, folder / image)
        save_mask(stack, folder / mask)
    return stacks, masks


def table(folder: Path, names: list[str], **columns: str) -> Path:
    """A table of subjects, the same values of further columns for all."""
    lines = [",".join(["id", "stacks", "masks", *columns])]
    for name in names:
        stacks, masks = subject(folder, name)
        lines.append(",".join([name, ";".join(stacks), ";".join(masks), *columns.values()]))
    path = folder / "study.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def batch_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``slicesplat batch`` do its subjects in this process, one after another, without a cluster."""

    def run_all(
        client: object, tasks: Sequence[Task], threads: int, told: Callable[[Count, Outcome], None], gpus: int = 0
    ) -> list[Outcome]:
        for each in tasks:
            assert main([*each.arguments, "--threads", str(threads), "--quiet"]) == 0
            told(Count(len(tasks)), Outcome(each.name, "written"))
        return []

    monkeypatch.setattr("slicesplat.commands.batch.run_all", run_all)
    monkeypatch.setattr("slicesplat.commands.batch.client_of", lambda *_: nullcontext())


_STAND_IN = """
import time
from pathlib import Path

import slicesplat.cohort.task as task


def started(arguments, environment):
    folder = Path(arguments[arguments.index("--output-volume") + 1]).parent
    with (folder.parent / "begun").open("a") as file:
        print(folder.name, file=file)
    time.sleep({seconds})
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("volume.nii.gz", "result.json", "report.html"):
        (folder / name).write_text(folder.name)
    with (folder.parent / "ended").open("a") as file:
        print(folder.name, file=file)
    return ""


task._started = started
"""


def with_stand_ins(folder: Path, seconds: float) -> dict[str, str]:
    """The environment of processes in which a subject is not reconstructed: after a while, files take its place.

    In the folder of outputs "begun" and "ended" name the subjects, each time that it was.
    """
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_STAND_IN.format(seconds=seconds))
    source = str(Path(slicesplat.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), source])}


def until(happened: Callable[[], object], seconds: float = 90.0) -> bool:
    """Wait for something; whether it has happened in time."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def states(out: Path) -> dict[str, str]:
    """What has become of each subject, by the overview."""
    with (out / "cohort.tsv").open(newline="") as file:
        return {line["participant_id"]: line["state"] for line in csv.DictReader(file, delimiter="\t")}


def scheduler_address(place: Path) -> str:
    """The address in a Dask scheduler's file, as soon as all of it is written."""
    deadline = time.monotonic() + 90
    while True:
        try:
            return str(json.loads(place.read_text())["address"])
        except (OSError, ValueError):
            assert time.monotonic() < deadline, "the scheduler has not begun"
            time.sleep(0.05)


def kill_a_worker(journal: Path, killed: list[int]) -> None:
    """As soon as one has begun: the process that has a subject locked."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for lock in journal.glob("*.lock"):
            match = re.fullmatch(r"[0-9a-f]{8}-(\d+)-\d+", lock.read_text())
            if match:
                os.kill(int(match[1]), signal.SIGKILL)
                killed.append(int(match[1]))
                return
        time.sleep(0.02)


def task(root: Path, name: str, *arguments: str, inputs: tuple[Path, ...] = (), options: str = "") -> Task:
    """A task that makes what it is told to."""
    made = Made(f"{name}/volume.nii.gz", f"{name}/result.json", f"{name}/report.html", (f"{name}/*",))
    return Task(name, arguments, inputs, options, root, made)
