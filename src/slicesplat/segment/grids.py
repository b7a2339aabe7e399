"""Stacks on the grids that networks see, and back: separable, anti-aliased resampling along the stack's own axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slicesplat.segment.network import POOLED

BRIGHT = 99.0
"""Percentile of a stack's intensities that is 1 for a network."""
CEILING = 1.5
"""Brighter than this, times it, is no brighter: fat beside a coil."""

FIND_STEP = 5.0
"""mm between voxels of the view that a brain is looked for in; slices that are further apart stay as they are."""
EDGE_STEPS = 28
"""Steps of the view that its edge is drawn in, on the diameter of a brain: the network sees all of one size."""
EDGE_PIXELS = 56
"""Of that view, in plane."""
EDGE_REACH = 0.9
"""Brain diameters before and behind its centre that slices are taken from."""


@dataclass(frozen=True, eq=False)
class View:
    """A box of a stack on a grid along its axes; lengths in mm from the stack's first voxel.

    Attributes
    ----------
    first : (3,)
        Where its first voxel is.
    steps : (3,)
        Between its voxels.
    shape : (3,) int
    """

    first: NDArray[np.float64]
    steps: NDArray[np.float64]
    shape: tuple[int, int, int]

    @classmethod
    def whole(cls, shape: Sequence[int], spacing: ArrayLike, steps: ArrayLike, multiple: int) -> View:
        """All of a stack of that shape and spacing; in plane of so many voxels that `multiple` divides them."""
        spacing, steps = np.asarray(spacing, float), np.asarray(steps, float)
        count = np.maximum(np.ceil(np.array(shape) * spacing / steps).astype(int), 1)
        count[:2] = -(-count[:2] // multiple) * multiple
        return cls.around((np.array(shape) - 1) / 2 * spacing, steps, tuple(count))

    @classmethod
    def around(cls, centre: ArrayLike, steps: ArrayLike, shape: Sequence[int]) -> View:
        """A box around a place."""
        steps = np.asarray(steps, float)
        first = np.asarray(centre, float) - (np.array(shape) - 1) / 2 * steps
        return cls(first, steps, (int(shape[0]), int(shape[1]), int(shape[2])))

    def of(self, values: Tensor, spacing: ArrayLike) -> Tensor:
        """A stack (nx, ny, nz) in this view, (nz', nx', ny'): zero beyond its edges."""
        spacing = np.asarray(spacing, float)
        axes = zip(values.shape, spacing, self.first, self.steps, self.shape, strict=True)
        x, y, z = (_weights(n, step, first + to * np.arange(m), to) for n, step, first, to, m in axes)
        in_plane = x.matmul(values.float().permute(2, 0, 1)).matmul(y.T)
        return torch.einsum("az,zxy->axy", z, in_plane)

    def back(self, values: Tensor, shape: Sequence[int], spacing: ArrayLike) -> Tensor:
        """What was found in this view (nz', nx', ny') on the stack's grid (nx, ny, nz): zero beyond the view."""
        spacing = np.asarray(spacing, float)
        axes = zip(self.shape, self.steps, self.first, shape, spacing, strict=True)
        x, y, z = (_weights(n, step, to * np.arange(m) - first, 0.0) for n, step, first, m, to in axes)
        flat = x.matmul(values).matmul(y.T)  # (nz', nx, ny)
        return torch.einsum("za,axy->xyz", z, flat)


def find_view(shape: Sequence[int], spacing: ArrayLike) -> View:
    """All of a stack, coarsely: where the network looks for a brain."""
    spacing = np.asarray(spacing, float)
    return View.whole(shape, spacing, [FIND_STEP, FIND_STEP, max(spacing[2], FIND_STEP)], POOLED)


def edge_view(shape: Sequence[int], spacing: ArrayLike, centre: ArrayLike, diameter: float) -> View:
    """A box around a brain, finely, as far as the stack has slices: where the network draws its edge.

    Parameters
    ----------
    shape : (3,) int
    spacing : (3,) mm
    centre : (3,) mm
        From the stack's first voxel, along its axes.
    diameter : float
        Of the ball of the brain's volume, mm.
    """
    spacing, centre = np.asarray(spacing, float), np.asarray(centre, float)
    step = diameter / EDGE_STEPS
    # Slices are taken as they are: between them nothing is known. Those that overlap are put together.
    across = max(spacing[2], step)
    last = (shape[2] - 1) * spacing[2]
    count = int(np.floor(last / across)) + 1
    low, high = (int(np.round((centre[2] + side * EDGE_REACH * diameter) / across)) for side in (-1, 1))
    low = int(np.clip(low, 0, max(count - 3, 0)))
    high = int(np.clip(high, min(low + 2, count - 1), count - 1))
    view = View.around(centre, [step, step, across], (EDGE_PIXELS, EDGE_PIXELS, high - low + 1))
    return View(np.array([*view.first[:2], low * across]), view.steps, view.shape)


def brightness(data: NDArray[np.floating]) -> Tensor:
    """Intensities (nx, ny, nz) as networks see them: root of their share of the brightest, no unit, no outliers."""
    values = torch.from_numpy(np.nan_to_num(np.asarray(data, np.float32), posinf=0.0, neginf=0.0)).clamp_min(0)
    lit = values[values > 0]
    top = float(np.percentile(lit.numpy(), BRIGHT)) if len(lit) else 1.0
    return (values / max(top, 1e-20)).clamp_max(CEILING).sqrt()


def _weights(count: int, spacing: float, places: NDArray[np.float64], width: float) -> Tensor:
    """(m, n): shares of n samples in values at m places, by a tent as wide as the coarser of both grids."""
    width = max(width, spacing)
    beyond = int(np.ceil(width / spacing))
    # The sum over a grid without edges: beyond those of the stack there is nothing.
    distance = np.abs(places[:, None] - spacing * np.arange(-beyond, count + beyond)[None])
    tent = np.maximum(1 - distance / width, 0)
    shares = tent / np.maximum(tent.sum(axis=1, keepdims=True), 1e-6)
    return torch.from_numpy(shares[:, beyond : beyond + count].astype(np.float32))
