"""NIfTI headers: what a file claims, refused before memory is asked for or geometry is believed.

The fields are those of nifti1.h and nifti2.h; nibabel reads them without its own checks, which repair silently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np
from nibabel.nifti2 import Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from slicesplat.errors import InputError

Float = NDArray[np.float64]
Source: TypeAlias = Path | str
"""What messages are about: a file, or what the caller calls an image in memory."""

HEADER_BYTES = 540
"""Of NIfTI-2; those of NIfTI-1 are fewer."""
MAX_VOXELS = 512**3
"""As many as the largest clinical 3-D scans have; half a GiB as float32."""
MAX_DIMENSIONS = 7
MIN_SPACING, MAX_SPACING = 0.05, 20.0
"""mm between voxels: from preclinical scanners to localisers."""
MAX_EXTENT = 2000.0
"""mm: nothing longer fits a scanner."""
MAX_OFFSET = 10_000.0
"""mm from the world's origin: further away float32 places a voxel no better than to 0.001 mm."""
MAX_SHEAR = 1e-3
"""Largest cosine between two voxel axes: above a header's rounding, yet below 0.2 mm over 200 mm."""
MAX_QUATERNION = 1.002
"""Squared length of a qform's quaternion that was rounded to three decimals."""

ONE_VOLUME = "give one 3-D image per file, split it as by fslsplit or mrconvert"
"""What to do about a file of several volumes, as a rule."""

_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
"""Spatial part of xyzt_units, and mm in one of them. Every other code is read as mm, as most files leave it unset."""
_SPATIAL_UNIT = 0b111


def parse_header(path: Path, content: bytes, single: bool, remedy: str | None = ONE_VOLUME) -> nib.Nifti1Header:
    """The header that a file begins with.

    Parameters
    ----------
    path : Path
        For messages.
    content : bytes
        The first `HEADER_BYTES` of the file, or all if there are fewer.
    single : bool
        The voxels follow in the same file.
    remedy : str or None
        As for `check_shape`.

    Raises
    ------
    InputError
        It is no NIfTI header, or gives no three dimensions, no plain intensities or more voxels than can be read.
    """
    header = _recognised(path, content, single)
    _check_shape(path, header, remedy)
    _check_values(path, header)
    return header


def voxel_offset(path: Path, header: nib.Nifti1Header) -> int:
    """Where in their file the voxels begin, bytes."""
    first = header.single_vox_offset if header.is_single else header.pair_vox_offset
    offset = float(header["vox_offset"])
    if offset == 0:
        return first
    # A file longer than this cannot exist; it is also what fits the integers below nibabel.
    if not first <= offset < 2.0**63:
        raise InputError(f"{path}: its header is damaged (vox_offset); convert it again from the original")
    return int(offset)


def affine_of(path: Path, header: nib.Nifti1Header) -> tuple[Float, list[str]]:
    """Voxel index to world, (4, 4), mm RAS+: the sform where it is set, else the qform; and what to tell about it.

    Raises
    ------
    InputError
        Neither is set; it is singular or sheared; voxels or the whole are too small or large to be measured in mm.
    """
    notes = []
    if header["sform_code"] > 0:
        affine = header.get_sform()
    elif header["qform_code"] > 0:
        affine, rounded = _qform(path, header)
        if rounded:
            notes.append("the quaternion of its qform was longer than one by rounding and was normalised")
    else:
        raise InputError(
            f"{path}: its header does not say how the image lies (sform and qform code 0); "
            "convert it again from the original, or copy the geometry of an image on the same grid"
        )
    affine, converted = in_millimetres(path, affine, header["dim"][1:4], int(header["xyzt_units"]))
    return affine, notes + converted


def in_millimetres(
    source: Source, affine: Float, shape: Sequence[int] | NDArray[np.integer], units: int = 0
) -> tuple[Float, list[str]]:
    """An affine (4, 4) in mm, checked to be one of a scan, and what to tell about it; the one given stays as it is.

    Parameters
    ----------
    source : Path or str
        For messages.
    affine : (4, 4)
        Voxel index to world, RAS+.
    shape : (3,)
        Voxels along each axis.
    units : int
        What the lengths are in, as the header's xyzt_units has it.

    Raises
    ------
    InputError
        It is singular or sheared; voxels or the whole are too small or large to be measured in mm.
    """
    affine, notes = np.array(affine, dtype=np.float64), []
    unit, factor = _UNITS.get(units & _SPATIAL_UNIT, ("mm", 1.0))
    if unit != "mm":
        affine[:3] *= factor
        notes.append(f"its header gives lengths in {unit}, converted to mm")
    _check_axes(source, affine)
    _check_lengths(source, affine, np.asarray(shape), unit)
    return affine, notes


def check_shape(source: Source, shape: Sequence[int], remedy: str | None = ONE_VOLUME) -> None:
    """Refuse what is no 3-D image, but for further axes of length one, or has more voxels than can be read.

    Parameters
    ----------
    source : Path or str
        For messages.
    shape : sequence of int
    remedy : str or None
        What to do about several volumes; None: nothing, they are accepted.

    Raises
    ------
    InputError
    """
    count = len(shape)
    if remedy and count > 3 and math.prod(shape[3:]) > 1:
        raise InputError(f"{source}: has {count} dimensions, {math.prod(shape[3:])} volumes; {remedy}")
    if count < 3:
        raise InputError(f"{source}: has {count} dimensions; give one 3-D image per file")
    if math.prod(shape) > MAX_VOXELS:
        raise InputError(
            f"{source}: has {math.prod(shape) / 1e6:.0f} million voxels, more than {MAX_VOXELS / 1e6:.0f} million; "
            "check its header, or crop it to the region"
        )


