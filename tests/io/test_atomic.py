"""A file is written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from slicesplat.io.atomic import ABANDONED_AFTER, atomic_path, discard, owner, temporary_path


def test_a_finished_file_takes_the_old_ones_place(tmp_path: Path) -> None:
    target = tmp_path / "volume.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "volume.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_name_lies_beside_the_file_and_ends_like_it(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "volume.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("volume.nii.gz")
        assert temporary.name != "volume.nii.gz"
        temporary.touch()


def test_compressed_images_have_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4))
    for name in ("a.nii.gz", "b.nii.gz"):
        with atomic_path(tmp_path / name) as temporary:
            nib.save(image, temporary)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "volume.txt"):
        pass
    assert not list(tmp_path.iterdir())


# --- what killed runs left


def left_by(path: Path, process: int, host: str | None = None, age: float = 0.0) -> Path:
    """A temporary file for `path` as a process of this host or another has left it."""
    temporary = temporary_path(path, path.parent)
    discard(temporary)
    mine, _ = owner().split("-")
    left = temporary.with_name(temporary.name.replace(owner(), f"{host or mine}-{process}"))
    left.write_text("half")
    os.utime(left, (time.time() - age,) * 2)
    return left


@pytest.fixture
def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_next_run_removes_what_a_killed_one_left_of_the_same_file(tmp_path: Path, ended_process: int) -> None:
    other = left_by(tmp_path / "other.txt", ended_process)
    left_by(tmp_path / "volume.txt", ended_process)
    # A container's processes have the same few numbers every time.
    left_by(tmp_path / "volume.txt", os.getpid())
    with atomic_path(tmp_path / "volume.txt") as temporary:
        temporary.write_text("new")
    assert set(tmp_path.iterdir()) == {tmp_path / "volume.txt", other}


def test_next_run_leaves_what_may_still_be_written(tmp_path: Path) -> None:
    alive = left_by(tmp_path / "volume.txt", os.getppid())
    elsewhere = left_by(tmp_path / "volume.txt", 1, host="0123abcd")
    left_by(tmp_path / "volume.txt", 1, host="0123abcd", age=ABANDONED_AFTER + 60)
    with atomic_path(tmp_path / "volume.txt") as temporary:
        with atomic_path(tmp_path / "volume.txt") as second:
            second.write_text("second")
        temporary.write_text("first")
    assert set(tmp_path.iterdir()) == {tmp_path / "volume.txt", alive, elsewhere}
    assert (tmp_path / "volume.txt").read_text() == "first"


def test_longest_name_that_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("y" * (255 - len(".nii.gz")) + ".nii.gz")
    with atomic_path(target) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new")
    assert target.read_text() == "new"


# --- permissions and links


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_new_file_has_the_mode_of_any_and_a_replaced_one_keeps_its_own(tmp_path: Path) -> None:
    def write(path: Path) -> int:
        with atomic_path(path) as temporary:
            # As a writer does that makes a file of its own.
            temporary.unlink()
            temporary.touch(mode=0o600)
        return path.stat().st_mode & 0o777

    before = os.umask(0o027)
    try:
        assert write(tmp_path / "new.txt") == 0o640
        (tmp_path / "private.txt").touch(mode=0o600)
        assert write(tmp_path / "private.txt") == 0o600
        (tmp_path / "shared.txt").touch()
        (tmp_path / "shared.txt").chmod(0o664)
        assert write(tmp_path / "shared.txt") == 0o664
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_nobody_else_can_read_a_private_file_while_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "private.txt").touch(mode=0o600)
    with atomic_path(tmp_path / "private.txt") as temporary:
        temporary.write_text("new")
        assert temporary.stat().st_mode & 0o077 == 0


def test_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "volume.txt", tmp_path / "volume.txt"
    target.write_text("old")
    link.symlink_to(target)
    with atomic_path(link) as temporary:
        assert temporary.parent == target.parent
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_link_in_a_circle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "volume.txt").symlink_to(tmp_path / "volume.txt")
    with pytest.raises(OSError), atomic_path(tmp_path / "volume.txt"):
        pass
