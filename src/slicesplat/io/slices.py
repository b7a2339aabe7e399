"""Folders of motion-corrected slices, as NeSVoR writes and reads them.

``0.nii.gz, mask_0.nii.gz, 1.nii.gz, ...``: each image holds one slice, (nx, ny, 1), and its affine the slice's pose.
The voxel size along the third axis is the slice thickness, since one slice has no distance to the next.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.folder import check_finished, output_folder
from slicesplat.io.masks import finite_values, mask_on, masked_volume
from slicesplat.io.nifti import load_volume, read_image
from slicesplat.records import SliceRecord

log = logging.getLogger("slicesplat")

_NAME = re.compile(r"(mask_)?(\d+)\.nii(\.gz)?")
SLICE_FILES = re.compile(_NAME.pattern, re.IGNORECASE)
"""The names of a folder of slices, also where the file system does not tell upper from lower case."""


def save_slices(
    folder: str | PathLike[str],
    stacks: Sequence[Stack],
    slices: Sequence[SliceRecord],
    numbers: Sequence[int] | None = None,
) -> None:
    """Write every slice where the motion correction puts it.

    Parameters
    ----------
    folder : path
        Made if missing; written whole or not at all. Numbered slices that an earlier run wrote there are replaced or
        removed: mixed with the new ones they would be read as one scan.
    stacks : sequence of Stack
        What the slices come from; images and masks are written whole.
    slices : sequence of SliceRecord
        Image n of the folder is the n-th of them.
    numbers : sequence of int, optional
        What the images are called instead, each another number.

    Raises
    ------
    OSError
        The files cannot be written, or the folder holds numbered images that no earlier run wrote.
    """
    with output_folder(folder, SLICE_FILES) as files:
        for number, record in zip(range(len(slices)) if numbers is None else numbers, slices, strict=True):
            stack, index = stacks[record.stack], record.slice
            affine = record.world_transform @ stack.slice_affine(index)
            _write(stack.data[:, :, [index]], affine, files / f"{number}.nii.gz")
            _write(stack.mask[:, :, [index]].astype(np.uint8), affine, files / f"mask_{number}.nii.gz")


def load_slices(folder: str | PathLike[str]) -> list[Stack]:
    """Read a folder of slices.

    Parameters
    ----------
    folder : path
        Holds ``0.nii.gz, mask_0.nii.gz, ...``. A slice without a mask counts where it is not zero.

    Returns
    -------
    list of Stack
        In the order of the numbers, each of one slice; its affine is its pose, its voxel size along the third axis
        its thickness.

    Raises
    ------
    InputError
        The folder is missing, holds no slice, or is one where a run has not finished replacing them; an image is
        damaged, has more than one slice, or does not fit its mask.
    """
    source = Path(folder)
    numbered = _numbered(source)
    check_finished(source)
    masks = {number: path for number, path in numbered if path.name.startswith("mask_")}
    images = [(number, path) for number, path in numbered if not path.name.startswith("mask_")]
    if not images:
        raise InputError(f"{source}: holds no slices; they are called 0.nii.gz, 1.nii.gz and so on")
    read = [_read(path, masks.get(number)) for number, path in sorted(images)]
    for note in itertools.chain.from_iterable(notes for _, notes in read):
        log.info(note)
    return [stack for stack, _ in read]


def _write(data: NDArray[Any], affine: NDArray[np.float64], path: Path) -> None:
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    # Aligned, not scanner: the pose has been corrected. Both are set, since readers differ in which one they take.
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=2)
    nib.save(image, path)


def slice_files(folder: str | PathLike[str]) -> list[Path]:
    """The images and masks of a folder of slices.

    Raises
    ------
    InputError
        There is no such folder.
    """
    return [path for _, path in sorted(_numbered(Path(folder)))]


def slice_number(name: str) -> int:
    """The number in the name of a slice's file.

    Examples
    --------
    >>> slice_number("12.nii.gz"), slice_number("mask_3.nii")
    (12, 3)

    Raises
    ------
    ValueError
        It is no such name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name}: is no slice of a folder of slices")
    return int(match[2])


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """Slices and masks in a folder, by number."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path")
    matches = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [(int(match[2]), path) for match, path in matches if match]


def _masked(path: Path, mask_path: Path) -> tuple[nib.Nifti1Image, nib.Nifti1Image, list[str]]:
    """A slice, its mask, and what to tell about that. Other than a volume's, it may be empty."""
    image, drawn = read_image(path), read_image(mask_path)
    if (drawn.data > 0).any() or not np.isfinite(drawn.data).all():
        return masked_volume(image, drawn)
    empty = mask_on(drawn, image)
    return nib.Nifti1Image(finite_values(image, empty), image.affine), nib.Nifti1Image(empty.astype(np.uint8), None), []


def _read(path: Path, mask_path: Path | None) -> tuple[Stack, list[str]]:
    """A slice, and what to tell about its mask."""
    if mask_path is None:
        image = load_volume(path)
        notes: list[str] = []
        mask = np.asarray(image.dataobj) != 0
    else:
        image, region, notes = _masked(path, mask_path)
        mask = np.asarray(region.dataobj) > 0
    data = np.asarray(image.dataobj, dtype=np.float32)
    if data.shape[2] != 1:
        raise InputError(f"{path}: has {data.shape[2]} slices; a folder of slices holds one per file")
    affine = np.asarray(image.affine, dtype=np.float64)
    return Stack(data, mask, affine, float(np.linalg.norm(affine[:3, 2])), path.name), notes
