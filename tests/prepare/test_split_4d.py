"""A 4-D file is refused by the name of the flag that splits it, and split where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nifti_files import SHAPE, blob, refused, write

from slicesplat.io.nifti import count_volumes
from slicesplat.prepare.load import load_stacks


@pytest.fixture
def dynamics(tmp_path: Path) -> Path:
    return write(tmp_path / "dynamics.nii.gz", np.stack([blob(), 2 * blob(), 3 * blob()], axis=3))


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return write(tmp_path / "single.nii.gz", blob())


def test_refusal_of_several_volumes_names_the_flag(dynamics: Path) -> None:
    refused(lambda: load_stacks([dynamics]), "dynamics.nii.gz", "has 4 dimensions, 3 volumes; --split-4d")


def test_mask_of_several_volumes_is_refused_without_it(single: Path, dynamics: Path) -> None:
    with pytest.raises(ValueError, match="4 dimensions") as refusal:
        load_stacks([single], [dynamics], split_4d=True)
    assert "--split-4d" not in str(refusal.value)


def test_every_volume_is_a_stack_with_mask_thickness_and_axis_of_its_file(
    tmp_path: Path, dynamics: Path, single: Path
) -> None:
    inside = np.zeros(SHAPE, np.uint8)
    inside[3:8, 3:8, 1:5] = 1
    masks = [write(tmp_path / "m4.nii.gz", inside), write(tmp_path / "m3.nii.gz", (blob() > 0).astype(np.uint8))]
    stacks = load_stacks([dynamics, single], masks, [2.5, 3.5], ["k", "3"], split_4d=True)
    assert [stack.thickness for stack in stacks] == [2.5, 2.5, 2.5, 3.5]
    assert [stack.name for stack in stacks] == [
        *(f"dynamics.nii.gz, volume {number}" for number in (1, 2, 3)),
        "single.nii.gz",
    ]
    for factor, stack in zip((1, 2, 3, 1), stacks, strict=True):
        np.testing.assert_allclose(stack.data, factor * blob(), rtol=1e-6)
    assert [int(stack.mask.sum()) for stack in stacks[:3]] == [inside.sum()] * 3
    assert stacks[3].mask.sum() > inside.sum()


def test_single_mask_may_be_drawn_on_the_stack_behind_a_4d_file(tmp_path: Path, dynamics: Path, single: Path) -> None:
    mask = write(tmp_path / "m.nii.gz", (blob() > 0).astype(np.uint8))
    stacks = load_stacks([dynamics, single], [mask], mask_of=2, split_4d=True)
    assert [stack.carried for stack in stacks] == [True, True, True, False]


def test_3d_files_are_read_as_ever(single: Path, dynamics: Path) -> None:
    (whole,), (split,) = load_stacks([single]), load_stacks([single], split_4d=True)
    assert split.data.tobytes("A") == whole.data.tobytes("A") and split.data.flags == whole.data.flags
    assert split.name == "single.nii.gz"
    assert [count_volumes(path) for path in (single, dynamics)] == [1, 3]
