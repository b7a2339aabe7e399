"""Fields of fixed shape: the model is linear in the amplitudes, so they are solved for, not descended to.

    minimise over a   sum_pixels w (g_s (A a) - p)^2 + ridge |a|^2

by conjugate gradients, where A splats amplitudes onto the slices. Few iterations are themselves a regulariser: smooth
structure converges first.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from slicesplat.field import GaussianField
from slicesplat.splat import CpuSplatter
from slicesplat.stack import Slices

# Standard deviation of a lattice Gaussian in units of the lattice spacing: 0.6 makes neighbours sum to a constant
# within 1 % and keeps the system well conditioned.
LATTICE_SIGMA = 0.6


def lattice(slices: Slices, spacing: float, reach: float = 1.5) -> GaussianField:
    """Isotropic Gaussians of amplitude zero on a cubic lattice over everything that the slices saw.

    Parameters
    ----------
    slices : Slices
        At their present poses.
    spacing : float
        Lattice constant, mm.
    reach : float
        Distance through plane, mm, over which a slice counts as having seen.
    """
    corners, cells = [], []
    for s in range(len(slices)):
        plane = slices.plane_points(s)[:, None, :] + np.array([-reach, 0.0, reach])[:, None] * [0.0, 0.0, 1.0]
        cell = np.rint((plane.reshape(-1, 3) @ slices.pose[s, :3, :3].T + slices.pose[s, :3, 3]) / spacing)
        if len(cell):
            cells.append(cell.astype(np.int64))
            corners += [cell.min(axis=0), cell.max(axis=0)]
    low = np.min(corners, axis=0).astype(np.int64)
    occupied = np.zeros(np.max(corners, axis=0).astype(np.int64) - low + 1, bool)
    for cell in cells:
        occupied[tuple((cell - low).T)] = True
    means = (np.argwhere(occupied) + low) * spacing
    n = len(means)
    return GaussianField(
        means=torch.tensor(means, dtype=torch.float32),
        log_scales=torch.full((n, 3), float(np.log(LATTICE_SIGMA * spacing))),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(n, 1),
        amplitudes=torch.zeros(n),
    )


def placed_lattice(slices: Slices, spacing: float) -> tuple[GaussianField, CpuSplatter]:
    """The lattice of Gaussians over the slices, and a splatter that has it and the slices' poses in place."""
    field = lattice(slices, spacing)
    splatter = CpuSplatter(slices)
    shapes = (field.means.numpy(), field.log_scales.numpy(), field.rotations.numpy())
    splatter.place(*shapes, slices.pose[:, :3, :3], slices.pose[:, :3, 3])
    return field, splatter


def solve_amplitudes(
    splatter: CpuSplatter,
    pixels: NDArray[np.float32],
    weights: NDArray[np.float32],
    gain: NDArray[np.floating],
    start: NDArray[np.float32],
    iterations: int,
    ridge: float = 0.0,
) -> NDArray[np.float32]:
    """Amplitudes (N,) of the field that the splatter has in place, by conjugate gradients from `start`.

    Parameters
    ----------
    splatter : CpuSplatter
        With the field's shapes and the slices' poses placed.
    pixels, weights : (P,)
    gain : (S,)
    start : (N,)
    iterations : int
    ridge : float
        Weight of the squared amplitudes, in units of the pixels' weights.
    """
    amplitudes = start.astype(np.float32)
    residual = splatter.adjoint(weights * (pixels - splatter.splat(amplitudes, gain)), gain) - ridge * amplitudes
    direction = residual.copy()
    square = float(residual @ residual)
    for _ in range(iterations):
        if square <= 1e-20:
            break
        curved = splatter.adjoint(weights * splatter.splat(direction, gain), gain) + ridge * direction
        length = np.float32(square / max(float(direction @ curved), 1e-30))
        amplitudes = amplitudes + length * direction
        residual = residual - length * curved
        previous, square = square, float(residual @ residual)
        direction = residual + np.float32(square / previous) * direction
    return amplitudes
