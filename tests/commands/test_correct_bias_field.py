"""Corrected stacks go to a folder, or to the files that are named for them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import SHAPE, refused, write

from slicesplat.cli import main


@pytest.fixture
def stacks(tmp_path: Path) -> list[str]:
    random = np.random.default_rng(0)
    return [write(tmp_path / f"{name}.nii.gz", random.uniform(1, 2, SHAPE).astype(np.float32)) for name in "ab"]


def test_each_stack_goes_to_the_file_that_is_named_for_it(
    tmp_path: Path, stacks: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "out" / f"corrected-{number}.nii.gz" for number in (1, 2)]
    args = ["correct-bias-field", "--input-stacks", *stacks, "--quiet"]
    assert main([*args, "--output-corrected-stacks", *map(str, files)]) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [path.name for path in files]
    for given, written in zip(stacks, files, strict=True):
        ratio = nib.load(written).get_fdata() / nib.load(given).get_fdata()
        assert np.abs(np.log(ratio)).max() < 0.5
    # A file cannot tell a thickness that is not the distance between slices.
    assert main([*args, "--thicknesses", "2.5", "--output-corrected-stacks", *map(str, files)]) == 0
    assert "corrected-2.nii.gz: does not tell that its slices are 2.5 mm thick" in capsys.readouterr().err


def test_one_stack_goes_to_one_file_or_to_a_folder(tmp_path: Path, stacks: list[str]) -> None:
    args = ["correct-bias-field", "--input-stacks", stacks[0], "--quiet", "--output-corrected-stacks"]
    assert main([*args, str(tmp_path / "x" / "one.nii")]) == 0
    assert main([*args, str(tmp_path / "folder")]) == 0
    assert (tmp_path / "x" / "one.nii").is_file()
    assert {"a.nii.gz", "a.json"} <= {path.name for path in (tmp_path / "folder").iterdir()}


def test_wrong_number_of_files_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["correct-bias-field", "--input-stacks", "never.nii.gz", "read.nii.gz", "--output-corrected-stacks"]
    refused(capsys, [*args, str(tmp_path / "one.nii.gz")], "one.nii.gz", "wrong number of outputs, 1 for 2 stacks")
    refused(capsys, args, "--output-corrected-stacks", "no value")


def test_each_volume_of_a_4d_file_has_a_name_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volumes = np.random.default_rng(0).uniform(1, 2, (*SHAPE, 2)).astype(np.float32)
    args = ["correct-bias-field", "--input-stacks", write(tmp_path / "d.nii.gz", volumes), "--quiet"]
    out = tmp_path / "out"
    refused(capsys, [*args, "--output-corrected-stacks", str(out)], "d.nii.gz", "--split-4d")
    assert main([*args, "--split-4d", "--output-corrected-stacks", str(out)]) == 0
    assert {path.name for path in out.glob("d*")} == {"d.nii.gz", "d.json", "d-2.nii.gz", "d-2.json"}
    refused(capsys, [*args, "--split-4d", "--output-corrected-stacks", f"{out}/x.nii"], "x.nii", "1 for 2 stacks")
