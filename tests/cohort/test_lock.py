"""A subject is one run's at a time; what a dead run holds is free."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slicesplat.cohort.lock import STALE_AFTER, Locked, locked
from slicesplat.io.atomic import owner


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    return ended.pid


def test_a_lock_is_held_by_one_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "a.lock"
    with locked(path):
        with pytest.raises(Locked), locked(path):
            pass
        assert path.exists()
    assert list(path.parent.iterdir()) == []


def test_a_lock_of_a_living_process_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_text(f"{owner().split('-')[0]}-{os.getppid()}-1")
    with pytest.raises(Locked), locked(path):
        pass
    assert path.exists()


@pytest.mark.parametrize("left_by", ["a dead process", "another process of the same number"])
def test_a_lock_of_a_dead_process_does_not_hold(tmp_path: Path, left_by: str) -> None:
    path = tmp_path / "a.lock"
    number = dead_process() if left_by == "a dead process" else os.getpid()
    path.write_text(f"{owner().split('-')[0]}-{number}-1")
    with locked(path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["0123abcd-7-7", "", "nonsense"])
def test_a_lock_of_another_machine_holds_until_it_gives_no_sign_of_life(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.lock"
    path.write_text(text)
    with pytest.raises(Locked), locked(path):
        pass
    before = time.time() - STALE_AFTER - 1
    os.utime(path, (before, before))
    with locked(path):
        pass
