"""What a set of stacks cannot resolve is told by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from slicesplat.geometry.stack import Stack
from slicesplat.prepare.coverage import all_parallel, unresolved

DATA = np.ones((12, 12, 10), np.float32)


def stack(name: str, degrees: float = 0.0, slices: int = 10, sign: float = 1.0) -> Stack:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([np.deg2rad(degrees), 0, 0]).as_matrix() * [1.0, 1.0, 3.0 * sign]
    return Stack(DATA, (np.arange(10) < slices) & (DATA > 0), affine, 3.0, name)


def test_crossing_stacks_of_many_slices_are_fine() -> None:
    assert unresolved([stack("a"), stack("b", 90.0), stack("c", 45.0)]) == []


def test_one_stack_alone_is_told() -> None:
    (told,) = unresolved([stack("a.nii.gz")])
    assert told.startswith("a.nii.gz: is the only stack")
    assert "; give stacks of other orientations" in told


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_parallel_stacks_are_told_whatever_their_direction(sign: float) -> None:
    (told,) = unresolved([stack("a.nii.gz"), stack("b.nii.gz", 12.0, sign=sign)])
    assert told.startswith("a.nii.gz and the other stacks: are all parallel")
    assert not all_parallel([stack("a"), stack("b", 30.0, sign=sign)])


def test_a_stack_of_four_slices_is_told_by_name() -> None:
    (told,) = unresolved([stack("a.nii.gz"), replace(stack("b.nii.gz", 90.0, slices=4))])
    assert told.startswith("b.nii.gz: only 4 of its slices show the region")
