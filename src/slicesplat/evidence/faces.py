"""Whether a region ends in a plane: part of it was not scanned, or its masks leave it out.

A brain is round. Where the field of view or the masks end within it, the region has a flat face, and much of its
surface looks the same way: a cone of 20 degrees holds 3 % of the normals of a ball, and 35 % of those of half a ball.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_STEP = 2.0  # mm: coarser than most outputs, finer than what slices resolve along their normal
_SMOOTH = 2.5  # mm: stairs of the voxels are no faces
_CONE = np.deg2rad(20.0)
_DIRECTIONS = 400  # looked along: two neighbours are 10 degrees apart
_PADDING = 6  # voxels


def flat_share(mask: NDArray[np.generic], spacing: float) -> float:
    """Largest share, 0 to 1, of a region's surface that looks the same way.

    Parameters
    ----------
    mask : (nx, ny, nz)
        The region, where greater than 0.
    spacing : float
        mm between voxels, isotropic.

    Examples
    --------
    >>> x, y, z = np.indices((41, 41, 41)) - 20
    >>> ball = x**2 + y**2 + z**2 < 18**2
    >>> flat_share(ball, 2.0) < 0.06, flat_share(ball & (x < 0), 2.0) > 0.25
    (True, True)
    """
    skip = max(1, round(_STEP / spacing))
    coarse = np.pad(np.asarray(mask)[::skip, ::skip, ::skip] > 0, _PADDING).astype(np.float32)
    if not coarse.any():
        return float("nan")
    slope = np.stack(np.gradient(gaussian_filter(coarse, _SMOOTH / (skip * spacing))), axis=-1).reshape(-1, 3)
    size = np.linalg.norm(slope, axis=1)
    surface = size > 0.02 * size.max()
    area = size[surface]
    looks = slope[surface] / area[:, None]
    alike = _sphere() @ looks.T > np.float32(np.cos(_CONE))
    return float(max(area[own].sum() for own in alike) / area.sum())


def _sphere() -> NDArray[np.float32]:
    """(n, 3) directions, evenly over all: a spiral."""
    place = np.arange(_DIRECTIONS) + 0.5
    polar, turn = np.arccos(1 - 2 * place / _DIRECTIONS), np.pi * (1 + np.sqrt(5)) * place
    sphere = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    return sphere.astype(np.float32)
