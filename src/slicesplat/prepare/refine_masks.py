"""Masks that were carried over from another stack, or found, made to fit once the slices are about in their places.

A mask drawn on one stack has to be wide where it is carried over to the others, since the region may have moved between
them: half of its pixels are surroundings, or air. Once the slices are registered, those that the mask was drawn on say
where the region is in space, and where every other slice cuts it. Masks that a network found in each stack are as good
as each other: there all of them vote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.errors import InputError
from slicesplat.geometry.reach import RIM_MM
from slicesplat.geometry.slices import Slices
from slicesplat.geometry.stack import Stack
from slicesplat.prepare.region import REGION_SPACING, grid_over, region_field, region_mask
from slicesplat.splat import CPU, Backend

Float = NDArray[np.float64]

VOXEL = REGION_SPACING / 2  # mm


def refine_masks(
    stacks: Sequence[Stack], slices: Slices, weight: Float, margin: float, backend: Backend = CPU
) -> list[Stack]:
    """The stacks, those with a carried-over mask with one that is where their slices cut the region.

    Parameters
    ----------
    stacks : sequence of Stack
        At least one of them with a mask of its own.
    slices : Slices
        Cut from the stacks, at their present poses.
    weight : (S,)
        Trust in the slices.
    margin : float
        mm around the region.
    backend : Backend
        Where to compute.

    Raises
    ------
    InputError
        A stack does not show the region.
    """
    drawn = np.flatnonzero([not stacks[number].carried for number in slices.stack])
    away, to_grid = _distance(slices.take(drawn), weight[drawn], margin, backend)
    masks = [np.zeros_like(stack.mask) if stack.carried else stack.mask for stack in stacks]
    for number, k, transform in zip(slices.stack, slices.index, slices.motion.matrix, strict=True):
        stack = stacks[number]
        if stack.carried:
            masks[number][:, :, k] = _cut(stack, int(k), away, to_grid @ transform) <= margin
    for stack, mask in zip(stacks, masks, strict=True):
        if not mask.any():
            raise InputError(
                f"{stack.name}: does not show the region of the mask; leave it out, or give one mask per stack"
            )
    return [replace(stack, mask=mask) for stack, mask in zip(stacks, masks, strict=True)]


def agreed_masks(
    stacks: Sequence[Stack],
    slices: Slices,
    weight: Float,
    motion: Mapping[tuple[int, int], Float],
    margin: float,
    backend: Backend = CPU,
) -> list[Stack]:
    """The stacks, those whose mask was found by a network with what all their slices together say the region is.

    Slices vote where the region is in space, and all that cut it get it, those too in which it was not found.

    Parameters
    ----------
    stacks : sequence of Stack
    slices : Slices
        Cut from the stacks, at their present poses.
    weight : (S,)
        Trust in the slices and their masks.
    motion : mapping
        By stack and index, where a slice is about: a transform (4, 4). Of a slice without there is no mask.
    margin : float
        mm around the region.
    backend : Backend
        Where to compute.
    """
    away, to_grid = _distance(slices, weight, margin, backend)
    masks = [np.zeros_like(stack.mask) if stack.found is not None else stack.mask for stack in stacks]
    for (number, k), transform in motion.items():
        if stacks[number].found is not None:
            masks[number][:, :, k] = _cut(stacks[number], k, away, to_grid @ transform) <= margin
    # A stack whose slices are all believed to be elsewhere keeps what was found in it.
    return [replace(stack, mask=mask) if mask.any() else stack for stack, mask in zip(stacks, masks, strict=True)]


def _cut(stack: Stack, k: int, values: Float, to_grid: Float) -> Float:
    """Values on a grid where slice k cuts it, (nx, ny); infinite beyond. The way to the grid is (4, 4), from world."""
    rows, columns = np.indices(stack.mask.shape[:2])
    index = np.stack([rows, columns, np.full_like(rows, k), np.ones_like(rows)])
    place = np.tensordot(to_grid @ stack.affine, index, axes=1)[:3]
    return np.asarray(ndimage.map_coordinates(values, place, order=1, cval=np.inf))


def _distance(slices: Slices, weight: Float, reach: float, backend: Backend) -> tuple[Float, Float]:
    """Distance, mm, from the region in the slices' masks, negative inside, on a grid; the way (4, 4) to the grid."""
    region = region_field(slices, weight, backend)
    affine, shape = grid_over(region, VOXEL, backend)
    pad = int(np.ceil(reach / VOXEL)) + 1
    inside = np.pad(region_mask(region, affine, shape, backend), pad)
    affine[:3, 3] -= pad * affine[:3, :3].sum(axis=1)
    outside, depth = (np.asarray(ndimage.distance_transform_edt(part)) for part in (~inside, inside))
    # The mask on the grid is the region with a rim.
    return (outside - depth) * VOXEL + RIM_MM, np.linalg.inv(np.asarray(affine, np.float64))
