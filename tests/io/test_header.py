"""A header is believed only where it can be true."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import blob, edited, oblique_affine, plain_affine, refused, write

from slicesplat.io.masks import load_masked_volume
from slicesplat.io.nifti import load_volume, read_image
from slicesplat.prepare.load import load_stacks

NAN, INF = float("nan"), float("inf")
# Bytes of the fields in nifti1.h.
DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE, INTER, UNITS = 40, 70, 72, 76, 108, 112, 116, 123
QFORM_CODE, SFORM_CODE, QUATERNION, SROW, MAGIC = 252, 254, 256, 280, 344
METRE, MILLIMETRE, MICROMETRE, SECOND = 1, 2, 3, 8


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return write(tmp_path / "s.nii", blob())


def qform_only(path: Path, *quaternion: float) -> Path:
    edited(edited(path, SFORM_CODE, "h", 0), QFORM_CODE, "h", 1)
    return edited(path, QUATERNION, "3f", *quaternion)


def in_unit(path: Path, millimetres: float, unit: int) -> Path:
    """A stack whose geometry is given in a unit of so many mm."""
    affine = oblique_affine()
    affine[:3] /= millimetres
    return edited(write(path, blob(), affine), UNITS, "b", unit)


# --- kinds of files


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (nib.Nifti1Image, "s.nii.gz"),
        (nib.Nifti2Image, "s.nii.gz"),
        (nib.Nifti1Pair, "s.hdr"),
        (nib.Nifti1Pair, "s.img"),
        (nib.Nifti1Pair, "s.img.gz"),
        (nib.nifti2.Nifti2Pair, "s.HDR"),
        (nib.Nifti1Image, "S.NII"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_of_nifti_is_read_alike(tmp_path: Path, kind: type[nib.Nifti1Pair], name: str, order: str) -> None:
    image = kind(blob(), oblique_affine(), kind.header_class(endianness=order))
    nib.save(image, tmp_path / name)
    read = read_image(tmp_path / name)
    np.testing.assert_array_equal(read.data, blob())
    np.testing.assert_array_equal(read.affine, nib.load(tmp_path / name).affine)


@pytest.mark.parametrize("lost", ["s.img", "s.hdr"])
def test_half_of_a_pair_is_refused(tmp_path: Path, lost: str) -> None:
    nib.save(nib.Nifti1Pair(blob(), plain_affine()), tmp_path / "s.hdr")
    (tmp_path / lost).unlink()
    for name in ("s.hdr", "s.img"):
        refused(lambda name=name: read_image(tmp_path / name), lost, "no such file")


def test_analyze_is_refused_by_name(tmp_path: Path, stack: Path) -> None:
    nib.save(nib.AnalyzeImage(blob(), None), tmp_path / "a.hdr")
    refused(lambda: read_image(tmp_path / "a.img"), "a.img", "is Analyze 7.5, not NIfTI")
    refused(lambda: read_image(edited(stack, MAGIC, "4s", b"")), "s.nii", "is Analyze 7.5, not NIfTI")


# --- fields


@pytest.mark.parametrize(
    ("field", "layout", "values", "told"),
    [
        (DIM, "h", [0], "(dim)"),
        (DIM, "h", [8], "(dim)"),
        (DIM, "h", [-3], "(dim)"),
        (DIM, "2h", [3, -12], "(dim)"),
        (DIM, "4h", [3, -1, 1, 1], "(dim)"),
        (DIM, "4h", [3, 12, 10, 0], "(dim)"),
        (DIM, "5h", [4, 12, 10, 6, 0], "(dim)"),
        (DIM, "5h", [4, 12, 10, 3, 2], "has 4 dimensions, 2 volumes; give one 3-D image per file, split it"),
        (DIM, "6h", [5, 12, 10, 3, 1, 2], "has 5 dimensions, 2 volumes"),
        (DIM, "3h", [2, 12, 10], "has 2 dimensions"),
        (DATATYPE, "2h", [0, 0], "datatype 0"),
        (DATATYPE, "2h", [77, 32], "datatype 77"),
        (DATATYPE, "2h", [-4, 32], "datatype -4"),
        (DATATYPE, "2h", [32, 64], "colours or complex"),
        (DATATYPE, "2h", [128, 24], "colours or complex"),
        (INTER, "f", [NAN], "(scl_inter)"),
        (VOX_OFFSET, "f", [NAN], "(vox_offset)"),
        (VOX_OFFSET, "f", [INF], "(vox_offset)"),
        (VOX_OFFSET, "f", [-352.0], "(vox_offset)"),
        (VOX_OFFSET, "f", [348.0], "(vox_offset)"),
        (VOX_OFFSET, "f", [1e18], "cannot be read whole"),
        (VOX_OFFSET, "f", [1e30], "(vox_offset)"),
        (VOX_OFFSET, "f", [353.0], "cannot be read whole"),
        (SROW, "f", [NAN], "its affine is singular"),
        (SROW, "f", [INF], "its affine is singular"),
        (SROW, "f", [3e38], "voxels of"),
        (SROW, "12f", [0.0] * 12, "its affine is singular"),
        (SROW, "4f", [1.0, 0, 0, NAN], "its affine is singular"),
    ],
)
def test_a_damaged_field_is_refused_by_name(
    stack: Path, field: int, layout: str, values: list[float], told: str
) -> None:
    edited(stack, SLOPE, "f", 1.0)
    refused(lambda: read_image(edited(stack, field, layout, *values)), "s.nii", told)


@pytest.mark.parametrize(
    ("field", "layout", "values"),
    [
        (SLOPE, "f", [NAN]),
        (SLOPE, "f", [INF]),
        (SLOPE, "f", [0.0]),
        (BITPIX, "h", [8]),
        (VOX_OFFSET, "f", [0.0]),
        (PIXDIM, "4f", [0.0, NAN, -1.0, 0.0]),
        (348, "4b", [1, 0, 0, 0]),
        (DIM, "6h", [5, 12, 10, 6, 1, 1]),
        (MAGIC, "4s", [b"ni1"]),
    ],
)
def test_a_field_that_nothing_hangs_on_is_no_fault(stack: Path, field: int, layout: str, values: list[float]) -> None:
    read = read_image(edited(stack, field, layout, *values))
    np.testing.assert_array_equal(read.data, blob())
    np.testing.assert_array_equal(read.affine, plain_affine())


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float64, np.int8, np.uint32])
def test_every_kind_of_number_is_read(tmp_path: Path, dtype: type[np.generic]) -> None:
    values = (blob() / 10).astype(dtype)
    nib.save(nib.Nifti1Image(values, plain_affine(), dtype=dtype), tmp_path / "s.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "s.nii").data, values.astype(np.float32))


# --- orientation


def test_a_header_without_orientation_is_refused(stack: Path) -> None:
    refused(lambda: read_image(edited(stack, SFORM_CODE, "h", 0)), "s.nii", "does not say how the image lies")
    refused(lambda: load_stacks([stack]), "s.nii", "sform and qform code 0")
    refused(lambda: load_volume(stack), "s.nii", "convert it again from the original")


@pytest.mark.parametrize("quaternion", [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (1.0000001, 0.0, 0.0)])
@pytest.mark.parametrize("handedness", [1.0, -1.0])
def test_a_qform_alone_is_what_nibabel_makes_of_it(
    stack: Path, quaternion: tuple[float, ...], handedness: float
) -> None:
    edited(qform_only(stack, *quaternion), PIXDIM, "f", handedness)
    image = read_image(stack)
    np.testing.assert_array_equal(image.affine, nib.load(stack).affine)
    assert not image.notes


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_quaternion_longer_than_one_by_rounding_is_normalised_and_told(
    tmp_path: Path, kind: type[nib.Nifti1Image], caplog: pytest.LogCaptureFixture
) -> None:
    for half in np.radians(np.arange(0.5, 90, 1.0)):
        image = kind(blob(), plain_affine())
        image.header["qform_code"] = 1
        image.header["sform_code"] = 0
        image.header["pixdim"][:4] = 1, 1, 1, 3
        exact = np.array([np.cos(half), np.sin(half), 0.0])
        for name, value in zip("bcd", np.round(exact, 5), strict=True):
            image.header[f"quatern_{name}"] = value
        image.header["qoffset_x"] = 0
        (tmp_path / "s.nii").write_bytes(image.header.binaryblock + b"\0" * 4 + blob().tobytes(order="F"))
        # Half a turn about that axis, to the angle that the rounding leaves open.
        turn = 2 * np.outer(exact, exact) - np.eye(3)
        np.testing.assert_allclose(read_image(tmp_path / "s.nii").affine[:3, :3], turn @ np.diag([1, 1, 3]), atol=0.02)
    edited(tmp_path / "s.nii", 0, "i", 348)
    path = qform_only(write(tmp_path / "t.nii", blob()), 0.70712, 0.70712, 0.0)
    with caplog.at_level(logging.INFO, "slicesplat"):
        load_stacks([path])
    assert any("t.nii: the quaternion of its qform" in message for message in caplog.messages)


@pytest.mark.parametrize("quaternion", [(0.8, 0.8, 0.0), (NAN, 0.0, 0.0), (0.0, INF, 0.0), (3e38, 0.0, 0.0)])
def test_a_quaternion_that_is_no_rotation_is_refused(stack: Path, quaternion: tuple[float, ...]) -> None:
    refused(lambda: read_image(qform_only(stack, *quaternion)), "s.nii", "its qform is damaged")


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 0.0), (1.0, -1.0, 3.0), (1.0, NAN, 3.0)])
def test_a_qform_without_positive_spacing_is_refused(stack: Path, spacing: tuple[float, ...]) -> None:
    edited(qform_only(stack, 0.0, 0.0, 0.0), PIXDIM + 4, "3f", *spacing)
    refused(lambda: read_image(stack), "s.nii", "its qform is damaged")


@pytest.mark.parametrize(("qfac", "sign"), [(0.0, 1.0), (-1.0, -1.0), (1.0, 1.0)])
def test_of_qfac_only_the_sign_counts(stack: Path, qfac: float, sign: float) -> None:
    edited(qform_only(stack, 0.0, 0.0, 0.0), PIXDIM, "f", qfac)
    assert read_image(stack).affine[2, 2] == pytest.approx(3 * sign)


# --- units and lengths


@pytest.mark.parametrize(
    ("millimetres", "unit", "name"),
    [
        (1e3, METRE, "metres"),
        (1e3, METRE | SECOND, "metres"),
        (1e-3, MICROMETRE, "micrometres"),
        (1e-3, MICROMETRE | 3 * SECOND, "micrometres"),
    ],
)
def test_lengths_in_another_unit_are_converted_and_told(
    tmp_path: Path, millimetres: float, unit: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = in_unit(tmp_path / "s.nii", millimetres, unit)
    mask = in_unit(tmp_path / "m.nii", millimetres, unit)
    with caplog.at_level(logging.INFO, "slicesplat"):
        (stack,) = load_stacks([path], [mask])
    np.testing.assert_allclose(stack.affine, oblique_affine(), rtol=1e-6, atol=1e-5)
    assert stack.thickness == pytest.approx(3.0)
    assert f"s.nii: its header gives lengths in {name}, converted to mm" in caplog.messages
    volume, _, _ = load_masked_volume(path, mask)
    np.testing.assert_allclose(volume.affine, oblique_affine(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("unit", [0, MILLIMETRE, SECOND, MILLIMETRE | SECOND, 5, 7, -1])
def test_every_other_unit_is_millimetres(tmp_path: Path, unit: int) -> None:
    image = read_image(in_unit(tmp_path / "s.nii", 1.0, unit))
    np.testing.assert_allclose(image.affine, oblique_affine(), rtol=1e-6, atol=1e-6)
    assert not image.notes


@pytest.mark.parametrize(
    ("millimetres", "unit", "told"),
    [
        (1e3, 0, "0.001 x 0.001 x 0.003 mm; are they in metres?"),
        (1e-3, MILLIMETRE, "1e+03 x 1e+03 x 3e+03 mm; are they in micrometres?"),
        (1.0, METRE, "its header says metres, are they mm?"),
        (1.0, MICROMETRE, "its header says micrometres, are they mm?"),
        (1e6, METRE, "correct its unit"),
        (1e-9, 0, "correct its header"),
    ],
)
def test_voxels_that_no_scanner_makes_are_refused_with_their_likely_unit(
    tmp_path: Path, millimetres: float, unit: int, told: str
) -> None:
    refused(lambda: read_image(in_unit(tmp_path / "s.nii", millimetres, unit)), "s.nii", told)


@pytest.mark.parametrize("spacing", [(1.0, 0.001, 3.0), (1.0, 1e-10, 1.0), (1.0, 1.0, 30.0), (0.04, 1.0, 1.0)])
def test_one_implausible_spacing_is_enough(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    refused(lambda: read_image(write(tmp_path / "s.nii", blob(), plain_affine(spacing))), "s.nii", "has voxels of")


def test_what_is_longer_than_a_scanner_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii", np.ones((150, 4, 4), np.float32), plain_affine((15.0, 15.0, 15.0)))
    refused(lambda: read_image(path), "s.nii", "is 2250 mm long")


def test_a_stack_that_is_smaller_than_any_brain_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii", np.ones((31, 28, 15), np.float32), plain_affine((0.11, 0.11, 0.33)))
    refused(lambda: load_stacks([path]), "s.nii", "is only 4.95 mm long; are its lengths in centimetres?")


@pytest.mark.parametrize("offset", [1.1e4, -1e7, 1e30])
def test_what_lies_far_from_the_scanner_is_refused(tmp_path: Path, offset: float) -> None:
    path = write(tmp_path / "s.nii", blob(), plain_affine(origin=(0, offset, 0)))
    refused(lambda: read_image(path), "s.nii", "from the world's origin")


# --- nothing personal


def test_a_refusal_repeats_no_text_of_the_header(tmp_path: Path, stack: Path) -> None:
    for field, size in ((148, 80), (228, 24), (328, 16), (14, 18)):
        edited(stack, field, f"{size}s", b"Jane Doe")
    edited(stack, SFORM_CODE, "h", 0)
    with pytest.raises(ValueError, match="sform") as caught:
        load_stacks([stack])
    assert "Jane" not in str(caught.value)
