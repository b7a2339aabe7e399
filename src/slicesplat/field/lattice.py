"""Isotropic Gaussians on a cubic lattice over what the slices saw."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import slice_of_pixel
from slicesplat.geometry.psf import FWHM_TO_SIGMA
from slicesplat.geometry.slices import Slices

_CPU = torch.device("cpu")
NOTHING = 1e-3  # of the largest amplitude
# Standard deviation of a lattice Gaussian in units of the lattice spacing: 0.6 makes neighbours sum to a constant
# within 1 % and keeps the system well conditioned.
LATTICE_SIGMA = 0.6
# What the lattice's Gaussians, all of amplitude 1, add up to at any place.
LATTICE_SUM = (2 * math.pi) ** 1.5 * LATTICE_SIGMA**3


def lattice(slices: Slices, spacing: float, device: torch.device = _CPU) -> GaussianField:
    """Isotropic Gaussians of amplitude zero on a cubic lattice over everything that the slices saw.

    A slice sees half its thickness to either side.

    Parameters
    ----------
    slices : Slices
        At their present poses.
    spacing : float
        Lattice constant, mm.
    device : torch.device
        Where the field is to be.
    """
    # To where the outermost Gaussian of the profile has fallen to half its height.
    half = np.sqrt(slices.psf_covariances[:, :, 2]) / (2 * FWHM_TO_SIGMA)
    reach = (np.abs(slices.psf_offsets) + half).max(axis=1)
    across = torch.as_tensor(reach[:, None] * slices.pose[:, :3, 2], dtype=torch.float64, device=device)
    layers = max(3, 1 + math.ceil(2 * reach.max(initial=0.0) / spacing))
    middle, owner = _middles_inside(slices, device)

    def cells(shift: float, axis: int) -> Tensor:
        """Where on the lattice the pixels' points in one layer lie: whole numbers (n,) along one axis."""
        return (shift * across[:, axis]).index_select(0, owner).add_(middle[axis]).div_(spacing).round_()

    # The outermost layers hold the outermost points.
    ends = torch.stack([torch.stack(cells(shift, axis).aminmax()) for shift in (-1.0, 1.0) for axis in range(3)])
    low, high = ends[:, 0].reshape(2, 3).amin(dim=0), ends[:, 1].reshape(2, 3).amax(dim=0)
    shape = [int(size) for size in (high - low + 3).tolist()]
    occupied = torch.zeros(shape, dtype=torch.bool, device=device)
    for shift in np.linspace(-1.0, 1.0, layers):
        place = torch.zeros_like(middle[0])
        for axis in range(3):
            place.mul_(shape[axis]).add_(cells(shift, axis).sub_(low[axis] - 1))
        occupied.view(-1)[place.long()] = True
    if spacing < 2 * slices.step.max():
        # Cells between pixels that no pixel's centre has hit: a closing, with room for it on all sides.
        occupied = ~_dilated(~_dilated(occupied))
    means = ((occupied.nonzero() + low - 1) * spacing).float()
    n = len(means)
    return GaussianField(
        means=means,
        log_scales=torch.full_like(means, float(np.log(LATTICE_SIGMA * spacing))),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=device).repeat(n, 1),
        amplitudes=torch.zeros(n, device=device),
    )


def _middles_inside(slices: Slices, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Positions in the world, mm, of all pixels inside the masks: three times (n,); and the slices (n,) they are in."""
    pixel = torch.as_tensor(slices.mask, dtype=torch.bool, device=device).nonzero()[:, 0]
    owner = slice_of_pixel(slices, device).index_select(0, pixel)

    def of_slice(values: ArrayLike, dtype: torch.dtype = torch.float64) -> Tensor:
        """(n,) what each pixel's slice has, of (S,)."""
        return torch.as_tensor(values, dtype=dtype, device=device).index_select(0, owner)

    place, columns = pixel.sub_(of_slice(slices.offset, torch.int64)), of_slice(slices.shape[:, 1], torch.int64)
    index = torch.div(place, columns, rounding_mode="floor"), place % columns
    u, v = (of_slice(slices.step[:, k]).mul_(index[k]).add_(of_slice(slices.origin[:, k])) for k in range(2))
    x, y, origin = (slices.pose[:, :3, k].T for k in (0, 1, 3))
    middle = [of_slice(x[k]).mul_(u).add_(of_slice(y[k]).mul_(v)).add_(of_slice(origin[k])) for k in range(3)]
    return middle, owner


def _dilated(box: Tensor) -> Tensor:
    """Cells (X, Y, Z) bool that are set or have a neighbour that is, across faces, edges or corners."""
    for axis, size in enumerate(box.shape):
        before, grown = box, box.clone()
        for to, since in ((0, 1), (1, 0)):
            grown.narrow(axis, to, size - 1).logical_or_(before.narrow(axis, since, size - 1))
        box = grown
    return box


def lattice_cells(field: GaussianField, spacing: float) -> Tensor:
    """Indices (N, 3) of a lattice's Gaussians in the smallest box that holds them, from 0."""
    cells = torch.round(field.means / spacing).long()
    return cells - cells.amin(dim=0)


def prune(field: GaussianField) -> GaussianField:
    """The field without the Gaussians that carry nothing."""
    size = field.amplitudes.abs()
    return field.select(size > NOTHING * size.max())
