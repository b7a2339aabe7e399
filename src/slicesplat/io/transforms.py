"""Slice motion as ITK transform files, which SimpleITK, ANTs and 3D Slicer read; those of NiftyMIC are read too.

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

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from slicesplat.errors import InputError
from slicesplat.geometry.rigid import Rigid, to_lps
from slicesplat.io.atomic import atomic_path
from slicesplat.io.folder import check_finished, output_folder
from slicesplat.io.inputs import check_input
from slicesplat.records import SliceRecord

_OF_A_SLICE = re.compile(r"(?:(.+)_slice)?(\d+)\.tfm", re.IGNORECASE)
_INSTEAD = "give rigid ITK transforms (.tfm), or slices with their poses in their affines"
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


def save_transform(path: str | PathLike[str], world_transform: ArrayLike) -> None:
    """Write one transform of the world (4, 4), RAS mm.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with atomic_path(Path(path)) as temporary:
        _write(to_itk(world_transform), temporary)


def load_transform(path: str | PathLike[str]) -> NDArray[np.float64]:
    """Read a rigid ITK transform, of any of ITK's kinds, as a world transform (4, 4), RAS mm.

    Raises
    ------
    InputError
        The file is missing or no ITK transform, or the transform is not rigid.
    """
    path = Path(path)
    check_input(path)
    if path.suffix.lower() == ".dof":
        raise InputError(f"{path}: is MIRTK's own format, which only its programs read; {_INSTEAD}")
    try:
        transform = sitk.ReadTransform(str(path))
        if transform.GetDimension() != 3 or not transform.IsLinear():
            raise ValueError("no linear transform of space")
        matrix = np.eye(4)
        matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
        for axis, unit in enumerate(np.eye(3).tolist()):
            matrix[:3, axis] = transform.TransformPoint(unit) - matrix[:3, 3]
        return to_lps(Rigid.from_matrix(matrix)).matrix
    except RuntimeError as error:
        raise InputError(f"{path}: is no ITK transform, or a damaged one; write it again") from error
    except ValueError as error:
        raise InputError(f"{path}: is not rigid; {_INSTEAD}") from error


def load_transforms(folder: str | PathLike[str]) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Read a folder of transforms, one for each slice.

    Parameters
    ----------
    folder : path
        ``0.tfm, 1.tfm, ...`` as `save_transforms` writes them, or ``NAME_slice0.tfm, ...`` for each stack NAME as
        NiftyMIC does; what else is in it is passed over.

    Returns
    -------
    dict
        By the name of the stack, empty where the files are only numbered, and the number: world transforms (4, 4),
        RAS mm, each from where the scanner put a slice to its motion-corrected position.

    Raises
    ------
    InputError
        The folder is missing, holds no such file, or one that cannot be read.
    """
    source = Path(folder)
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; check the path")
    check_finished(source)
    names = sorted(path.name for path in source.iterdir())
    found = {(match[1] or "", int(match[2])): name for name in names if (match := _OF_A_SLICE.fullmatch(name))}
    if not found:
        foreign = next((name for name in names if name.lower().endswith(".dof")), None)
        if foreign:
            load_transform(source / foreign)
        raise InputError(f"{source}: holds no transforms of slices; they are called 0.tfm or NAME_slice0.tfm and so on")
    return {key: load_transform(source / name) for key, name in found.items()}


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
