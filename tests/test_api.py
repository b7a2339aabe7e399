"""The whole way in Python, from images in memory to numbers: typed, checked, printed in one line."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nifti_files import refused

import slicesplat
from slicesplat.prepare.load import load_stacks
from slicesplat.progress import StepRecord
from slicesplat.records import SliceRecord
from slicesplat.result import Reconstruction
from slicesplat.validation.files import save
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import Simulation
from slicesplat.validation.simulate import simulate as simulate_arrays

CONFIG = slicesplat.SimulationConfig(pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.02, seed=1)


@cache
def truth() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    volume, affine, mask = brain_phantom(32.0, 1.4)
    return nib.Nifti1Image(volume, affine), nib.Nifti1Image(mask.astype(np.uint8), affine)


@cache
def scan() -> Simulation:
    return slicesplat.simulate(*truth(), CONFIG)


@cache
def result() -> Reconstruction:
    stacks = [
        slicesplat.Stack.from_image(
            # Affines in files are stored in float32.
            nib.Nifti1Image(stack.data, stack.affine.astype(np.float32)),
            stack.mask,
            stack.thickness,
            f"stack-{number}",
        )
        for number, stack in enumerate(scan().stacks)
    ]
    return slicesplat.reconstruct(stacks, slicesplat.Config(resolution=1.4, threads=1))


def test_simulation_of_images_is_that_of_their_arrays() -> None:
    volume, mask = truth()
    expected = simulate_arrays(volume.get_fdata(), volume.affine, mask.get_fdata(), CONFIG)
    for one, other in zip(scan().stacks, expected.stacks, strict=True):
        assert one.data.tobytes() == other.data.tobytes()
    assert scan().truth.json() == expected.truth.json()


def test_stacks_of_images_give_the_volume_of_their_files(tmp_path: Path) -> None:
    volume, mask = truth()
    save(scan(), tmp_path / "scan", volume.get_fdata(), volume.affine, mask.get_fdata())
    stacks = load_stacks(
        *([tmp_path / "scan" / f"{kind}-{number}.nii.gz" for number in (1, 2, 3)] for kind in ("stack", "mask")), 4.0
    )
    from_files = slicesplat.reconstruct(stacks, slicesplat.Config(resolution=1.4, threads=1))
    made, read = (np.asarray(found.volume.dataobj) for found in (result(), from_files))
    assert made.tobytes() == read.tobytes()


def test_truth_scores_better_than_its_reconstruction() -> None:
    volume, mask = truth()
    best, made = (slicesplat.evaluate(image, volume, mask, register=False) for image in (volume, result().volume))
    assert best.psnr > 80 and best.ssim == pytest.approx(1.0, abs=1e-4)
    assert 10 < made.psnr < 40 and made.ssim < 0.9


def test_results_are_typed_and_frozen() -> None:
    made = result()
    assert len(made.poses) == len(made.slices)
    assert made.slice_weights.shape == (len(made.slices),)
    records = made.slice_records()
    assert all(isinstance(record, SliceRecord) for record in records)
    np.testing.assert_array_equal([record.world_transform for record in records], made.poses.matrix)
    assert [record.left_out is None for record in records] == [record.used for record in records]
    assert all(isinstance(step, StepRecord) for step in made.steps)
    with pytest.raises(FrozenInstanceError):
        made.noise = 0.0  # type: ignore[misc]
    for numbers in ("weight", "gain", "ncc", "dropout"):
        with pytest.raises(ValueError, match=numbers):
            replace(made, **{numbers: getattr(made, numbers)[1:]})
    with pytest.raises(ValueError, match="more than the 2 stacks"):
        replace(made, stacks=made.stacks[:2])
    with pytest.raises(ValueError, match="mask of shape"):
        replace(made, mask=truth()[1])


def test_values_print_in_a_line() -> None:
    made = result()
    for value in (*made.stacks, made.slices, made.field, made, scan(), scan().truth, *made.slice_records()[:1]):
        text = repr(value)
        assert "\n" not in text and "array" not in text and len(text) < 160, text
    assert "voxels of 1.4 mm" in repr(made) and f"of {len(made.slices)} slices used" in repr(made)


def test_assessment_is_one_of_every_stack_whatever_its_offset() -> None:
    stacks = scan().stacks
    shifted = [replace(stack, data=np.where(stack.mask, stack.data - 200, np.float32(-200))) for stack in stacks]
    plain, moved = slicesplat.assess(stacks), slicesplat.assess(shifted)
    assert [seen.name for seen in plain] == ["stack-1", "stack-2", "stack-3"]
    for one, other in zip(plain, moved, strict=True):
        assert one.n_slices == other.n_slices
        assert one.motion_score == pytest.approx(other.motion_score, abs=0.2)
    refused(lambda: slicesplat.assess([]), "no stack", "name one")


def test_what_cannot_be_compared_or_scanned_is_refused_by_name() -> None:
    volume, mask = truth()
    small = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    refused(lambda: slicesplat.simulate(volume, small), "mask", "its shape")
    refused(lambda: slicesplat.simulate(np.ones((4, 4, 4)), mask), "volume", "no affine")
    refused(lambda: slicesplat.evaluate(volume, volume, small), "mask", "its shape")
    nothing = nib.Nifti1Image(np.full(volume.shape, np.nan), volume.affine)
    refused(lambda: slicesplat.evaluate(nothing, volume, mask), "volume", "NaN")
    empty = nib.Nifti1Image(np.zeros(volume.shape), volume.affine)
    refused(lambda: slicesplat.evaluate(empty, volume, mask, register=False), "volume", "nothing inside")


def test_field_of_other_shapes_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="rotations of shape"):
        slicesplat.GaussianField(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2))
