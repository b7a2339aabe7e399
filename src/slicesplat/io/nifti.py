"""Images from NIfTI files, volumes and stacks to NIfTI files.

World coordinates are RAS+ millimetres, the sform where it is set, else the qform. A file is checked before it is used
and refused with an `InputError`; nothing is repaired silently.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TypeAlias, TypeVar

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import DTypeLike, NDArray

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.atomic import atomic_path
from slicesplat.io.compressed import opened, opened_whole
from slicesplat.io.header import HEADER_BYTES, ONE_VOLUME, affine_of, parse_header, stated_axis, voxel_offset
from slicesplat.io.inputs import check_input, is_dicom

FilePath: TypeAlias = str | PathLike[str]
Float = NDArray[np.float64]
Read = TypeVar("Read")

SAME_GRID = 0.1
"""Two grids are the same when no corner is further apart than this part of a voxel: headers are rounded."""

_READERS = 2  # files read at a time: decompressed twice as fast they are no longer what a run waits for
_NAME = re.compile(r"\.(nii|hdr|img)(\.gz|\.bz2)?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Image:
    """A checked grid with its values.

    Attributes
    ----------
    path : Path or None
        The file that it was read from; None for an image in memory.
    data : (nx, ny, nz) float32
    affine : (4, 4) float64
        Voxel index to world, mm RAS+.
    slice_axis : int
        The file's axis that is the third one here.
    stated_axis : int, optional
        The file's axis that slices lie along as the header has it (dim_info); None where it does not say.
    notes : tuple of str
        What to tell about how the header was read.
    label : str
        What to call the image in messages; its file's name where it is empty.
    """

    path: Path | None
    data: NDArray[np.float32]
    affine: Float
    slice_axis: int = 2
    stated_axis: int | None = None
    notes: tuple[str, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.label or (self.path.name if self.path else "image")

    @property
    def source(self) -> Path | str:
        """What a refusal begins with: the file, or the name of an image in memory."""
        return self.path or self.name

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
    """Read a 3-D image and check it; further axes of length one are dropped.

    Nothing is asked for or believed before it is checked: the header's claim of voxels is compared with what the file
    holds, its lengths with those of scanners.

    Parameters
    ----------
    path : Path
        NIfTI-1 or NIfTI-2: a .nii file or a .hdr and .img pair, which may be compressed whatever their suffix says.

    Raises
    ------
    InputError
        The file is missing, damaged or not NIfTI, holds no plain intensities, not three dimensions or too many voxels,
        or its geometry is not given, sheared, singular or not in mm.
    """
    return _read(path, ONE_VOLUME)[0]


def read_stacks(path: Path, split: bool = False) -> list[Image]:
    """Read an image as `read_image` does, or every volume of a 4-D one.

    Parameters
    ----------
    path : Path
    split : bool
        Take several volumes for as many images; without, they are refused.

    Raises
    ------
    InputError
        As `read_image`.
    """
    return _read(path, None if split else f"--split-4d takes each for a stack, or {ONE_VOLUME}")


def read_each(read: Callable[[Path], Read], paths: Iterable[Path]) -> list[Read]:
    """Read several files, some at a time: decompression leaves the interpreter to the others.

    Parameters
    ----------
    read : callable
        What reads one of them.
    paths : iterable of Path

    Returns
    -------
    list
        In the order of the paths. Where several cannot be read, what is raised is of the first of them.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, paths))


def count_volumes(path: Path) -> int:
    """How many 3-D images a file holds, by its header.

    Raises
    ------
    InputError
        As `read_image`, as far as the header shows it.
    """
    return math.prod(_header(path, None)[1]["dim"][4:8].tolist())


