"""A folder of DICOM takes the place of stacks, and none of its files that of an output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import one_voxel_result, refused
from dicom_files import Series, numbers, write_classic

from slicesplat.cli import main

SERIES = Series(numbers(), order=[0, 2, 4, 6, 8, 1, 3, 5, 7])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    for number in (3, 4):
        write_classic(tmp_path / "scan", replace(SERIES, number=number))
    return tmp_path / "scan"


def test_every_series_of_a_folder_is_reconstructed(
    tmp_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def fake(stacks: Any, *_: object, **__: object) -> SimpleNamespace:
        seen.extend(stacks)
        return one_voxel_result()

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", fake)
    args = ["reconstruct", "--no-segmentation", "--input-stacks", str(scan)]
    assert main([*args, "--output-volume", str(tmp_path / "out.nii.gz")]) == 0
    assert [(stack.name, stack.thickness) for stack in seen] == [("series-3.nii", 2.5), ("series-4.nii", 2.5)]
    assert "series-3.nii: acquired in 2 packages, as its slices' times say" in capsys.readouterr().err


def test_no_output_takes_the_place_of_a_dicom_file(
    tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in scan.iterdir()}
    given = ["reconstruct", "--input-stacks", str(scan), "--output-volume"]
    link = tmp_path / "link.nii.gz"
    link.symlink_to(next(iter(before)))
    refused(capsys, [*given, str(link)], "is an input too")
    refused(capsys, [*given, str(tmp_path / "v.nii.gz"), "--output-slices", str(scan)], "holds inputs")
    assert {path: path.read_bytes() for path in scan.iterdir()} == before


def test_what_is_written_on_the_grid_of_a_file_needs_one(
    tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["correct-bias-field", "--input-stacks", str(scan), "--output-corrected-stacks", str(tmp_path / "out")]
    refused(capsys, given, "scan: is DICOM, which has no grid to write on")


def test_masks_have_to_be_nifti(tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["reconstruct", "--input-stacks", str(scan), "--output-volume", str(tmp_path / "v.nii.gz")]
    refused(capsys, [*given, "--stack-masks", str(scan)], "scan: is a folder", "dcm2niix")
