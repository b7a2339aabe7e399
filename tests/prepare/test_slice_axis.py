"""Slices are read along the axis that they lie along, however a tool turned the file."""

from __future__ import annotations

import itertools
import json
import logging
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import refused, write
from numpy.typing import NDArray

from slicesplat.commands.stacks import StackCommand
from slicesplat.geometry.stack import Stack
from slicesplat.io.masks import load_masked_volume
from slicesplat.prepare.load import load_stacks
from slicesplat.prepare.slice_axis import SliceAxis, axis_shown
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

ORDERS = list(itertools.permutations(range(3)))


@cache
def stacks(motion: str, spacing: float, slice_gain: float = 0.04) -> list[Stack]:
    """Overlapping slices of a small brain, in three orientations; pixels of 1.2 mm."""
    config = SimulationConfig(
        motion=motion, pixel=1.2, spacing=spacing, thickness=2.4, slice_gain=slice_gain, dropout=0.0, seed=3
    )
    return simulate(*brain_phantom(50.0, 1.2), config).stacks


def noise(shape: tuple[int, ...] = (20, 20, 20)) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(100, 200, shape).astype(np.float32)


def turned(path: Path, stack: Stack, order: tuple[int, ...], slice_axis: int | None = None) -> Path:
    """The stack in a file with its axes in another order; dim_info says where its slices are, if asked for."""
    image = nib.Nifti1Image(stack.data.transpose(order), stack.affine[:, [*order, 3]])
    if slice_axis is not None:
        image.header.set_dim_info(slice=slice_axis)
    nib.save(image, path)
    return path


# --- told by the images


@pytest.mark.parametrize(("motion", "gain"), [("mild", 0.0), ("severe", 0.04), ("none", 0.08)])
def test_images_show_the_axis_by_motion_or_gain(motion: str, gain: float) -> None:
    for stack, order in itertools.product(stacks(motion, 1.2, gain), ORDERS):
        assert axis_shown(stack.data.transpose(order)) == order.index(2)


def test_a_still_volume_shows_no_axis() -> None:
    for stack in stacks("none", 1.2, 0.0):
        assert axis_shown(stack.data) is None


@pytest.mark.parametrize(
    "data",
    [noise(), np.zeros((20, 20, 20), np.float32), np.ones((20, 20, 20), np.float32), noise((20, 20, 3))],
    ids=["noise", "zeros", "ones", "few slices"],
)
def test_an_image_without_content_shows_no_axis(data: NDArray[np.float32]) -> None:
    assert axis_shown(data) is None


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_neither_scale_nor_values_that_are_not_finite_matter(scale: float) -> None:
    data = stacks("mild", 1.2)[0].data * np.float32(scale)
    data[0, 0, 0], data[1, 2, 3] = np.nan, np.inf
    assert axis_shown(data) == 2


# --- told by the file


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("spacing", [1.2, 1.3, 1.5, 3.0])
def test_a_turned_file_is_read_as_the_scanner_stored_it(tmp_path: Path, spacing: float, order: tuple[int, ...]) -> None:
    for stack in stacks("mild", spacing):
        (read,) = load_stacks([turned(tmp_path / "s.nii", stack, order)], thicknesses=2.4)
        assert read.slice_axis == order.index(2)
        inverse = [*np.argsort([a for a in order if a != 2]), 2]
        np.testing.assert_array_equal(read.data.transpose(inverse), stack.data)
        np.testing.assert_allclose(read.affine[:, [*inverse, 3]], stack.affine, atol=1e-4)


def test_canonical_axes_change_nothing(tmp_path: Path) -> None:
    for stack in stacks("mild", 1.5):
        image = nib.as_closest_canonical(nib.Nifti1Image(stack.data, stack.affine))
        nib.save(image, tmp_path / "s.nii")
        (read,) = load_stacks([tmp_path / "s.nii"], thicknesses=2.4)
        assert abs(read.axes[:, 2] @ stack.axes[:, 2]) == pytest.approx(1.0)
        assert read.n_slices == stack.n_slices


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_isotropic_file_is_believed_where_the_images_show_nothing(tmp_path: Path, axis: int) -> None:
    path = write(tmp_path / "s.nii", noise(), np.eye(4))
    path.with_suffix(".json").write_text(json.dumps({"SliceEncodingDirection": "ijk"[axis] + "-"}))
    assert load_stacks([path])[0].slice_axis == axis
    path.with_suffix(".json").unlink()
    stack = Stack(noise(), noise() > 0, np.eye(4), 1.0)
    assert load_stacks([turned(path, stack, (0, 1, 2), axis)])[0].slice_axis == axis