def _header(path: Path, remedy: str | None) -> tuple[tuple[Path, Path], nib.Nifti1Header]:
    """Files of header and voxels, and the header, checked; ones for axes that it does not have."""
    size = check_input(path)
    if size and is_dicom(path):
        raise InputError(f"{path}: is DICOM; convert its series first, as by dcm2niix -z y FOLDER")
    if not size or not _NAME.search(path.name):
        raise InputError(f"{path}: {'is not' if size else 'is empty, not'} NIfTI; convert it to .nii.gz first")
    head, voxels = _files_of(path)
    with opened(head) as stream:
        header = parse_header(path, stream.read(HEADER_BYTES), head == voxels, remedy)
    # What stands behind the last axis means nothing.
    header["dim"][1 + int(header["dim"][0]) :] = 1
    return (head, voxels), header


def _read(path: Path, remedy: str | None) -> list[Image]:
    """The volumes of a file; more than one is refused with the remedy, if there is one."""
    (_, voxels), header = _header(path, remedy)
    affine, notes = affine_of(path, header)
    offset, dtype = voxel_offset(path, header), header.get_data_dtype()
    shape, count = header["dim"][1:4].tolist(), math.prod(header["dim"][4:8].tolist())
    slope, inter = header.get_slope_inter()
    claim = offset + math.prod(shape) * count * dtype.itemsize
    with opened_whole(voxels, claim) as stream, np.errstate(all="ignore"):
        # What is not finite after scaling is found where it matters, inside the region.
        proxy = ArrayProxy(stream, ((*shape, count), dtype, offset, slope or 1.0, inter or 0.0), mmap=False)
        data = np.asarray(proxy, dtype=np.float32)
    told, axis = tuple(notes), stated_axis(header)
    return [Image(path, data[..., k], affine, stated_axis=axis, notes=told) for k in range(count)]


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


def save_volume(image: nib.Nifti1Image, path: FilePath, dtype: DTypeLike = np.float32) -> None:
    """Write a volume as NIfTI, whole or not at all.

    The header is new: geometry and units, nothing that came with an input. The same values give the same
    bytes.

    Parameters
    ----------
    image : nibabel image
        Its affine, a rotation with spacings in mm, becomes both sform and qform.
    path : path
        Ends in .nii or .nii.gz.
    dtype : dtype
        What values are written as: 8 bits do for a mask.
    """
    _save(np.asarray(image.dataobj, dtype=dtype), image.affine, path)


def save_stack(stack: Stack, path: FilePath) -> None:
    """Write a stack as float32 NIfTI on the grid of the file that it was read from, whole or not at all.

    Parameters
    ----------
    stack : Stack
        Its `slice_axis` says how the axes of the file were ordered: a mask drawn on the original fits what is written.
    path : path
        Ends in .nii or .nii.gz.
    """
    _save_on_grid_of_file(stack, stack.data, path)


def save_mask(stack: Stack, path: FilePath) -> None:
    """Write a stack's mask, 0 and 1 in 8 bits, on the grid of the file that the stack was read from.

    Parameters
    ----------
    stack : Stack
    path : path
        Ends in .nii or .nii.gz.
    """
    _save_on_grid_of_file(stack, stack.mask.astype(np.uint8), path)


def _save_on_grid_of_file(stack: Stack, values: NDArray[np.generic], path: FilePath) -> None:
    order = np.insert([0, 1], stack.slice_axis, 2)
    _save(values.transpose(order), stack.affine[:, [*order, 3]], path)


def _save(values: NDArray[np.generic], affine: Float, path: FilePath) -> None:
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _files_of(path: Path) -> tuple[Path, Path]:
    """Where header and voxels lie: the same file, or a .hdr and .img pair of which either was named."""
    match = _NAME.search(path.name)
    assert match is not None
    kind, packed = match[1], match[2] or ""
    if kind.lower() == "nii":
        return path, path
    other = {"hdr": "img", "img": "hdr"}[kind.lower()]
    if kind.isupper():
        other = other.upper()
    partner = path.with_name(f"{path.name[: match.start(1)]}{other}{packed}")
    check_input(partner)
    return (path, partner) if kind.lower() == "hdr" else (partner, path)


def box_corners(low: Iterable[float], high: Iterable[float]) -> Float:
    """The eight corners (8, 3) of a box."""
    return np.array(list(itertools.product(*zip(low, high, strict=True))))
