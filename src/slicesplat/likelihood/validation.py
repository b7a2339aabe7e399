"""Pixels left out of the fit: their error is what can be expected of pixels that were never measured.

Patches, not single pixels: a pixel's neighbours see the same tissue through the same PSF, so that a lone pixel would be
predicted by the noise-free part of its own slice.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.geometry.pixels import broadcast_to_pixels, sum_over_slices
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import Weights

PATCH = 4  # pixels along each side; the PSF is 1.2 wide
# So few pixels tell two fields apart: where there are less, a larger share is left out, at most this one.
ENOUGH, MOST = 2000, 0.1


def hold_out(
    slices: Slices, inside: NDArray[np.bool_], random: np.random.Generator, share: float, reach: int = 1
) -> NDArray[np.bool_]:
    """(P,) pixels to leave out: square patches at random places, about `share` of the pixels inside.

    Patches are as much larger as noise reaches, in pixels.
    """
    size = PATCH * reach
    held = np.zeros(len(slices.pixels), bool)
    share = min(max(share, ENOUGH / max(int(inside.sum()), 1)), MOST)
    for s in range(len(slices)):
        places = np.argwhere(slices.image(inside, s))
        patches = random.binomial(len(places), share / size**2) if len(places) else 0
        view = slices.image(held, s)
        for row, column in places[random.integers(0, max(len(places), 1), patches)]:
            view[row : row + size, column : column + size] = True
    return held & inside


def validation_error(
    slices: Slices, held: Tensor, pixels: Tensor, image: Tensor, weights: Weights, limit: float
) -> float:
    """Root-mean-square error of the pixels left out, in units of the pixels; 0 when none is.

    Parameters
    ----------
    slices : Slices
    held : (P,) bool
    pixels : (P,) float32
        What was measured.
    image : (P,) float32
        What the field predicts for gain 1.
    weights : Weights
        Gains, noise level and trust in the slices: a slice that lost its signal says nothing about the field, and a
        residual counts as at most `limit` sigma.
    limit : float
    """
    square, trust = squared_errors(slices, held, pixels, image, weights, limit)
    squares, count = (float(sum_over_slices(values, slices).sum()) for values in (square, trust))
    return math.sqrt(squares / max(count, 1e-9))


def squared_errors(
    slices: Slices, held: Tensor, pixels: Tensor, image: Tensor, weights: Weights, limit: float
) -> tuple[Tensor, Tensor]:
    """(P,) squared errors of the pixels left out, times the trust in their slices; and (P,) that trust.

    Parameters: as `validation_error`.
    """
    trust = broadcast_to_pixels(weights.slice, slices, held.device) * held
    square = torch.clamp((weights.brightness(slices) * image - pixels) ** 2, max=(limit * weights.sigma) ** 2)
    return trust * square, trust
