"""Robust weights of pixels and slices, from one noise model.

A residual is Gaussian noise of one standard deviation sigma for the whole examination, with two kinds of contamination:
single pixels (motion within a slice, fat, pulsation) beyond `pixel_limit` sigma, whose influence falls off as 1/r, and
whole slices (dropouts, slices that have not found their place) whose root-mean-square residual is out of proportion in
their stack, whose weight falls with its fourth power. A stack with more noise than the others has the weight of its
inverse variance: it counts for less, and does not vanish. Scales are medians, so that up to half of either may be
contaminated (Huber and Ronchetti, Robust Statistics, 2nd ed., chapters 4 and 5). docs/method.md, Likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import LikelihoodSettings
from slicesplat.geometry.pixels import MAD_TO_SIGMA, broadcast_to_pixels, median, sum_over_slices
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.bias_field import BiasField

Float = NDArray[np.float64]

_DEFAULT = LikelihoodSettings()
MIN_PIXELS = 60  # a slice with fewer pixels in the mask says too little to judge it, or by it
GAIN_RANGE = (0.2, 5.0)
TINY = 1e-6  # residuals below it are rounding
# Brightest tissue is 1. No scan has less noise, and smaller residuals say nothing against a pixel or a slice: without
# noise, in a simulation, what the field cannot draw would tell most slices from a few that are easily drawn.
LEAST_NOISE = 0.005


@dataclass(frozen=True, eq=False)
class Weights:
    """What the residuals say.

    Attributes
    ----------
    pixel : (P,) float32
        Between 0 and 1; zero where the mask is.
    slice : (S,) float64
        Between 0 and 1.
    gain : (S,) float64
        Intensity of each slice over that of the field; geometric mean 1.
    sigma : float
        Noise level, in units of the pixels.
    bias : BiasField or None
        How unevenly the stacks are lit; None where it is no part of the model.
    """

    pixel: Tensor
    slice: NDArray[np.float64]
    gain: NDArray[np.float64]
    sigma: float
    bias: BiasField | None = None

    def total(self, slices: Slices) -> Tensor:
        """(P,) float32: pixel weight times slice weight."""
        return self.pixel * broadcast_to_pixels(self.slice, slices, self.pixel.device)

    def brightness(self, slices: Slices) -> Tensor:
        """(P,) float32: what the field's image is multiplied with, the slice's gain times the stack's bias field."""
        gain = broadcast_to_pixels(self.gain, slices, self.pixel.device)
        return gain if self.bias is None else gain * self.bias.pixel


def initial_weights(slices: Slices, inside: Tensor) -> Weights:
    """Every pixel inside counts, every slice has gain 1."""
    seen = (sum_over_slices(inside, slices) > 0).astype(np.float64)
    return Weights(inside.float(), seen, np.ones(len(slices)), np.inf)


def reweight(
    slices: Slices,
    pixels: Tensor,
    image: Tensor,
    inside: Tensor,
    old: Weights,
    rim: Tensor | None = None,
    settings: LikelihoodSettings = _DEFAULT,
    undrawn: float = LEAST_NOISE,
) -> Weights:
    """Gains, noise level and weights from the present prediction.

    Parameters
    ----------
    slices : Slices
    pixels : (P,) float32
        What was measured.
    image : (P,) float32
        What the field predicts for gain 1.
    inside : (P,) bool
        Pixels that take part.
    old : Weights
        The previous ones, under which the gains are fitted.
    rim : (P,) bool, optional
        Pixels that get a weight too, but by which nothing else is judged.
    settings : LikelihoodSettings
    undrawn : float
        Root-mean-square residual that says nothing against a slice: what the field cannot draw.
    """
    present = sum_over_slices(inside, slices)
    counts = np.maximum(present, 1)
    lit = image if old.bias is None else old.bias.pixel * image
    gain = fit_gains(slices, pixels, lit, old.pixel * inside, counts) if settings.gains else np.ones(len(slices))
    residual = pixels - replace(old, gain=gain).brightness(slices) * image
    level = np.sqrt(sum_over_slices(torch.where(inside, residual, 0.0) ** 2, slices) / counts)
    weight = _slice_weights(slices.stack, level, counts, settings.slice_limit, max(undrawn, LEAST_NOISE))
    weight[present == 0] = 0.0
    trusted = inside & (broadcast_to_pixels(weight > 0.5, slices, image.device) > 0)
    sigma = max(MAD_TO_SIGMA * median(residual[trusted].abs()), TINY)
    far = torch.clamp(residual.abs() / (settings.pixel_limit * max(sigma, LEAST_NOISE)), min=1.0)
    gain = gain / np.exp(np.average(np.log(gain), weights=weight * counts))
    return Weights((inside if rim is None else inside | rim) / far**2, weight, gain, sigma, old.bias)


def fit_gains(slices: Slices, pixels: Tensor, image: Tensor, weights: Tensor, counts: Float) -> Float:
    """Gains (S,) that bring the prediction for gain 1 nearest to the pixels, in weighted least squares.

    Parameters
    ----------
    slices : Slices
    pixels, image, weights : (P,)
    counts : (S,)
        Pixels of each slice: one whose prediction is empty has gain 1.
    """
    fitted = weights * image
    square = sum_over_slices(fitted * image, slices)
    # One noise-free prior observation of gain 1 with a tenth of the slice's energy: a gain cannot run away.
    gain = (sum_over_slices(fitted * pixels, slices) + 0.1 * square) / np.maximum(1.1 * square, 1e-9)
    return np.where(square > 1e-9 * counts, np.clip(gain, *GAIN_RANGE), 1.0)


def _slice_weights(stack: NDArray[np.int32], level: Float, counts: Float, limit: float, least: float) -> Float:
    """Weights (S,) of slices from the root-mean-square residuals (S,) of so many pixels (S,)."""
    large = counts >= min(MIN_PIXELS, counts.max())
    everywhere = max(float(np.median(level[large])), least)
    weight = np.zeros(len(level))
    for number in np.unique(stack):
        own = stack == number
        typical = max(float(np.median(level[own & large])) if (own & large).any() else everywhere, least)
        # Against its own stack a slice is an outlier or not; a stack with more noise counts by its inverse variance.
        outlier = np.minimum(1.0, limit * typical / np.maximum(level[own], TINY)) ** 4
        weight[own] = outlier * min(1.0, limit * everywhere / typical) ** 2
    return weight
