"""What the data can carry: the noise in them, measured before any fit, and the Gaussians that carry nothing after it.

The noise level is the median absolute response to the difference of two Laplacian-like stencils, which anatomy leaves
almost alone (Immerkaer, Computer Vision and Image Understanding 64, 1996, 300-302).
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.geometry.pixels import MAD_TO_SIGMA, median
from slicesplat.geometry.slices import Slices
from slicesplat.splat import CPU, Backend

STENCIL_NORM = 6.0
"""Length of the stencil as a vector: what `noise_response` makes of white noise has so many times its deviation."""
ENOUGH = 100  # pixels of which the median absolute response is known within a tenth


def noise_response(image: Tensor) -> Tensor:
    """An image (rows, columns) under the outer product of (1, -2, 1) with itself; beyond the edge, the edge's pixels.

    Examples
    --------
    >>> point = torch.zeros(3, 3)
    >>> point[1, 1] = 1.0
    >>> noise_response(point).tolist()
    [[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]
    """
    padded = torch.nn.functional.pad(image[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return padded.diff(n=2, dim=0).diff(n=2, dim=1)


def noise_levels(slices: Slices, inside: Tensor, backend: Backend = CPU) -> NDArray[np.float64]:
    """Standard deviation (S,) of the noise in every slice, in units of the pixels; `inside` is (P,) bool.

    NaN for slices with fewer than `ENOUGH` pixels inside.
    """
    levels = np.full(len(slices), np.nan)
    pixels = backend.tensor(slices.pixels, torch.float64)
    ends = zip(itertools.pairwise(slices.offset.tolist()), slices.shape.tolist(), strict=True)
    for s, ((first, last), shape) in enumerate(ends):
        mask, image = inside[first:last], pixels[first:last].reshape(shape)
        if int(mask.sum()) >= ENOUGH:
            response = noise_response(image).flatten()[mask].abs() / STENCIL_NORM
            levels[s] = MAD_TO_SIGMA * median(response)
    return levels


def noise_level(slices: Slices, inside: Tensor, backend: Backend = CPU) -> float:
    """Standard deviation of the noise, in units of the pixels: the median over the slices; `inside` is (P,) bool."""
    levels = noise_levels(slices, inside, backend)
    return float(np.nanmedian(levels)) if np.isfinite(levels).any() else 0.0