def test_the_sidecar_comes_before_the_header(tmp_path: Path) -> None:
    path = turned(tmp_path / "s.nii", Stack(noise(), noise() > 0, np.eye(4), 1.0), (0, 1, 2), slice_axis=0)
    path.with_suffix(".json").write_text('{"SliceEncodingDirection": "j"}')
    assert load_stacks([path])[0].slice_axis == 1


@pytest.mark.parametrize("spacing", [1.5, 3.0])
def test_a_statement_that_was_not_turned_with_the_axes_is_told_and_not_believed(
    tmp_path: Path, spacing: float, caplog: pytest.LogCaptureFixture
) -> None:
    path = turned(tmp_path / "s.nii", stacks("mild", spacing)[0], (2, 0, 1), slice_axis=2)
    assert load_stacks([path], thicknesses=2.4)[0].slice_axis == 0
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.message.startswith("s.nii: its spacing")
    assert warning.message.endswith("its header; taken along axis 1, give --slice-axes if that is wrong")


def test_a_statement_that_only_the_images_contradict_is_believed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = turned(tmp_path / "s.nii", stacks("mild", 1.2)[0], (0, 1, 2), slice_axis=1)
    assert load_stacks([path], thicknesses=2.4)[0].slice_axis == 1
    assert any("its images look as if slices lay along axis 3" in message for message in caplog.messages)


def test_a_statement_that_only_the_spacing_contradicts_is_believed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s.nii", noise(), np.diag([1.0, 1.2, 1.0, 1.0]))
    path.with_suffix(".json").write_text('{"SliceEncodingDirection": "i"}')
    assert load_stacks([path])[0].slice_axis == 0
    assert any("its spacing differs along another axis than s.json says" in message for message in caplog.messages)


def test_what_nothing_tells_is_the_third_axis_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (read,) = load_stacks([write(tmp_path / "s.nii", noise(), np.eye(4))])
    assert read.slice_axis == 2
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.message.startswith("s.nii: neither spacing nor images tell which axis")
    assert "--slice-axes" in warning.message


def test_a_guess_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = turned(tmp_path / "s.nii", stacks("mild", 1.2)[0], (2, 0, 1))
    with caplog.at_level(logging.INFO, "slicesplat"):
        load_stacks([path])
    assert any("s.nii: slices lie along axis 1" in message and "images show" in message for message in caplog.messages)


# --- told by the user


@pytest.mark.parametrize(("given", "axis"), [("1", 0), ("j", 1), (3, 2), ([1], 0), (("k",), 2)])
def test_the_axis_that_is_given_counts_before_all_else(
    tmp_path: Path, given: SliceAxis | list[SliceAxis], axis: int
) -> None:
    path = turned(tmp_path / "s.nii", stacks("mild", 1.5)[0], (2, 0, 1), slice_axis=1)
    assert load_stacks([path], thicknesses=2.4, slice_axes=given)[0].slice_axis == axis


def test_axes_are_given_one_per_stack(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii", noise(), np.eye(4))
    assert [stack.slice_axis for stack in load_stacks([path, path], slice_axes=["i", "3"])] == [0, 2]
    command = StackCommandForTest(input_stacks=(path, path), slice_axes=("2", "k"), segmentation=False)
    assert [stack.slice_axis for stack in command.load_stacks()] == [1, 2]


class StackCommandForTest(StackCommand):
    def execute(self, console: object) -> None:
        raise NotImplementedError


def test_axes_that_are_none_or_of_the_wrong_number_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii", noise(), np.eye(4))
    refused(lambda: load_stacks([path] * 3, slice_axes=[1, 2]), "s.nii", "wrong number of slice axes, 2 for 3 stacks")
    for wrong in (0, 4, "x", "", "ij", 1.5):
        refused(lambda wrong=wrong: load_stacks([path], slice_axes=[wrong]), "", "no axis of a file")


def test_a_mask_is_turned_with_its_stack(tmp_path: Path) -> None:
    stack = stacks("mild", 1.2)[0]
    path = turned(tmp_path / "s.nii", stack, (2, 0, 1))
    drawn = Stack(stack.mask.astype(np.float32), stack.mask, stack.affine, 1.0)
    mask = turned(tmp_path / "m.nii", drawn, (2, 0, 1))
    (read,) = load_stacks([path], [mask])
    assert read.slice_axis == 0
    np.testing.assert_array_equal(read.mask, stack.mask)
    load_masked_volume(path, mask)
