"""Slices whose poses are known become stacks again, and stay where they are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from slicesplat.errors import InputError
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.io.slices import load_slices, save_slices
from slicesplat.prepare.intensity import signal
from slicesplat.prepare.posed import load_posed_slices, stacks_of_slices
from slicesplat.records import SliceRecord

SHAPE = (30, 26, 12)


def orthogonal(count: int = 3, thickness: float = 3.0, spacing: float = 3.5) -> list[Stack]:
    rng, stacks = np.random.default_rng(1), []
    for number in range(count):
        affine = np.eye(4)
        affine[:3, :3] = np.roll(np.eye(3), number, axis=0) * [1.1, 1.2, spacing]
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2) + [3, -7, 12]
        data = rng.uniform(100, 900, SHAPE).astype(np.float32)
        mask = np.zeros(SHAPE, bool)
        mask[5:25, 5:21, 1:11] = True
        stacks.append(Stack(data, mask, affine, thickness, f"stack-{number}.nii.gz"))
    return stacks


def moved(stacks: list[Stack], degrees: float = 8.0, seed: int = 0) -> list[SliceRecord]:
    rng = np.random.default_rng(seed)
    scale = [*[4.0] * 3, *[np.deg2rad(degrees)] * 3]
    return [
        SliceRecord(number, k, Rigid.exp(rng.uniform(-1, 1, 6) * scale).about(stack.pose(k)[:3, 3]).matrix)
        for number, stack in enumerate(stacks)
        for k in range(stack.n_slices)
    ]


def test_stacks_are_found_again_and_every_slice_is_where_its_file_says(tmp_path: Path) -> None:
    given = orthogonal()
    save_slices(tmp_path, given, moved(given))
    alone, stacks = load_slices(tmp_path), load_posed_slices(tmp_path)
    assert [stack.n_slices for stack in stacks] == [12, 12, 12]
    assert [stack.name for stack in stacks] == ["slices 0 to 11", "slices 12 to 23", "slices 24 to 35"]
    for number, one in enumerate(alone):
        stack, k = stacks[number // 12], number % 12
        np.testing.assert_allclose(stack.slice_affine(k), one.affine, atol=1e-5)
        np.testing.assert_allclose(stack.pose(k), one.pose(0), atol=1e-5)
        assert np.array_equal(stack.data[:, :, k], one.data[:, :, 0])
        assert np.array_equal(stack.mask[:, :, k], one.mask[:, :, 0])
    for stack, other in zip(stacks, given, strict=True):
        assert stack.thickness == pytest.approx(3.0)
        assert stack.spacing[2] == pytest.approx(3.5, rel=0.25)
        assert abs(stack.axes[:, 2] @ other.axes[:, 2]) > np.cos(np.deg2rad(6))


def test_slices_that_are_cut_have_no_motion_yet_and_are_written_back_where_they_came_from(tmp_path: Path) -> None:
    given = orthogonal()
    save_slices(tmp_path / "given", given, moved(given))
    stacks = load_posed_slices(tmp_path / "given")
    cut = cut_slices(stacks)
    assert np.array_equal(cut.motion.matrix, Rigid.identity(len(cut)).matrix)
    records = [SliceRecord(number, k, np.eye(4)) for number in range(3) for k in range(12)]
    save_slices(tmp_path / "again", stacks, records)
    for path in (tmp_path / "given").glob("*.nii.gz"):
        one, other = (nib.load(tmp_path / folder / path.name) for folder in ("given", "again"))
        np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)
        assert np.asarray(one.dataobj).tobytes() == np.asarray(other.dataobj).tobytes()


def test_same_stack_twice_is_two_stacks_and_a_missing_slice_no_end() -> None:
    alone = [single(stack, k) for stack in orthogonal(1) * 2 for k in range(12) if k not in (4, 5)]
    assert [stack.n_slices for stack in stacks_of_slices(alone)] == [10, 10]


def test_few_slices_go_with_their_neighbours_and_another_grid_does_not() -> None:
    first, second = orthogonal(2)
    thick = orthogonal(1, thickness=5.0)[0]
    alone = [single(first, k) for k in range(12)] + [single(second, k) for k in (3, 4)]
    assert [stack.n_slices for stack in stacks_of_slices(alone)] == [14]
    alone += [single(thick, 6)]
    assert [stack.n_slices for stack in stacks_of_slices(alone)] == [14, 1]


def test_slices_of_several_sizes_are_one_stack_and_what_they_lack_was_not_measured() -> None:
    alone = []
    for k in range(12):
        one = single(orthogonal(1)[0], k)
        rows = 30 - k % 3
        alone.append(Stack(one.data[:rows], one.mask[:rows], one.affine, one.thickness, one.name))
    (stack,) = stacks_of_slices(alone)
    assert stack.data.shape == SHAPE and stack.measured is not None
    assert [int(stack.measured[:, 0, k].sum()) for k in range(4)] == [30, 29, 28, 30]
    (kept,) = signal([stack])[0]
    assert kept.measured is not None and not (kept.measured & ~stack.measured).any()
    for one, k in zip(alone, range(12), strict=True):
        np.testing.assert_allclose(stack.pose(k, (0, 0)), one.pose(0, (0, 0)), atol=1e-9)


def test_empty_masks_are_slices_without_the_region_and_nothing_else_is_refused(tmp_path: Path) -> None:
    (stack,) = orthogonal(1)
    save_slices(tmp_path, [stack], [SliceRecord(0, k, np.eye(4)) for k in range(12)])
    (read,) = load_posed_slices(tmp_path)
    assert not read.mask[:, :, 0].any() and read.mask[:, :, 1].any()
    for path in tmp_path.glob("mask_*"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    with pytest.raises(InputError, match="all masks of its slices are empty; give slices"):
        load_posed_slices(tmp_path)


def single(stack: Stack, k: int) -> Stack:
    return Stack(stack.data[:, :, [k]], stack.mask[:, :, [k]], stack.slice_affine(k), stack.thickness, f"{k}.nii.gz")


def test_neighbours_are_those_of_the_fixture() -> None:
    # What the tests above stand on: neighbours in a stack are near, first slices of two stacks of one kind are not.
    (stack,) = orthogonal(1)
    centres = [stack.pose(k)[:3, 3] for k in range(12)]
    assert all(np.linalg.norm(b - a) < 4 for a, b in pairwise(centres))
    assert np.linalg.norm(centres[-1] - centres[0]) > 8 * 3
