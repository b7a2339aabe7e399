"""Slices that are trusted, with coarse pixels: stacks are predicted from them, and compared with predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.splat import CPU, Backend


def binned_to(pixel: float, slices: Slices) -> Slices:
    """The slices with pixels of about so many mm."""
    pixels = round(pixel / float(np.median(slices.step)))
    return slices.binned(int(np.clip(pixels, 1, slices.shape.min())))


def comparable(slices: Slices, weight: Float) -> bool:
    """Whether slices of more than one stack are trusted, by their weights (S,)."""
    return len(np.unique(slices.stack[weight > 0])) > 1


class Trusted:
    """The slices of some weight, with coarse pixels.

    Parameters
    ----------
    slices : Slices
    weight : (S,)
        Trust in them.
    pixel : float
        Of about so many mm.
    backend : Backend

    Attributes
    ----------
    slices : Slices (T)
        Those that are trusted.
    pixels : (P,)
        What they show.
    trust : (P,)
        In each pixel; zero outside the masks.
    """

    def __init__(self, slices: Slices, weight: Float, pixel: float, backend: Backend = CPU) -> None:
        which = np.flatnonzero(weight > 0)
        self._pixel, self._backend = pixel, backend
        self._given, self._among = slices.take(which), pixel_indices(slices.offset, which)
        self.slices = binned_to(pixel, self._given)
        self.pixels = backend.tensor(self.slices.pixels)
        inside = backend.tensor(self.slices.mask)
        self.trust = inside * broadcast_to_pixels(weight[which], self.slices, backend.device)

    def pixels_of(self, image: NDArray[np.float32]) -> Tensor:
        """What trusted slices show (P,) if what all of them show is an image (P',) with fine pixels."""
        return self._backend.tensor(binned_to(self._pixel, replace(self._given, pixels=image[self._among])).pixels)
