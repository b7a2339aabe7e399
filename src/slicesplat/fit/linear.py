"""Fields of fixed shape: the model is linear in the amplitudes, so they are solved for, not descended to.

    minimise over a   sum_pixels w (g_s (A a) - p)^2 + ridge |a|^2

by conjugate gradients, where A splats amplitudes onto the slices. Few iterations are themselves a regulariser: smooth
structure converges first.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.field import GaussianField
from slicesplat.splat import CPU, Backend, Splatter, place
from slicesplat.splat.pixels import slice_of_pixel
from slicesplat.stack import Slices

# Standard deviation of a lattice Gaussian in units of the lattice spacing: 0.6 makes neighbours sum to a constant
# within 1 % and keeps the system well conditioned.
LATTICE_SIGMA = 0.6


def lattice(slices: Slices, spacing: float, reach: float = 1.5, backend: Backend = CPU) -> GaussianField:
    """Isotropic Gaussians of amplitude zero on a cubic lattice over everything that the slices saw.

    Parameters
    ----------
    slices : Slices
        At their present poses.
    spacing : float
        Lattice constant, mm.
    reach : float
        Distance through plane, mm, over which a slice counts as having seen.
    backend : Backend
        Where the field is to be.
    """
    plane, owner = _points_inside(slices, backend)
    x, y, z, origin = backend.tensor(slices.pose[:, :3], torch.float64).unbind(2)  # (S, 3) each
    middle = plane[:, :1] * x[owner] + plane[:, 1:] * y[owner] + origin[owner]
    across = reach * z[owner]
    cells = [torch.round(points / spacing).long() for points in (middle - across, middle, middle + across)]
    low = torch.stack([cell.amin(dim=0) for cell in cells]).amin(dim=0)
    high = torch.stack([cell.amax(dim=0) for cell in cells]).amax(dim=0)
    occupied = torch.zeros((high - low + 1).tolist(), dtype=torch.bool, device=backend.device)
    for cell in cells:
        occupied[tuple((cell - low).T)] = True
    means = ((occupied.nonzero() + low).double() * spacing).float()
    n = len(means)
    return GaussianField(
        means=means,
        log_scales=torch.full_like(means, float(np.log(LATTICE_SIGMA * spacing))),
        rotations=backend.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(n, 1),
        amplitudes=torch.zeros(n, device=backend.device),
    )


def _points_inside(slices: Slices, backend: Backend) -> tuple[Tensor, Tensor]:
    """Positions (n, 2) mm, in their slice's plane, of all pixels inside the masks, and the slices (n,) they are in."""
    pixel = backend.tensor(slices.mask, torch.bool).nonzero()[:, 0]
    owner = slice_of_pixel(slices, backend.device)[pixel]
    place = pixel - backend.tensor(slices.offset, torch.int64)[owner]
    columns = backend.tensor(slices.shape[:, 1], torch.int64)[owner]
    index = torch.stack([torch.div(place, columns, rounding_mode="floor"), place % columns], dim=1)
    origin, step = (backend.tensor(values, torch.float64)[owner] for values in (slices.origin, slices.step))
    return origin + index * step, owner


def placed_lattice(slices: Slices, spacing: float, backend: Backend = CPU) -> tuple[GaussianField, Splatter]:
    """The lattice of Gaussians over the slices, and a splatter that has it and the slices' poses in place."""
    field = lattice(slices, spacing, backend=backend)
    splatter = backend.splatter(slices)
    place(splatter, field, slices.pose)
    return field, splatter


def solve_amplitudes(
    splatter: Splatter,
    pixels: Tensor,
    weights: Tensor,
    gain: ArrayLike,
    start: Tensor,
    iterations: int,
    ridge: float = 0.0,
) -> Tensor:
    """Amplitudes (N,) of the field that the splatter has in place, by conjugate gradients from `start`.

    Parameters
    ----------
    splatter : CpuSplatter or GpuSplatter
        With the field's shapes and the slices' poses placed.
    pixels, weights : (P,) float32
    gain : (S,)
    start : (N,) float32
    iterations : int
    ridge : float
        Weight of the squared amplitudes, in units of the pixels' weights.
    """
    amplitudes = start
    residual = splatter.adjoint(weights * (pixels - splatter.splat(amplitudes, gain)), gain) - ridge * amplitudes
    direction = residual
    square = float(residual @ residual)
    for _ in range(iterations):
        if square <= 1e-20:
            break
        curved = splatter.adjoint(weights * splatter.splat(direction, gain), gain) + ridge * direction
        length = square / max(float(direction @ curved), 1e-30)
        amplitudes = amplitudes + length * direction
        residual = residual - length * curved
        previous, square = square, float(residual @ residual)
        direction = residual + (square / previous) * direction
    return amplitudes
