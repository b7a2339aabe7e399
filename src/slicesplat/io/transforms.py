"""Slice motion as ITK transform files, which SimpleITK, ANTs and 3D Slicer read.

A file maps a point of the slice, where the scanner says it lies, to its motion-corrected position: `TransformPoint` in
SimpleITK. ITK's world is LPS+, ours RAS+, so that x and y change sign on the way out and back.

ITK resamples by asking for each point of the output where to look in the input. Given such a file as it is, a
resampling filter therefore draws the reconstructed volume onto the scanned slice; to bring the scanned slice into the
space of the volume, give it the inverse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from slicesplat.io.atomic import atomic_path

_NAME = re.compile(r"(\d+)\.tfm")
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_itk(world_transform: ArrayLike) -> sitk.VersorRigid3DTransform:
    """A rigid world transform (4, 4), RAS mm, as ITK knows it: LPS, a unit quaternion about the origin, a translation.

    Of ITK's rigid transforms this is the one without angles, which are not unique for every rotation.
    """
    matrix = _RAS_TO_LPS @ np.asarray(world_transform, dtype=np.float64) @ _RAS_TO_LPS
    transform = sitk.VersorRigid3DTransform()
    # Only the vector part is kept, and the scalar part taken as positive.
    transform.SetRotation(Rotation.from_matrix(matrix[:3, :3]).as_quat(canonical=True).tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform


def save_transforms(folder: str | PathLike[str], slices: Sequence[Mapping[str, Any]]) -> None:
    """Write the motion of every slice: ``0.tfm, 1.tfm, ...``, numbered as the images of a folder of slices.

    Parameters
    ----------
    folder : path
        Made if missing. Numbered transforms of an earlier run that are not overwritten are removed.
    slices : sequence of mapping
        One per slice, with "world_transform" (4, 4), RAS mm: nominal to motion-corrected position.
    """
    target = Path(folder)
    target.mkdir(exist_ok=True)
    for number, record in enumerate(slices):
        with atomic_path(target / f"{number}.tfm") as temporary:
            sitk.WriteTransform(to_itk(record["world_transform"]), str(temporary))
    for number, path in _numbered(target):
        if number >= len(slices):
            path.unlink()


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    matches = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [(int(match[1]), path) for match, path in matches if match]
