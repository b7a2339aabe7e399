"""A stack of what is in memory is the stack of the same in files, and what is no stack is refused alike."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nifti_files import SHAPE, blob, oblique_affine, plain_affine, refused, write

from slicesplat import Stack, load_stacks

REGION = blob() > 0


def image(data: np.ndarray | None = None, affine: np.ndarray | None = None) -> nib.Nifti1Image:
    return nib.Nifti1Image(blob() if data is None else data, oblique_affine() if affine is None else affine)


def assert_same(one: Stack, other: Stack) -> None:
    for name in ("data", "mask", "affine"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert (one.thickness, one.slice_axis) == (other.thickness, other.slice_axis)


@pytest.mark.parametrize("thick", [0, 1, 2])
@pytest.mark.parametrize("drawn", [None, "labels", "soft"])
def test_image_gives_the_stack_of_its_file(tmp_path: Path, thick: int, drawn: str | None) -> None:
    order = np.insert([0, 1], thick, 2)
    affine = oblique_affine()[:, [*order, 3]]
    path = write(tmp_path / "stack.nii.gz", blob().transpose(order), affine)
    masks = {"labels": 3 * REGION, "soft": REGION * np.float32(0.7)}
    mask = write(tmp_path / "mask.nii.gz", masks[drawn].astype(np.float32).transpose(order), affine) if drawn else None
    expected = load_stacks([path], [mask] if mask else None, 2.5)[0]
    assert expected.slice_axis == thick
    assert_same(Stack.from_image(nib.load(path), nib.load(mask) if mask else None, 2.5), expected)
    # Headers hold float32.
    stored, inside = np.asarray(nib.load(path).dataobj), np.asarray(nib.load(mask).dataobj) if mask else None
    assert_same(Stack.from_image(stored, inside, 2.5, affine=nib.load(path).affine), expected)


def test_scaling_units_and_axis_of_a_header_count(tmp_path: Path) -> None:
    given = nib.Nifti1Image(blob().astype(np.int16), np.diag([1e-3, 1e-3, 1e-3, 1.0]))
    given.header.set_xyzt_units("meter")
    given.header.set_dim_info(slice=0)
    given.header.set_slope_inter(2.0, 1.0)
    nib.save(given, tmp_path / "scaled.nii.gz")
    path = tmp_path / "scaled.nii.gz"
    found = Stack.from_image(nib.load(path))
    assert_same(found, load_stacks([path])[0])
    assert found.slice_axis == 0
    np.testing.assert_allclose(found.spacing, 1.0)


def test_what_is_not_finite_around_the_mask_becomes_zero() -> None:
    data = blob()
    data[0, 0, 0] = np.nan
    assert Stack.from_image(image(data), REGION).data[0, 0, 0] == 0
    data[5, 5, 3] = np.inf
    refused(lambda: Stack.from_image(image(data), REGION, name="t2"), "t2", "1 voxels inside its region")


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, ">f4"])
def test_arrays_of_the_caller_are_neither_changed_nor_shared(kind: Any) -> None:
    data, mask, affine = blob().astype(kind), REGION.copy(), oblique_affine()
    given = nib.Nifti1Image(data, affine)
    before = [array.tobytes() for array in (data, mask, affine, given.affine)]
    for stack in (Stack.from_image(data, mask, affine=affine), Stack.from_image(given, mask)):
        for array in (stack.data, stack.mask, stack.affine):
            array += array.dtype.type(1)
            assert not any(np.shares_memory(array, own) for own in (data, mask, affine, given.affine))
    assert [array.tobytes() for array in (data, mask, affine, given.affine)] == before


def test_fourth_axis_of_length_one_is_dropped() -> None:
    assert Stack.from_image(image(blob()[..., None])).data.shape == SHAPE


def test_image_of_another_format_is_taken() -> None:
    assert_same(Stack.from_image(nib.MGHImage(blob(), oblique_affine())), Stack.from_image(image()))


def test_what_was_assumed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "slicesplat"):
        Stack.from_image(image(), name="t2")
    assert "t2: no mask given, using its non-zero voxels" in caplog.text
    assert "t2: slice thickness 3 mm, taken from the distance between slices" in caplog.text


def sheared() -> np.ndarray:
    affine = plain_affine()
    affine[0, 1] = 0.2
    return affine


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (lambda: {"image": blob()}, "has no affine"),
        (lambda: {"image": image(), "affine": np.eye(4)}, "affine of its own"),
        (lambda: {"image": nib.Nifti1Image(blob(), None)}, "does not say how the image lies"),
        (lambda: {"image": blob(), "affine": np.eye(3)}, "is no (4, 4)"),
        (lambda: {"image": blob(), "affine": oblique_affine().T}, "is no (4, 4)"),
        (lambda: {"image": blob(), "affine": np.full((4, 4), np.nan)}, "is no (4, 4)"),
        (lambda: {"image": blob(), "affine": np.diag([1.0, 0, 3, 1])}, "singular"),
        (lambda: {"image": blob(), "affine": sheared()}, "sheared"),
        (lambda: {"image": blob(), "affine": np.diag([1e-3, 1e-3, 3e-3, 1])}, "voxels of 0.001"),
        (lambda: {"image": blob()[..., 0], "affine": np.eye(4)}, "2 dimensions"),
        (lambda: {"image": np.stack([blob()] * 2, -1), "affine": np.eye(4)}, "2 volumes"),
        (lambda: {"image": blob()[:0], "affine": np.eye(4)}, "no voxels"),
        (lambda: {"image": blob()[:, :, :2], "affine": np.eye(4), "slice_axis": 3}, "only 2 slices"),
        (lambda: {"image": blob().astype(complex), "affine": np.eye(4)}, "complex"),
        (lambda: {"image": blob().astype(object), "affine": np.eye(4)}, "plain intensities"),
        (lambda: {"image": 0 * blob(), "affine": plain_affine()}, "every voxel is zero"),
        (lambda: {"image": image(), "mask": REGION[1:]}, "its shape"),
        (lambda: {"image": image(), "mask": image(REGION.astype(np.uint8), np.eye(4))}, "its affine is not that"),
        (lambda: {"image": image(), "mask": 0 * REGION}, "the mask is empty"),
        (lambda: {"image": image(), "mask": np.where(REGION, np.nan, 0)}, "NaN or infinite"),
        (lambda: {"image": image(), "thickness": -1.0}, "not positive"),
        (lambda: {"image": image(), "thickness": 0.003}, "give it in mm"),
    ],
)
def test_what_is_no_stack_is_refused_by_name(given: Any, problem: str) -> None:
    refused(lambda: Stack.from_image(**given(), name="t2"), "t2", problem)


def test_axis_that_is_none_is_refused() -> None:
    refused(lambda: Stack.from_image(image(), slice_axis=4), "slice axis '4'", "no axis")
