"""Outputs are checked before the work, and JSON comes back as it was written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from nifti_files import blob, refused, write

from slicesplat.io.files import check_output, check_output_folder, load_json, save_json


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return write(tmp_path / "stack.nii.gz", blob())


def test_output_that_can_be_written_is_accepted(tmp_path: Path) -> None:
    check_output(tmp_path / "v.nii.gz", suffixes=(".nii", ".nii.gz"))
    check_output_folder(tmp_path)
    check_output_folder(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_missing_folders_of_an_output_are_accepted_and_not_there_before_it_is_written(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "deep" / "v.nii.gz")
    check_output_folder(tmp_path / "new" / "deep" / "slices")
    assert not list(tmp_path.iterdir())


def test_missing_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    refused(lambda: check_output(tmp_path / "new" / ("y" * 300) / "v.nii.gz"), "v.nii.gz", "cannot be made")
    refused(lambda: check_output_folder(tmp_path / "new" / ("y" * 300) / "slices"), "slices", "cannot be made")
    (tmp_path / "link").symlink_to(tmp_path / "none")
    refused(lambda: check_output(tmp_path / "link" / "new" / "v.nii.gz"), "v.nii.gz", "link is not a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_output_in_a_file_is_refused(stack: Path) -> None:
    refused(lambda: check_output(stack / "v.nii.gz"), "v.nii.gz", "is not a folder")
    refused(lambda: check_output_folder(stack), "stack.nii.gz", "is a file")


def test_output_that_is_a_folder_or_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    refused(lambda: check_output(tmp_path), str(tmp_path), "is a folder")
    refused(lambda: check_output(tmp_path / "v.mgz", suffixes=(".nii",)), "v.mgz", "unknown kind")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody can write in")
def test_output_in_a_read_only_file_system_is_refused() -> None:
    refused(lambda: check_output("/proc/v.nii.gz"), "/proc/v.nii.gz", "read-only")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="an administrator can write anywhere")
def test_output_in_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    refused(lambda: check_output(tmp_path / "v.nii.gz"), "v.nii.gz", "read-only")


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    data = {
        "a": np.float32(0.5),
        "b": np.eye(2),
        "c": [float("nan"), None],
        "d": (Path("x"), True, np.int64(3)),
    }
    save_json(data, tmp_path / "r.json")
    assert load_json(tmp_path / "r.json") == {
        "a": 0.5,
        "b": [[1, 0], [0, 1]],
        "c": [None, None],
        "d": ["x", True, 3],
    }


def test_useless_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{")
    refused(lambda: load_json(tmp_path / "r.json"), "r.json", "not readable JSON")
    (tmp_path / "r.json").write_text("[]")
    refused(lambda: load_json(tmp_path / "r.json"), "r.json", "no JSON object")
    refused(lambda: load_json(tmp_path / "none.json"), "none.json", "no such file")
