"""What a preprocessing step cut out of a stack is no measurement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.geometry.slices import cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.cutout import measured_beside, without_fill
from slicesplat.prepare.load import load_stacks
from slicesplat.result import Reconstruction
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[:, :, None]


def scan() -> Simulation:
    return simulate(*brain_phantom(size_mm=40.0, spacing=1.6), SimulationConfig(motion="none", pixel=1.6, seed=2))


@pytest.fixture(scope="module")
def stacks() -> list[Stack]:
    return scan().stacks


def cut(stack: Stack, fill: float = 0.0) -> Stack:
    return replace(stack, data=np.where(stack.mask, stack.data, np.float32(fill)))


def test_a_stack_as_scanned_is_measured_everywhere(stacks: list[Stack]) -> None:
    for stack in stacks:
        assert without_fill(stack) is stack


@pytest.mark.parametrize("fill", [0.0, -1024.0, 7.5])
def test_what_holds_one_value_beside_the_mask_is_not_measured(stacks: list[Stack], fill: float) -> None:
    found = without_fill(cut(stacks[0], fill))
    assert found.measured is not None
    np.testing.assert_array_equal(found.measured, stacks[0].mask)
    np.testing.assert_array_equal(found.mask, stacks[0].mask)


def test_a_mask_larger_than_the_cut_loses_what_was_cut_away(stacks: list[Stack]) -> None:
    larger = replace(cut(stacks[0]), mask=binary_dilation(stacks[0].mask, np.ones((3, 3, 3))))
    np.testing.assert_array_equal(without_fill(larger).mask, stacks[0].mask)


def test_zero_inside_the_tissue_is_signal(stacks: list[Stack]) -> None:
    stack = cut(stacks[0])
    middle = tuple(np.round(np.argwhere(stack.mask).mean(axis=0)).astype(int))
    stack.data[middle] = 0
    found = without_fill(stack)
    assert found.mask[middle] and found.measured is not None and found.measured[middle]


def test_a_slice_that_lost_its_signal_in_a_cut_stack_keeps_its_mask_and_no_measurement(stacks: list[Stack]) -> None:
    stack = cut(stacks[0])
    k = stack.n_slices // 2
    stack.data[:, :, k] = 0
    found = without_fill(stack)
    assert found.measured is not None
    np.testing.assert_array_equal(found.mask[:, :, k], stack.mask[:, :, k])
    assert not found.measured[:, :, k].any()


def test_a_mask_without_surroundings_tells_nothing() -> None:
    assert measured_beside(np.ones((4, 4, 3), bool), np.ones((4, 4, 3), bool)) is None


def test_slices_know_which_of_their_pixels_were_measured(stacks: list[Stack]) -> None:
    slices = cut_slices([without_fill(cut(stack)) for stack in stacks])
    np.testing.assert_array_equal(slices.measured, slices.mask)
    assert not slices.binned(2).measured.all()
    chosen = slices.take(np.array([3, 1]))
    np.testing.assert_array_equal(chosen.image(chosen.measured, 1), slices.image(slices.measured, 1))


@pytest.mark.parametrize("larger", [0, 1])
@pytest.mark.parametrize("fill", [np.nan, np.inf, 0.0, -1024.0])
def test_files_that_are_cut_out_are_read_with_and_without_masks(
    tmp_path: Path, stacks: list[Stack], fill: float, larger: int
) -> None:
    stack, mask = cut(stacks[0], fill), stacks[0].mask
    wide = binary_dilation(mask, CROSS, iterations=larger) if larger else mask
    nib.save(nib.Nifti1Image(stack.data, stack.affine), tmp_path / "s.nii.gz")
    nib.save(nib.Nifti1Image(wide.astype(np.uint8), stack.affine), tmp_path / "m.nii.gz")
    for masks in ([tmp_path / "m.nii.gz"], None):
        (found,) = (without_fill(read) for read in load_stacks([tmp_path / "s.nii.gz"], masks))
        np.testing.assert_array_equal(found.mask, mask)
        np.testing.assert_array_equal(found.measured, mask)
        np.testing.assert_array_equal(found.data[mask], stack.data[mask])


def test_a_voxel_that_is_not_finite_inside_the_tissue_is_refused_in_a_cut_out_stack_too(
    tmp_path: Path, stacks: list[Stack]
) -> None:
    stack = cut(stacks[0], np.nan)
    stack.data[tuple(np.round(np.argwhere(stack.mask).mean(axis=0)).astype(int))] = np.nan
    nib.save(nib.Nifti1Image(stack.data, stack.affine), tmp_path / "s.nii.gz")
    nib.save(nib.Nifti1Image(stack.mask.astype(np.uint8), stack.affine), tmp_path / "m.nii.gz")
    with pytest.raises(InputError, match=r"s\.nii\.gz: 1 voxels? inside its region"):
        load_stacks([tmp_path / "s.nii.gz"], [tmp_path / "m.nii.gz"])


def error_of(result: Reconstruction, other: Reconstruction) -> float:
    """Root-mean-square difference inside both masks, over the root mean square of the second."""
    a, b = (np.asarray(r.volume.dataobj, np.float64) for r in (result, other))
    low = np.round((result.volume.affine - other.volume.affine)[:3, 3] / 1.6).astype(int)
    shift = [np.arange(size) + step for size, step in zip(a.shape, low, strict=True)]
    keep = [(s >= 0) & (s < size) for s, size in zip(shift, b.shape, strict=True)]
    a = a[np.ix_(*keep)]
    b = b[np.ix_(*(s[k] for s, k in zip(shift, keep, strict=True)))]
    both = (a > 0) & (b > 0)
    return float(np.sqrt(((a - b)[both] ** 2).mean() / (b[both] ** 2).mean()))


def test_stacks_that_are_cut_out_give_the_volume_of_the_stacks_as_scanned(stacks: list[Stack]) -> None:
    random, config = np.random.default_rng(0), Config(resolution=1.6, threads=1)
    as_scanned = reconstruct(stacks, config)
    # Not of one value, what was cut away passes for a measurement of nothing.
    unnoticed = [replace(s, data=np.where(s.mask, s.data, random.random(s.data.shape, np.float32))) for s in stacks]
    noticed = error_of(reconstruct([cut(stack) for stack in stacks], config), as_scanned)
    taken_for_signal = error_of(reconstruct(unnoticed, config), as_scanned)
    assert noticed < 0.08
    assert taken_for_signal > 1.5 * noticed, (noticed, taken_for_signal)
