"""How often the slices saw each place of the region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicesplat.geometry.slices import Slices

Float = NDArray[np.float64]

SPACING = 2.0
"""mm between the places that are looked at, at least: slices are 2 to 5 mm thick."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """What the used slices saw.

    Attributes
    ----------
    slices : (nx, ny, nz) int16
        How many of them saw each voxel of a coarse grid; 0 outside the region.
    affine : (4, 4)
        Of that grid: voxel index to world, mm RAS+.
    of_stacks : tuple of float
        Shares of the region that so many stacks saw: none, one, two, ...
    """

    slices: NDArray[np.int16]
    affine: Float
    of_stacks: tuple[float, ...]


def coverage(
    inside: NDArray[np.bool_], affine: Float, slices: Slices, used: NDArray[np.bool_], thickness: Float
) -> Coverage:
    """Count the slices, and the stacks, that saw each place.

    A slice saw what lies within half its thickness of its plane, and inside its mask.

    Parameters
    ----------
    inside : (nx, ny, nz)
        The region.
    affine : (4, 4)
        Voxel index to world, mm RAS+.
    slices : Slices
        At their final poses.
    used : (S,)
        Those that take part.
    thickness : (S,)
        mm.
    """
    every = max(1, round(SPACING / float(np.linalg.norm(affine[:3, 0]))))
    coarse = inside[::every, ::every, ::every]
    wide = affine.copy()
    wide[:3, :3] *= every
    index = np.argwhere(coarse)
    points = index @ wide[:3, :3].T + wide[:3, 3]
    stacks = int(slices.stack.max()) + 1 if len(slices) else 0
    of_stack = np.zeros((max(stacks, 1), len(points)), np.int16)
    there = ~slices.pose
    for s in np.flatnonzero(used).tolist():
        matrix = there.matrix[s]
        depth = points @ matrix[2, :3] + matrix[2, 3]
        near = np.flatnonzero(np.abs(depth) <= thickness[s] / 2)
        plane = points[near] @ matrix[:2, :3].T + matrix[:2, 3]
        pixel = np.rint((plane - slices.origin[s]) / slices.step[s]).astype(np.int64)
        on = ((pixel >= 0) & (pixel < slices.shape[s])).all(axis=1)
        near, pixel = near[on], pixel[on]
        seen = slices.image(slices.mask, s)[tuple(pixel.T)]
        of_stack[slices.stack[s], near[seen]] += 1
    counts = np.zeros(coarse.shape, np.int16)
    counts[tuple(index.T)] = of_stack.sum(axis=0)
    seen_by = (of_stack > 0).sum(axis=0)
    shares = np.bincount(seen_by, minlength=stacks + 1) / max(len(points), 1)
    return Coverage(counts, wide, tuple(float(share) for share in shares))
