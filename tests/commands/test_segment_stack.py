"""A mask of every stack: found, or from one that is drawn, one of the volume, or thresholds."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, write

from slicesplat.cli import main

SHAPE = (30, 28, 9)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """A folder of two stacks of a bright box in noise; slices of the second lie along the first axis of its file."""
    data = np.random.default_rng(0).rayleigh(5.0, SHAPE).astype(np.float32)
    data[8:20, 8:20, 2:7] += 300
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "stack-1.nii.gz", data)
    turned = np.diag([3.0, 1.0, 1.0, 1.0])
    write(folder / "stack-2.nii.gz", data.transpose(2, 0, 1), turned[:, [2, 0, 1, 3]] @ np.eye(4)[[2, 0, 1, 3]])
    return folder


def box() -> np.ndarray:
    inside = np.zeros(SHAPE, bool)
    inside[8:20, 8:20, 2:7] = True
    return inside


def test_masks_lie_on_the_grids_of_their_files(tmp_path: Path, stacks: Path) -> None:
    args = ["segment-stack", "--input-stacks", str(stacks), "--otsu-thresholding", "--quiet", "--output-stack-masks"]
    assert main([*args, str(tmp_path / "out")]) == 0
    for number in (1, 2):
        mask, stack = (
            nib.load(path)
            for path in (tmp_path / "out" / f"mask_stack-{number}.nii.gz", stacks / f"stack-{number}.nii.gz")
        )
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, stack.affine)
        # The brightest voxel of the noise may touch the box.
        assert ((np.asarray(mask.dataobj) > 0) != (stack.get_fdata() > 200)).sum() <= 1
    # What is written is found again beside or instead of masks that are drawn.
    again = ["assess", "--input-stacks", str(stacks), "--stack-masks", str(tmp_path / "out"), "--quiet"]
    assert main(again) == 0


def test_masks_go_to_the_files_that_are_named(tmp_path: Path, stacks: Path) -> None:
    drawn = write(tmp_path / "m.nii.gz", box().astype(np.uint8))
    files = [str(tmp_path / "out" / f"{name}.nii.gz") for name in "ab"]
    args = ["segment-stack", "--input-stacks", str(stacks / "*.nii.gz"), "--volume-mask", drawn, "--quiet"]
    assert main([*args, "--device", "0", "--output-stack-masks", *files]) == 0
    assert (np.asarray(nib.load(files[0]).dataobj) > 0).sum() == box().sum()


def test_without_anything_to_go_by_it_is_refused(
    tmp_path: Path, stacks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["segment-stack", "--input-stacks", str(stacks), "--output-stack-masks", str(tmp_path / "out")]
    refused(capsys, [*args, "--no-segmentation"], "nothing says", "--stack-masks", "--otsu-thresholding")
    # Boxes in noise are no brain.
    refused(capsys, args, "stack-1.nii.gz and the other stacks: no brain is found", "--no-segmentation")
    assert not (tmp_path / "out").exists()
