"""Images from NIfTI files, volumes and stacks to NIfTI files.

World coordinates are nibabel's: RAS+ millimetres, the sform where it is set, else the qform. A file is
checked before it is used and refused with an `InputError`; nothing is repaired silently.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.io.atomic import atomic_path
from slicesplat.stack import Stack

FilePath: TypeAlias = str | PathLike[str]
Float = NDArray[np.float64]

MAX_SHEAR = 1e-3
"""Largest cosine between two voxel axes: above a header's rounding, yet below 0.2 mm over 200 mm."""
SAME_GRID = 0.1
"""Two grids are the same when no corner is further apart than this part of a voxel: headers are rounded."""
CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Image:
    """A checked grid with its values.

    Attributes
    ----------
    path : Path
        The file that it was read from.
    data : (nx, ny, nz) float32
    affine : (4, 4) float64
        Voxel index to world, mm RAS+.
    slice_axis : int
        The file's axis that is the third one here.
    """

    path: Path
    data: NDArray[np.float32]
    affine: Float
    slice_axis: int = 2

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def spacing(self) -> Float:
        """(3,) mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def with_axis_last(self, axis: int) -> Image:
        """The same voxels in the same places of the world, with `axis` as the third."""
        if axis == 2:
            return self
        order = [a for a in range(3) if a != axis] + [axis]
        data = np.ascontiguousarray(self.data.transpose(order))
        return replace(self, data=data, affine=self.affine[:, [*order, 3]], slice_axis=axis)

    def same_grid(self, other: Image) -> bool:
        """Whether the voxels of both lie at the same places, but for a header's rounding."""
        if self.data.shape != other.data.shape:
            return False
        corners = box_corners(np.zeros(3), np.array(self.data.shape) - 1.0)
        apart = corners @ (self.affine - other.affine)[:3, :3].T + (self.affine - other.affine)[:3, 3]
        return bool(np.linalg.norm(apart, axis=1).max() <= SAME_GRID * other.spacing.min())


def read_image(path: Path) -> Image:
    """Read a 3-D image and check it; a fourth axis of length one is dropped.

    Parameters
    ----------
    path : Path
        A NIfTI file.

    Raises
    ------
    InputError
        The file is missing, damaged or not NIfTI, holds no plain intensities or not three dimensions, or its geometry
        is sheared or singular.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a NIfTI file")
    if path.suffix == ".gz":
        _check_gzip(path)
    try:
        with LoggingOutputSuppressor():
            image = nib.load(path)
            if not isinstance(image, nib.Nifti1Pair):
                raise InputError(f"{path}: is not NIfTI; convert it to .nii.gz first")
            if image.get_data_dtype().kind not in "iufb":
                raise InputError(f"{path}: holds colours or complex numbers; give plain intensities")
            data = np.asarray(image.dataobj, dtype=np.float32)
    except ImageFileError as error:
        raise InputError(f"{path}: is not a readable NIfTI file; check it or convert it to .nii.gz") from error
    except HeaderDataError as error:
        raise InputError(f"{path}: its header is damaged; convert it again from the original") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read whole; check permissions, or copy it again") from error
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise InputError(f"{path}: has {data.ndim} dimensions; give one 3-D stack per file")
    affine = np.asarray(image.affine, dtype=np.float64)
    _check_affine(path, affine)
    return Image(path, data, affine)


def load_volume(path: FilePath) -> nib.Nifti1Image:
    """Read a volume.

    Parameters
    ----------
    path : path
        A NIfTI file.

    Returns
    -------
    nibabel image
        float32, the header's scaling applied; geometry only, nothing else of the header.

    Raises
    ------
    InputError
        As `read_image`, or a value is not finite.
    """
    image = read_image(Path(path))
    if not np.isfinite(image.data).all():
        raise InputError(f"{path}: has NaN or infinite values; replace them, by 0 outside the region")
    return nib.Nifti1Image(image.data, image.affine)


def save_volume(image: nib.Nifti1Image, path: FilePath) -> None:
    """Write a volume as float32 NIfTI, whole or not at all.

    The header is new: geometry and units, nothing that came with an input. The same values give the same
    bytes.

    Parameters
    ----------
    image : nibabel image
        Its affine, a rotation with spacings in mm, becomes both sform and qform.
    path : path
        Ends in .nii or .nii.gz.
    """
    volume = nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    volume.header.set_xyzt_units("mm")
    volume.set_sform(image.affine, code=1)
    volume.set_qform(image.affine, code=1)
    with atomic_path(path) as temporary:
        nib.save(volume, temporary)


def save_stack(stack: Stack, path: FilePath) -> None:
    """Write a stack as float32 NIfTI on the grid of the file that it was read from, whole or not at all.

    Parameters
    ----------
    stack : Stack
        Its `slice_axis` says how the axes of the file were ordered: a mask drawn on the original fits what is written.
    path : path
        Ends in .nii or .nii.gz.
    """
    order = np.insert([0, 1], stack.slice_axis, 2)
    save_volume(nib.Nifti1Image(stack.data.transpose(order), stack.affine[:, [*order, 3]]), path)


def _check_gzip(path: Path) -> None:
    """Read to the end, where the checksum is: nibabel stops before it and takes damaged values for good."""
    try:
        with gzip.open(path) as content:
            while content.read(CHUNK):
                pass
    except EOFError as error:
        raise InputError(f"{path}: ends too early (truncated gzip); copy or export it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: is not NIfTI, or a damaged gzip; copy or export it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _check_affine(path: Path, affine: Float) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of the unit axes, so that the test does not depend on the voxel size.
    if (
        not np.isfinite(affine).all()
        or (spacing == 0).any()
        or abs(np.linalg.det(affine[:3, :3] / spacing)) < MAX_SHEAR
    ):
        raise InputError(f"{path}: its affine is singular; convert it again, or set a valid sform or qform")
    axes = affine[:3, :3] / spacing
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > MAX_SHEAR:
        raise InputError(f"{path}: its affine is sheared; resample it to a grid with right angles")


def box_corners(low: Iterable[float], high: Iterable[float]) -> Float:
    """The eight corners (8, 3) of a box."""
    return np.array(list(itertools.product(*zip(low, high, strict=True))))
