"""Surfaces and noise that synthetic anatomy is made of; lengths in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Float = NDArray[np.float32]
Range = tuple[float, float]
Random = np.random.Generator


def between(random: Random, ends: Range) -> float:
    """Uniform."""
    return float(random.uniform(*ends))


def direction(random: Random) -> NDArray[np.float64]:
    axis = random.normal(size=3)
    return axis / np.linalg.norm(axis)


def smooth_noise(shape: tuple[int, int, int], cells: Sequence[float], random: Random) -> Float:
    """Noise (nz, nx, ny) of standard deviation about 1 that changes over so many voxels along each axis."""
    coarse = [int(np.ceil(n / max(c, 1.0))) + 2 for n, c in zip(shape, cells, strict=True)]
    values = torch.from_numpy(random.standard_normal(coarse, dtype=np.float32))[None, None]
    fine = torch.nn.functional.interpolate(values, size=shape, mode="trilinear", align_corners=True)
    return fine[0, 0].numpy() * np.float32(1.4)


def ellipsoid(points: Sequence[Float], centre: Sequence[float], radii: Sequence[float]) -> Float:
    """Depth below the surface, mm, to first order; negative outside."""
    level = np.sqrt(
        sum(((p - np.float32(c)) / np.float32(r)) ** 2 for p, c, r in zip(points, centre, radii, strict=True))
    )
    return (1 - level) * np.float32(min(radii))
