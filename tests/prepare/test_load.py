"""What the files say is what the stacks are; what cannot be used is refused in one line."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nifti_files import SHAPE, SPACING, blob, oblique_affine, plain_affine, refused, write

from slicesplat.errors import InputError
from slicesplat.prepare.load import load_stacks


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return write(tmp_path / "stack.nii.gz", blob())


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return write(tmp_path / "mask.nii.gz", (blob() > 0).astype(np.uint8))


@pytest.mark.parametrize(
    "affine",
    [
        plain_affine(),
        oblique_affine(),
        oblique_affine() @ np.diag([-1.0, 1, 1, 1]),
        plain_affine() @ np.diag([-1.0, -1, 1, 1]),
    ],
    ids=["plain", "oblique", "oblique left-handed", "flipped"],
)
def test_affine_is_kept_exactly(tmp_path: Path, affine: np.ndarray) -> None:
    path = write(tmp_path / "s.nii.gz", blob(), affine)
    (loaded,) = load_stacks([path])
    np.testing.assert_array_equal(loaded.affine, nib.load(path).affine)
    np.testing.assert_allclose(loaded.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(loaded.data, blob())


def test_values_are_read_with_the_scaling_of_the_header(tmp_path: Path) -> None:
    image = nib.Nifti1Image((blob() / 2).astype(np.int16), plain_affine())
    image.header.set_slope_inter(2.0, -10.0)
    nib.save(image, tmp_path / "s.nii.gz")
    (loaded,) = load_stacks([tmp_path / "s.nii.gz"])
    assert loaded.data.dtype == np.float32
    np.testing.assert_allclose(loaded.data, nib.load(tmp_path / "s.nii.gz").get_fdata(), rtol=1e-6)


def test_a_fourth_axis_of_length_one_is_dropped(tmp_path: Path) -> None:
    (loaded,) = load_stacks([write(tmp_path / "s.nii.gz", blob()[..., None])])
    assert loaded.data.shape == SHAPE


def test_uncompressed_files_are_read_too(tmp_path: Path) -> None:
    (loaded,) = load_stacks([write(tmp_path / "s.nii", blob())])
    assert loaded.name == "s.nii"


@pytest.mark.parametrize("thick", [0, 1])
def test_slices_along_another_axis_are_found_and_stay_where_they_are(tmp_path: Path, thick: int) -> None:
    order = [0, 1]
    order.insert(thick, 2)
    spacing = np.ones(3)
    spacing[thick] = 3.0
    affine = oblique_affine()
    affine[:3, :3] = affine[:3, :3] / SPACING * spacing
    data = blob().transpose(order)
    assert data.shape[thick] == SHAPE[2]
    mask = write(tmp_path / "m.nii.gz", (data > 0).astype(np.uint8), affine)
    (loaded,) = load_stacks([write(tmp_path / "s.nii.gz", data, affine)], [mask])
    assert loaded.n_slices == SHAPE[2]
    assert loaded.thickness == pytest.approx(3.0)

    def brightest(values: np.ndarray, to_world: np.ndarray) -> np.ndarray:
        return apply_affine(to_world, np.unravel_index(np.argmax(values), values.shape))

    np.testing.assert_allclose(brightest(loaded.data, loaded.affine), brightest(data, affine), atol=1e-5)
    np.testing.assert_array_equal(loaded.mask, loaded.data > 0)


def test_overlapping_stacks_of_different_orientation_are_accepted(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.nii.gz", blob()), write(tmp_path / "b.nii.gz", blob(), oblique_affine())]
    moved = oblique_affine()
    moved[:3, 3] = 0
    paths[1] = write(tmp_path / "b.nii.gz", blob(), moved)
    assert [s.name for s in load_stacks(paths)] == ["a.nii.gz", "b.nii.gz"]


def test_thickness_comes_from_the_sidecar_first_and_the_log_says_so(
    stack: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack.with_name("stack.json").write_text(json.dumps({"SliceThickness": 2.5}))
    with caplog.at_level(logging.INFO, "slicesplat"):
        (loaded,) = load_stacks([stack])
    assert loaded.thickness == 2.5
    assert "stack.nii.gz: slice thickness 2.5 mm, from stack.json" in caplog.messages


def test_thickness_is_the_spacing_when_nothing_else_is_known_and_the_log_says_so(
    stack: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack.with_name("stack.json").write_text(json.dumps({"EchoTime": 0.09}))
    with caplog.at_level(logging.INFO, "slicesplat"):
        (loaded,) = load_stacks([stack])
    assert loaded.thickness == pytest.approx(3.0)
    assert any("distance between slices" in message for message in caplog.messages)


@pytest.mark.parametrize("given", [2.0, [2.0], (2.0, 2.0), np.array([2.0, 2.0])])
def test_one_thickness_is_for_all_stacks(stack: Path, given: float) -> None:
    assert [s.thickness for s in load_stacks([stack, stack], thicknesses=given)] == [2.0, 2.0]


def test_given_thickness_overrules_the_sidecar(stack: Path) -> None:
    stack.with_name("stack.json").write_text("not JSON")
    assert load_stacks([stack], thicknesses=4.0)[0].thickness == 4.0


@pytest.mark.parametrize("given", [[1.0, 2.0, 3.0], [1.0, 2.0]])
def test_wrong_number_of_thicknesses_is_refused(stack: Path, given: list[float]) -> None:
    stacks = [stack] * (5 - len(given))
    refused(lambda: load_stacks(stacks, thicknesses=given), "stack.nii.gz", "wrong number of thicknesses")


@pytest.mark.parametrize("given", [0.0, -3.0, float("nan"), float("inf")])
def test_thickness_that_is_not_positive_is_refused(stack: Path, given: float) -> None:
    refused(lambda: load_stacks([stack], thicknesses=given), "stack.nii.gz", "not positive")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"SliceThickness": 0}', "not positive"),
        ('{"SliceThickness": "thick"}', "cannot be read"),
        ('{"SliceThickness": [3]}', "cannot be read"),
        ("[1]", "cannot be read"),
        ("{", "is not readable JSON (line 1"),
    ],
)
def test_useless_sidecar_is_refused(stack: Path, text: str, problem: str) -> None:
    stack.with_name("stack.json").write_text(text)
    refused(lambda: load_stacks([stack]), "stack.json", problem)


def test_without_a_mask_the_region_is_what_is_not_zero_and_the_log_says_so(
    stack: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "slicesplat"):
        (loaded,) = load_stacks([stack])
    np.testing.assert_array_equal(loaded.mask, blob() != 0)
    assert "stack.nii.gz: no mask given, using its non-zero voxels" in caplog.messages


def test_mask_whose_header_was_rounded_is_accepted(stack: Path, tmp_path: Path) -> None:
    affine = plain_affine()
    affine[:3, :3] += 1e-4
    rounded = write(tmp_path / "m.nii.gz", (blob() > 0).astype(np.float64), affine)
    (loaded,) = load_stacks([stack], [rounded])
    np.testing.assert_array_equal(loaded.mask, blob() > 0)
    np.testing.assert_array_equal(loaded.affine, nib.load(stack).affine)


def test_single_mask_is_carried_to_the_other_stacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = write(tmp_path / "a.nii.gz", np.ones((40, 40, 20), np.float32), plain_affine((1, 1, 3), (0, 0, 0)))
    other_affine = plain_affine((1.5, 1.5, 4.0), (-20, -15, -10))
    second = write(tmp_path / "b.nii.gz", np.ones((60, 60, 30), np.float32), other_affine)
    inside = np.zeros((40, 40, 20), np.uint8)
    inside[0:10, 10:20, 8:12] = 1
    template = write(tmp_path / "mask.nii.gz", inside, plain_affine((1, 1, 3)))
    with caplog.at_level(logging.INFO, "slicesplat"):
        on_first, on_second = load_stacks([first, second], [template])
    np.testing.assert_array_equal(on_first.mask, inside > 0)
    # Box [0, 9] x [10, 19] x [24, 33] mm, 10 mm wider, also beyond the edge of the grid that it was drawn on.
    box = np.array([[0, 10, 24], [9, 19, 33]])
    reached = on_second.masked_points()
    voxel = on_second.spacing
    np.testing.assert_allclose(reached.min(axis=0), box[0] - 10, atol=voxel.max())
    np.testing.assert_allclose(reached.max(axis=0), box[1] + 10, atol=voxel.max())
    assert "b.nii.gz: mask carried over from a.nii.gz, 10 mm wider" in caplog.messages
    assert [on_first.carried, on_second.carried] == [False, True]


def test_wrong_number_of_masks_is_refused(stack: Path, mask: Path) -> None:
    refused(lambda: load_stacks([stack], [mask, mask]), "mask.nii.gz", "wrong number of masks, 2 for 1")
    refused(lambda: load_stacks([stack] * 3, [mask, mask]), "mask.nii.gz", "wrong number of masks, 2 for 3")


def test_single_mask_out_of_reach_is_refused(stack: Path, mask: Path, tmp_path: Path) -> None:
    far = write(tmp_path / "far.nii.gz", blob(), plain_affine(origin=(500, 0, 0)))
    refused(lambda: load_stacks([stack, far], [mask]), "mask.nii.gz", "does not reach far.nii.gz")


def test_mask_of_another_shape_is_refused(stack: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "m.nii.gz", np.ones((12, 10, 5), np.uint8))
    refused(lambda: load_stacks([stack], [other]), "m.nii.gz", "its shape")


def test_mask_of_another_affine_is_refused(stack: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "m.nii.gz", np.ones(SHAPE, np.uint8), plain_affine(origin=(1, 0, 0)))
    refused(lambda: load_stacks([stack], [other]), "m.nii.gz", "its affine")


def test_empty_mask_is_refused(stack: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "m.nii.gz", np.zeros(SHAPE, np.uint8))
    refused(lambda: load_stacks([stack], [other]), "m.nii.gz", "empty")


def test_mask_with_nan_is_refused(stack: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "m.nii.gz", np.full(SHAPE, np.nan, np.float32))
    refused(lambda: load_stacks([stack], [other]), "m.nii.gz", "NaN")


def test_empty_stack_is_refused(tmp_path: Path) -> None:
    refused(lambda: load_stacks([write(tmp_path / "s.nii.gz", 0 * blob())]), "s.nii.gz", "every voxel is zero")


def test_missing_file_is_refused(stack: Path, tmp_path: Path) -> None:
    refused(lambda: load_stacks([tmp_path / "none.nii.gz"]), "none.nii.gz", "no such file")
    refused(lambda: load_stacks([stack], [tmp_path / "none.nii.gz"]), "none.nii.gz", "no such file")
    refused(lambda: load_stacks([tmp_path]), str(tmp_path), "is a folder")


def test_no_stack_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="no stack given"):
        load_stacks([])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.txt", "a.png"])
@pytest.mark.parametrize("content", [b"", b"not an image", b"x" * 5000])
def test_what_is_not_nifti_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: load_stacks([tmp_path / name]), name, "NIfTI")


def test_another_image_format_is_refused(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(blob(), plain_affine()), tmp_path / "a.mgz")
    refused(lambda: load_stacks([tmp_path / "a.mgz"]), "a.mgz", "not NIfTI")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_gzip_is_refused(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    path = write(tmp_path / "s.nii.gz", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"s\.nii\.gz: .*(truncated|not a readable NIfTI).*; "):
        load_stacks([path])


def test_truncated_uncompressed_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii", blob())
    path.write_bytes(path.read_bytes()[:1000])
    refused(lambda: load_stacks([path]), "s.nii", "cannot be read whole")


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.nii.gz"
    content = bytearray(gzip.compress(write(tmp_path / "s.nii", blob()).read_bytes()))
    content[len(content) // 2] ^= 0xFF
    content[len(content) // 2 + 1] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"s\.nii\.gz"):
        load_stacks([path])


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 6, 2), (12, 10, 6, 1, 3)])
def test_what_is_not_three_dimensional_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write(tmp_path / "s.nii.gz", np.ones(shape, np.float32))
    refused(lambda: load_stacks([path]), "s.nii.gz", "dimensions")


@pytest.mark.parametrize(("slices", "told"), [(1, "holds a single slice"), (2, "has only 2 slices")])
def test_two_slices_or_fewer_are_refused(tmp_path: Path, slices: int, told: str) -> None:
    path = write(tmp_path / "s.nii.gz", np.ones((12, 10, slices), np.float32))
    refused(lambda: load_stacks([path]), "s.nii.gz", told)


def test_colours_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii.gz", np.ones(SHAPE, np.complex64))
    refused(lambda: load_stacks([path]), "s.nii.gz", "complex")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused_inside_the_mask_only(tmp_path: Path, mask: Path, value: float) -> None:
    inside, outside = blob(), blob()
    inside[5, 5, 3] = value
    outside[0, 0, 0] = value
    bad = write(tmp_path / "bad.nii.gz", inside)
    good = write(tmp_path / "good.nii.gz", outside)
    refused(lambda: load_stacks([bad], [mask]), "bad.nii.gz", "NaN or infinite")
    refused(lambda: load_stacks([good]), "good.nii.gz", "NaN or infinite")
    (loaded,) = load_stacks([good], [mask])
    assert loaded.data[0, 0, 0] == 0


def sheared() -> np.ndarray:
    affine = plain_affine()
    affine[0, 1] = 0.1
    return affine


def flat() -> np.ndarray:
    affine = plain_affine()
    affine[:3, 2] = affine[:3, 1]
    return affine


@pytest.mark.parametrize(
    ("affine", "problem"),
    [
        (sheared(), "sheared"),
        (flat(), "singular"),
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.full((4, 4), np.nan), "singular"),
    ],
    ids=["sheared", "flat", "zero axis", "nan"],
)
def test_useless_affine_is_refused(tmp_path: Path, affine: np.ndarray, problem: str) -> None:
    image = nib.Nifti1Image(blob(), None)
    for name, row in zip(("srow_x", "srow_y", "srow_z"), affine, strict=False):
        image.header[name] = row
    image.header["sform_code"] = 1
    image.to_filename(tmp_path / "s.nii.gz")
    refused(lambda: load_stacks([tmp_path / "s.nii.gz"]), "s.nii.gz", problem)


def test_stack_that_overlaps_no_other_is_refused_by_name(tmp_path: Path) -> None:
    near = [write(tmp_path / f"near-{i}.nii.gz", blob()) for i in range(2)]
    far = write(tmp_path / "far.nii.gz", blob(), plain_affine(origin=(500, 0, 0)))
    for order in ([far, *near], [*near, far]):
        refused(lambda paths=order: load_stacks(paths), "far.nii.gz", "does not overlap")


def test_a_refusal_is_the_only_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    far = write(tmp_path / "far.nii.gz", blob(), plain_affine(origin=(500, 0, 0)))
    near = write(tmp_path / "near.nii.gz", blob())
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError):
        load_stacks([near, far])
    assert not caplog.messages