def check_intensities(source: Source, dtype: np.dtype) -> None:
    """Refuse values that are no plain numbers."""
    if dtype.kind not in "iufb":
        raise InputError(f"{source}: holds colours or complex numbers; give plain intensities")


def stated_axis(header: nib.Nifti1Header) -> int | None:
    """The axis that dim_info names as the one that slices lie along, 0 to 2; None where it is not told."""
    axis: int | None = header.get_dim_info()[2]
    return axis


def _recognised(path: Path, content: bytes, single: bool) -> nib.Nifti1Header:
    if content[344:347] in (b"n+1", b"ni1"):
        kind = nib.Nifti1Header if single else nib.nifti1.Nifti1PairHeader
    elif content[4:7] in (b"n+2", b"ni2"):
        kind = nib.Nifti2Header if single else Nifti2PairHeader
    elif nib.AnalyzeHeader.may_contain_header(content):
        raise InputError(
            f"{path}: is Analyze 7.5, not NIfTI, and does not say how the image lies; "
            "convert the original to .nii.gz instead"
        )
    else:
        raise InputError(f"{path}: is not NIfTI, or is damaged; convert the original to .nii.gz again")
    if len(content) < kind.sizeof_hdr:
        raise InputError(f"{path}: is not NIfTI, too short for a header; copy or export it again")
    return kind(content[: kind.sizeof_hdr], check=False)


def _check_shape(path: Path, header: nib.Nifti1Header, remedy: str | None) -> None:
    count = int(header["dim"][0])
    shape = [int(length) for length in header["dim"][1 : count + 1]]
    if not 1 <= count <= MAX_DIMENSIONS or min(shape) < 1:
        raise InputError(f"{path}: its header is damaged (dim); convert it again from the original")
    check_shape(path, shape, remedy)


def _check_values(path: Path, header: nib.Nifti1Header) -> None:
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        # A code that nifti1.h does not know; one that numpy has no type for comes as an empty type.
        dtype = np.dtype("V")
    if dtype.kind == "V" and dtype.fields is None:
        raise InputError(
            f"{path}: its kind of numbers (datatype {int(header['datatype'])}) cannot be read; save it as float32"
        )
    check_intensities(path, dtype)
    try:
        header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(f"{path}: its header is damaged (scl_inter); convert it again from the original") from error


def _qform(path: Path, header: nib.Nifti1Header) -> tuple[Float, bool]:
    """The qform's affine, and whether its quaternion had to be normalised."""
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    length = float(vector @ vector)
    spacing = header["pixdim"][1:4]
    # NaN fails these too. What is not finite in the offset is found with the affine.
    if not length <= MAX_QUATERNION or not (spacing > 0).all():
        raise InputError(f"{path}: its qform is damaged; convert it again, or set a valid sform")
    # Below this nibabel takes the missing part for zero.
    rounded = length > 1 + abs(header.quaternion_threshold)
    if rounded:
        for axis, value in zip("bcd", vector / math.sqrt(length), strict=True):
            header[f"quatern_{axis}"] = value
    # nifti1.h: only the sign counts, and 0 is to be taken for 1.
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    return header.get_qform(), rounded


def _check_axes(source: Source, affine: Float) -> None:
    """Refuse a singular or sheared affine."""
    with np.errstate(over="ignore", invalid="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of the unit axes, so that the test does not depend on the voxel size.
    if (
        not np.isfinite(affine).all()
        or not np.isfinite(spacing).all()
        or (spacing == 0).any()
        or abs(np.linalg.det(affine[:3, :3] / spacing)) < MAX_SHEAR
    ):
        raise InputError(f"{source}: its affine is singular; convert it again, or set a valid sform or qform")
    axes = affine[:3, :3] / spacing
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > MAX_SHEAR:
        raise InputError(f"{source}: its affine is sheared; resample it to a grid with right angles")


def _check_lengths(source: Source, affine: Float, shape: NDArray[np.integer], unit: str) -> None:
    """Refuse lengths that no scanner makes: they were measured in something else than mm."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not _plausible(spacing):
        lengths = " x ".join(f"{length:.3g}" for length in spacing)
        raise InputError(f"{source}: has voxels of {lengths} mm; {_unit_remedy(spacing, unit)}")
    extent = float((spacing * shape).max())
    if extent > MAX_EXTENT:
        raise InputError(f"{source}: is {extent:.0f} mm long; check its voxel size and its header's dimensions")
    offset = float(np.abs(affine[:3, 3]).max())
    if offset > MAX_OFFSET:
        raise InputError(f"{source}: lies {offset:.3g} mm from the world's origin; check the offset in its header")


def _plausible(spacing: Float) -> bool:
    return bool((spacing >= MIN_SPACING).all() and (spacing <= MAX_SPACING).all())


def _unit_remedy(spacing: Float, unit: str) -> str:
    if unit != "mm":
        mistaken = f"its header says {unit}, " + ("are they mm? " if _plausible(spacing / _factor(unit)) else "")
        return f"{mistaken}correct its unit (xyzt_units)"
    for code, (name, factor) in _UNITS.items():
        if _plausible(spacing * factor):
            return f"are they in {name}? set the unit in its header (xyzt_units {code}), or give mm"
    return "correct its header, or convert it again from the original"


def _factor(unit: str) -> float:
    return next(factor for name, factor in _UNITS.values() if name == unit)
