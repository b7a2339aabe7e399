"""A smooth field is taken away, an even stack stays as it is, and what cannot be seen is never blown up."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from reconstructions import BRIEF

import slicesplat.prepare.bias
from slicesplat.cli import main
from slicesplat.config import Config
from slicesplat.geometry.stack import Stack
from slicesplat.io.folder import MANIFEST
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.bias import correct_bias_field, log_bias_field
from slicesplat.prepare.load import load_stacks
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


@cache
def even() -> Stack:
    """A still stack of a brain of 80 mm, without a field."""
    config = SimulationConfig(stacks=1, motion="none", pixel=2.0, dropout=0.0, slice_gain=0.0, noise=0.02, seed=2)
    return simulate(*brain_phantom(80.0, 2.0), config).stacks[0]


@cache
def field() -> NDArray[np.float64]:
    """A known field over the stack: 30 % brighter on one side than on the other, and 20 % from bottom to top."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in even().data.shape), indexing="ij", sparse=True)
    return np.exp(0.25 * x + 0.1 * z - 0.2 * y**2)


def shaded() -> Stack:
    return replace(even(), data=(even().data * field()).astype(np.float32))


@cache
def found_in_shaded() -> NDArray[np.float64]:
    """The logarithm of the field that is found in the shaded stack."""
    return log_bias_field(shaded())


def unevenness(stack: Stack) -> float:
    """Coefficient of variation that the field gives a tissue that is uniform without it, noise aside."""
    ratio = stack.data[stack.mask] / even().data[stack.mask]
    return float(ratio.std() / ratio.mean())


def test_known_field_is_taken_away() -> None:
    assert unevenness(shaded()) > 0.1
    # What is left is a difference between the brain's regions that looks like a field.
    corrected = correct_bias_field(shaded())
    assert unevenness(corrected) < 0.35 * unevenness(shaded())
    np.testing.assert_allclose(corrected.data, shaded().data * np.exp(-found_in_shaded()), rtol=1e-6)


def test_even_stack_stays_as_it_is() -> None:
    corrected = correct_bias_field(even())
    change = corrected.data[even().mask] / even().data[even().mask]
    # Ventricles and cortex are not evenly distributed: N4 takes a little of that for a field.
    assert change.std() < 0.035
    assert np.abs(change - 1).max() < 0.1


def test_intensities_keep_their_scale() -> None:
    stack, found = shaded(), found_in_shaded()
    assert found[stack.mask].mean() == pytest.approx(0.0, abs=1e-9)
    thousandfold = replace(stack, data=stack.data * np.float32(1000))
    expected = thousandfold.data * np.exp(-found)
    np.testing.assert_allclose(correct_bias_field(thousandfold).data, expected, rtol=1e-3)


def test_field_outside_the_mask_stays_between_what_it_is_inside() -> None:
    stack = shaded()
    small = np.zeros_like(stack.mask)
    middle = tuple(slice(n // 3, 2 * n // 3) for n in stack.data.shape)
    small[middle] = stack.mask[middle]
    data = np.where(stack.mask, stack.data, 0)
    found = log_bias_field(replace(stack, mask=small, data=data))
    assert np.isfinite(found).all()
    inside = found[small]
    reach = inside.max() - inside.min()
    assert found.min() > inside.min() - reach and found.max() < inside.max() + reach


def test_lost_and_dark_voxels_do_not_bend_the_field() -> None:
    stack = shaded()
    data = stack.data.copy()
    data[:, :, data.shape[2] // 2] = 0
    found = log_bias_field(replace(stack, data=data))
    assert np.abs(found - found_in_shaded())[stack.mask].max() < 0.02


def test_stack_without_signal_is_left_alone() -> None:
    dark = replace(even(), data=np.zeros_like(even().data))
    assert not log_bias_field(dark).any()
    assert not log_bias_field(replace(even(), mask=np.zeros_like(even().mask))).any()


def test_number_of_threads_changes_no_bit() -> None:
    made, usual = {}, sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        for threads in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            made[threads] = correct_bias_field(shaded()).data.tobytes()
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(usual)
    assert made[1] == made[3]


# --- in a reconstruction


def test_reconstruction_is_corrected_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimulationConfig(motion="none", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, seed=1)
    stacks = simulate(*brain_phantom(32.0, 1.4), config).stacks
    asked = []

    def counted(stack: Stack) -> Stack:
        asked.append(stack)
        return correct_bias_field(stack)

    monkeypatch.setattr(slicesplat.prepare.bias, "correct_bias_field", counted)
    reconstruct(stacks, Config(resolution=2.0, threads=1, fit=BRIEF))
    assert not asked
    made = reconstruct(stacks, Config(resolution=2.0, threads=1, bias_field_correction=True, fit=BRIEF))
    assert len(asked) == len(stacks)
    assert made.json()["settings"]["bias_field_correction"] is True


# --- from files to files


def written(path: Path, data: NDArray, affine: NDArray) -> str:
    nib.save(nib.Nifti1Image(data, affine), path)
    return str(path)


@pytest.mark.parametrize("axis", [2, 0])
def test_command_writes_corrected_stacks_on_the_grids_of_the_inputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], axis: int
) -> None:
    stack = shaded()
    # The file holds the slices along any axis.
    order = np.insert([0, 1], axis, 2)
    affine = stack.affine[:, [*order, 3]]
    given = written(tmp_path / "a.nii", stack.data.transpose(order), affine)
    mask = written(tmp_path / "mask.nii.gz", stack.mask.transpose(order).astype(np.uint8), affine)
    out = tmp_path / "corrected"
    args = ["correct-bias-field", "--input-stacks", given, "--stack-masks", mask, "--thicknesses", "2.5", "--quiet"]
    assert main([*args, "--output-corrected-stacks", str(out)]) == 0
    assert capsys.readouterr() == ("", "")
    assert {path.name for path in out.iterdir()} - {MANIFEST} == {"a.nii.gz", "a.json"}
    image = nib.Nifti1Image.from_filename(out / "a.nii.gz")
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    corrected = replace(stack, data=np.asarray(image.dataobj).transpose(np.argsort(order)))
    assert unevenness(corrected) < 0.35 * unevenness(stack)
    assert json.loads((out / "a.json").read_text()) == {"SliceThickness": 2.5}
    # The mask fits what was written.
    (again,) = load_stacks([out / "a.nii.gz"], [mask])
    assert again.thickness == 2.5
    np.testing.assert_array_equal(again.mask, load_stacks([given], [mask])[0].mask)


def test_stacks_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [tmp_path / folder / name for folder, name in (("one", "a.nii.gz"), ("two", "a.nii.gz"), ("two", "A.nii"))]
    for path in inputs:
        path.parent.mkdir(exist_ok=True)
        written(path, even().data[::3, ::3, 4:8], even().affine @ np.diag([3.0, 3.0, 1.0, 1.0]))
    args = ["correct-bias-field", "--input-stacks", *map(str, inputs)]
    assert main([*args, "--output-corrected-stacks", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()} - {MANIFEST}
    assert names == {f"{stem}{suffix}" for stem in ("one-a", "two-a", "A") for suffix in (".nii.gz", ".json")}
    assert "one/a.nii.gz: corrected" in capsys.readouterr().err.replace("\\", "/")


def test_corrected_stacks_are_not_written_among_the_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = written(tmp_path / "a.nii.gz", even().data, even().affine)
    args = ["correct-bias-field", "--input-stacks", given, "--output-corrected-stacks", str(tmp_path)]
    assert main(args) == 2
    assert "holds inputs" in capsys.readouterr().err
