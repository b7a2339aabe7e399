"""A file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from slicesplat.io.atomic import atomic_path


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
