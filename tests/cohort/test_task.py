"""A subject: done once, done again when anything has changed, and told when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cohorts import task

from slicesplat.cohort import task as module
from slicesplat.cohort.lock import locked
from slicesplat.cohort.task import JOURNAL, Record, Task, run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Instead of a process, a file is written; the arguments of each call. A volume called "bad" fails."""
    calls: list[list[str]] = []

    def fake(arguments: Sequence[str], environment: Any) -> str:
        calls.append(list(arguments))
        if arguments[0] == "bad":
            return "bad.nii.gz: is no image; give one"
        Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments[0]).write_text("a volume")
        return ""

    monkeypatch.setattr(module, "_started", fake)
    return calls


@pytest.fixture
def subject(tmp_path: Path) -> Task:
    given = tmp_path / "given.nii.gz"
    given.write_text("a stack")
    return task(tmp_path / "out", "a", str(tmp_path / "out" / "a" / "volume.nii.gz"), inputs=(given,), options="usual")


def test_what_is_done_is_not_done_again(subject: Task, started: list[list[str]]) -> None:
    assert run(subject, 1).state == "written"
    assert run(subject, 3).state == "there"
    assert started == [[subject.arguments[0], "--threads", "1"]]


def test_what_has_changed_is_done_again(subject: Task, started: list[list[str]], monkeypatch: Any) -> None:
    assert run(subject, 1).state == "written"
    subject.inputs[0].write_text("another stack")
    assert run(subject, 1).state == "written"
    assert run(replace(subject, options="others"), 1).state == "written"
    (subject.root / "a" / "volume.nii.gz").write_text("changed by hand")
    assert run(replace(subject, options="others"), 1).state == "written"
    monkeypatch.setattr(module, "__version__", "0.0")
    assert run(replace(subject, options="others"), 1).state == "written"
    assert len(started) == 5


def test_a_study_that_moved_is_still_done(subject: Task, started: list[list[str]], tmp_path: Path) -> None:
    assert run(subject, 1).state == "written"
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    subject.inputs[0].rename(moved / "given.nii.gz")
    assert run(replace(subject, inputs=(moved / "given.nii.gz",)), 1).state == "there"


def test_a_failure_is_an_outcome_with_its_reason_and_no_record(tmp_path: Path, started: list[list[str]]) -> None:
    outcome = run(task(tmp_path, "a", "bad"), 1)
    assert (outcome.state, outcome.error) == ("failed", "bad.nii.gz: is no image; give one")
    assert list((tmp_path / JOURNAL).iterdir()) == []
    missing = run(task(tmp_path, "b", "x", inputs=(tmp_path / "none.nii.gz",)), 1)
    assert missing.state == "failed" and "no such file" in missing.error


def test_what_another_run_is_at_is_left_to_it(subject: Task, started: list[list[str]]) -> None:
    with locked(subject.record.with_suffix(".lock")):
        assert run(subject, 1).state == "elsewhere"
    assert started == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"content": 1}', '{"content": "", "files": [], "seconds": 0, "figures": 3}']
)
def test_a_spoilt_record_counts_as_none(subject: Task, started: list[list[str]], text: str) -> None:
    subject.record.parent.mkdir(parents=True)
    subject.record.write_text(text)
    assert Record.load(subject.record) is None
    assert run(subject, 1).state == "written"


def test_the_program_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    outcome = run(task(tmp_path, "a", "reconstrct"), 1)
    assert outcome.state == "failed"
    assert outcome.error.startswith("reconstrct: no such command; ")


@pytest.mark.skipif(os.name == "nt", reason="ends a process by a signal")
def test_the_program_ends_with_the_process_that_started_it() -> None:
    waits = "import sys, time; sys.argv[1:] = []; import slicesplat.cli as c; c.main = lambda: time.sleep(60)\n"
    child = f"{waits}import runpy; runpy.run_module('slicesplat.cohort.child', run_name='__main__')"
    starts = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        number = int(parent.stdout.readline())
        time.sleep(0.5)
        os.kill(number, 0)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{number}/stat").read_text().split()[2] == "Z":
                return
            os.kill(number, 0)
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    os.kill(number, signal.SIGKILL)
    pytest.fail("it still runs")
