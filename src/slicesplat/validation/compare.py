"""Two reconstructions on one grid: aligned rigidly, and scored against each other or against a reference."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from slicesplat.geometry.rigid import Rigid, to_lps
from slicesplat.validation.evaluate import Aligned, Score, aligned, score_of

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two reconstructions, aligned.

    Attributes
    ----------
    images : two (nx, ny, nz)
        On the grid, and on the scale, of the reference, or of the first where there is none.
    reference : (nx, ny, nz) or None
    mask : (nx, ny, nz) bool
        Where they are compared.
    affine : (4, 4)
        Voxel index to world, mm RAS+.
    first : Score or None
        Of the first against the reference; None without one.
    second : Score
        Of the second against the reference, or against the first.
    in_one_space : two nibabel images
        Both with their own voxels, where the first lies.
    """

    images: tuple[Float, Float]
    reference: Float | None
    mask: NDArray[np.bool_]
    affine: Float
    first: Score | None
    second: Score
    in_one_space: tuple[SpatialImage, SpatialImage]


def compare(
    first: SpatialImage,
    second: SpatialImage,
    mask: SpatialImage,
    reference: SpatialImage | None = None,
    register: bool = True,
) -> Comparison:
    """Bring two reconstructions onto one grid and score them.

    Parameters
    ----------
    first, second : nibabel images
        On any grids.
    mask : nibabel image
        Greater than 0 where they are compared; on the grid of the reference, or of the first.
    reference : nibabel image, optional
        What both are compared with; the first when not given.
    register : bool
        Align rigidly; else the world frames are taken as they are.

    Raises
    ------
    ValueError
        As `evaluate.score`.
    """
    fixed = first if reference is None else reference
    other = aligned(second, fixed, mask, register)
    one = None if reference is None else aligned(first, fixed, mask, register)
    # x_second = way x_first, both in RAS+.
    way = _transform(other) if one is None else _transform(other) @ ~_transform(one)
    there = nib.Nifti1Image(np.asarray(second.dataobj, np.float32), (~way).matrix @ second.affine)
    shown = other.truth if one is None else one.values, other.values, other.truth
    # Outside, the offset that brings one onto the scale of the other is no tissue.
    inside = [_as_shown(np.where(other.mask, image, 0)) for image in shown]
    return Comparison(
        images=(inside[0], inside[1]),
        reference=None if reference is None else inside[2],
        mask=_as_shown(other.mask),
        affine=np.asarray(fixed.affine, dtype=np.float64),
        first=None if one is None else score_of(one),
        second=score_of(other),
        in_one_space=(first, there),
    )


def _as_shown(array: NDArray) -> NDArray:
    """ITK's axes z, y, x as nibabel's."""
    return np.ascontiguousarray(array.T)


def _transform(found: Aligned) -> Rigid:
    """Fixed to moving, RAS+."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(found.transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = found.transform.TransformPoint((0.0, 0.0, 0.0))
    return to_lps(Rigid(matrix))
