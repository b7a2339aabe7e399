"""A thickness that these slices cannot have is refused, wherever it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nifti_files import blob, plain_affine, refused, write

from slicesplat.prepare.load import load_stacks


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return write(tmp_path / "s.nii.gz", blob())


@pytest.mark.parametrize(
    ("thickness", "told"),
    [
        (0.003, "0.003 mm with slices every 3 mm and pixels of 1 mm; is it in metres?"),
        (3000.0, "is it in micrometres?"),
        (33.0, "33 mm with slices every 3 mm"),
        (15.1, "; give it in mm"),
        (0.33, "; give it in mm"),
        (0.05, "; give it in mm"),
        (1e30, "; give it in mm"),
        (float("inf"), "is not positive and finite"),
    ],
)
def test_an_implausible_thickness_is_refused_with_its_likely_unit(stack: Path, thickness: float, told: str) -> None:
    refused(lambda: load_stacks([stack], thicknesses=thickness), "s.nii.gz", told)
    stack.with_name("s.json").write_text(json.dumps({"SliceThickness": thickness}))
    refused(lambda: load_stacks([stack]), "s.json", told)


@pytest.mark.parametrize("thickness", [1.0, 2.5, 3.0, 6.0, 15.0])
def test_gaps_and_overlaps_that_are_acquired_are_accepted(stack: Path, thickness: float) -> None:
    assert load_stacks([stack], thicknesses=thickness)[0].thickness == thickness


def test_no_thickness_exceeds_that_of_a_localiser(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii", np.ones((9, 9, 9), np.float32), plain_affine((10.0, 10.0, 20.0)))
    assert load_stacks([path], thicknesses=50.0)[0].thickness == 50.0
    refused(lambda: load_stacks([path], thicknesses=51.0), "s.nii", "51 mm")


def test_a_distance_that_is_no_thickness_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii", np.ones((9, 9, 9), np.float32), plain_affine((1.0, 1.0, 0.3)))
    refused(lambda: load_stacks([path]), "s.nii", "slice thickness 0.3 mm with slices every 0.3 mm and pixels of 1 mm")


def test_thicknesses_that_are_known_of_some_stacks_only_are_found_for_the_others(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.nii.gz", blob()) for name in "abc"]
    (tmp_path / "c.json").write_text(json.dumps({"SliceThickness": 2.0}))
    found = load_stacks(paths, thicknesses=[2.5, None, None])
    assert [stack.thickness for stack in found] == [2.5, 3.0, 2.0]
    assert [stack.thickness for stack in load_stacks(paths, thicknesses=np.array([2.5, 3.0, 3.5]))] == [2.5, 3.0, 3.5]
