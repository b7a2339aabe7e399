"""Slice motion as ITK transform files, which SimpleITK, ANTs and 3D Slicer read.

A file maps a point of the slice, where the scanner says it lies, to its motion-corrected position: `TransformPoint` in
SimpleITK. ITK's world is LPS+, ours RAS+, so that x and y change sign on the way out and back.

ITK resamples by asking for each point of the output where to look in the input. Given such a file as it is, a
resampling filter therefore draws the reconstructed volume onto the scanned slice; to bring the scanned slice into the
space of the volume, give it the inverse.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import SimpleITK as sitk
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from slicesplat.geometry.rigid import Rigid, to_lps
from slicesplat.io.folder import output_folder
from slicesplat.records import SliceRecord

TRANSFORM_FILES = re.compile(r"\d+\.tfm", re.IGNORECASE)
"""The names of a folder of transforms."""


def to_itk(world_transform: ArrayLike) -> sitk.VersorRigid3DTransform:
    """A rigid world transform (4, 4), RAS mm, as ITK knows it: LPS, a unit quaternion about the origin, a translation.

    Of ITK's rigid transforms this is the one without angles, which are not unique for every rotation.
    """
    moved = to_lps(Rigid.from_matrix(world_transform))
    transform = sitk.VersorRigid3DTransform()
    # Only the vector part is kept, and the scalar part taken as positive.
    transform.SetRotation(Rotation.from_matrix(moved.rotation).as_quat(canonical=True).tolist())
    transform.SetTranslation(moved.translation.tolist())
    return transform


def save_transforms(folder: str | PathLike[str], slices: Sequence[SliceRecord]) -> None:
    """Write the motion of every slice: ``0.tfm, 1.tfm, ...``, numbered as the images of a folder of slices.

    Parameters
    ----------
    folder : path
        Made if missing; written whole or not at all. Numbered transforms that an earlier run wrote there are replaced
        or removed.
    slices : sequence of SliceRecord
        Transform n of the folder is that of the n-th of them.

    Raises
    ------
    OSError
        The files cannot be written, or the folder holds numbered transforms that no earlier run wrote.
    """
    with output_folder(folder, TRANSFORM_FILES) as files:
        for number, record in enumerate(slices):
            _write(to_itk(record.world_transform), files / f"{number}.tfm")


def _write(transform: sitk.Transform, path: Path) -> None:
    """Write a transform and read it again: ITK reports nothing when the disk is full."""
    try:
        sitk.WriteTransform(transform, str(path))
        whole = _numbers(sitk.ReadTransform(str(path))) == _numbers(transform)
    except RuntimeError:
        whole = False
    if not whole:
        raise OSError(errno.EIO, "not written whole, perhaps for want of space", str(path))


def _numbers(transform: sitk.Transform) -> tuple[float, ...]:
    return (*transform.GetParameters(), *transform.GetFixedParameters())
