"""Machines that fail, and people who are in a hurry: what is begun is ended once, and nothing is left half done."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cohorts import kill_a_worker, scheduler_address, states, table, until, with_stand_ins

from slicesplat.cohort.task import JOURNAL
from slicesplat.io.atomic import PREFIX

pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a signal")

PROMISED = 2.0  # s
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def study(folder: Path, names: list[str]) -> Path:
    """A table of subjects whose files are all the same ones."""
    table(folder, ["a"])
    head, row = (folder / "study.csv").read_text().splitlines()
    path = folder / "study.csv"
    path.write_text("\n".join([head, *(name + row[1:] for name in names)]) + "\n")
    return path


def batch(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "slicesplat", "batch", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def counted(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


@contextmanager
def dask_cluster(place: Path, environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler, and a worker of two subjects at a time: address, and the scheduler's process."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin(part: str, *flags: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{part}", "--no-dashboard", *flags]
        begun.append(subprocess.Popen(command, env=environment, **QUIET))

    begin("scheduler", "--scheduler-file", str(place), "--host", "127.0.0.1", "--port", "0")
    try:
        address = scheduler_address(place)
        own = ["--local-directory", str(place.parent)]
        begin("worker", address, "--nthreads", "2", "--no-nanny", "--death-timeout", "60", *own)
        yield address, begun[0]
    finally:
        for process in reversed(begun):
            process.kill()
            process.wait()


def test_a_worker_that_is_killed_costs_nothing_but_time_and_what_is_done_is_done_once(tmp_path: Path) -> None:
    names, out, killed = [f"s{number}" for number in range(8)], tmp_path / "out", []
    rows = study(tmp_path, names)
    rows.write_text(re.sub("^s3,.*$", "s3,none/*.nii.gz,", rows.read_text(), flags=re.MULTILINE))
    given, stand_ins = (str(rows), str(out), "--workers", "2"), with_stand_ins(tmp_path / "stand-ins", seconds=0.5)
    good = Counter(name for name in names if name != "s3")

    with batch(*given, environment=stand_ins) as run:
        kill_a_worker(out / JOURNAL, killed)
        told = run.communicate(timeout=120)[1]
    assert len(killed) == 1 and run.returncode == 1
    assert "error: s3: " in told and "none/*.nii.gz: no file matches" in told
    assert states(out) == {name: "failed" if name == "s3" else "done" for name in names}
    assert counted(out / "ended") == good
    assert sum((counted(out / "begun") - good).values()) <= 1  # the one that it was at

    begun = counted(out / "begun")
    assert batch(*given, environment=stand_ins).wait(120) == 1
    assert counted(out / "begun") == begun

    assert batch(*given, "--seed", "3", environment=stand_ins).wait(120) == 1
    assert counted(out / "begun") - begun == good


def test_two_runs_on_one_output_share_the_subjects(tmp_path: Path) -> None:
    names, out = [f"s{number}" for number in range(6)], tmp_path / "out"
    given = (str(study(tmp_path, names)), str(out), "--workers", "1")
    stand_ins = with_stand_ins(tmp_path / "stand-ins", seconds=1.0)
    runs = [batch(*given, environment=stand_ins) for _ in range(2)]
    told = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert counted(out / "begun") == counted(out / "ended") == Counter(names)
    assert not list((out / JOURNAL).glob("*.lock"))
    # Each has its own, and what the other had is told or found done.
    written = [int(text.split(" written, ")[0].split()[-1]) for text in told]
    assert sum(written) == len(names) and min(written) > 0, told


def test_after_a_scheduler_was_killed_another_one_does_the_rest(tmp_path: Path) -> None:
    names, out = [f"s{number}" for number in range(6)], tmp_path / "out"
    given = (str(study(tmp_path, names)), str(out), "--scheduler")
    stand_ins = with_stand_ins(tmp_path / "stand-ins", seconds=0.5)
    with dask_cluster(tmp_path / "one.json", stand_ins) as (address, scheduler):
        first = batch(*given, address, environment=stand_ins)
        assert until(lambda: any((out / JOURNAL).glob("*.json")))
        scheduler.kill()
        told = first.communicate(timeout=60)[1]
    assert first.returncode == 1 and "the Dask scheduler is gone; what is done stays done" in told
    recorded = {path.stem for path in (out / JOURNAL).glob("*.json")}
    assert recorded and recorded < set(names)
    assert {name for name, state in states(out).items() if state == "done"} <= recorded
    before = counted(out / "begun")
    with dask_cluster(tmp_path / "two.json", stand_ins) as (address, _):
        second = batch(*given, address, environment=stand_ins)
        told = second.communicate(timeout=60)[1]
    assert second.returncode == 0, told
    assert set(counted(out / "begun") - before) == set(names) - recorded
    assert set(states(out).values()) == {"done"}
    assert not list((out / JOURNAL).glob("*.lock"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_batch_and_all_that_it_has_started(tmp_path: Path, name: str, status: int) -> None:
    out = tmp_path / "out"
    with batch(str(study(tmp_path, ["s0"])), str(out), "--workers", "1") as run:
        assert until(lambda: [each for each in in_session(run.pid) if b"slicesplat.cohort.child" in each])
        time.sleep(1.0)
        number, start = getattr(signal, name), time.monotonic()
        # A terminal's Ctrl-C goes to all, a batch system's or `kill` to the one that it knows.
        (os.killpg if name == "SIGINT" else os.kill)(run.pid, number)
        told = run.communicate(timeout=60)[1]
        assert until(lambda: not in_session(run.pid), 30)
        took = time.monotonic() - start
    assert run.returncode == status and told.splitlines()[-1] == f"slicesplat: interrupted ({name})"
    assert took < PROMISED
    assert not [path for path in out.rglob(f"{PREFIX}*") if path.name != JOURNAL]
    assert not list(out.glob("s0/*"))


def in_session(leader: int) -> list[bytes]:
    """The command lines of the living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            if int(session) == leader and state != "Z":
                found.append((folder / "cmdline").read_bytes())
        except (OSError, ValueError):
            continue
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk on which a volume has room, and a report beside it has not."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_told_for_every_subject_and_leaves_no_half_file(small_disk: Path, tmp_path: Path) -> None:
    names, out = ["s0", "s1"], small_disk / "out"
    given = str(study(tmp_path, names))
    flags = ["--workers", "1", "--output-resolution", "2.0", "--registration", "none"]
    with batch(given, str(out), *flags) as run:
        assert until(lambda: (out / "s0" / "volume.nii.gz").exists())
        filler = small_disk / "filler"
        with suppress(OSError):
            filler.write_bytes(bytes(60_000))
        told = run.communicate(timeout=120)[1]
    assert run.returncode == 1
    errors = {name: [line for line in told.splitlines() if line.startswith(f"error: {name}: ")] for name in names}
    assert all(len(lines) == 1 and "No space left on device" in lines[0] for lines in errors.values()), told
    assert "s0/report.html (No space left on device): could not be written; free space" in errors["s0"][0]
    assert "cohort.tsv and cohort.html (No space left on device): could not be written; free space" in told
    assert not [path for path in out.rglob(f"{PREFIX}*") if path.name != JOURNAL]
    assert gzip.decompress((out / "s0" / "volume.nii.gz").read_bytes())
    assert not (out / "s0" / "report.html").exists() and not list(out.glob("s1/*"))
