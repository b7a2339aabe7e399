"""What was measured, and what is estimated from it: values that no step changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import FitSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels, dilate_in_plane, sum_over_slices
from slicesplat.geometry.rigid import Float, Rigid, step_product
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.noise import Noise, measured_noise
from slicesplat.likelihood.robust import Weights
from slicesplat.likelihood.validation import hold_out
from slicesplat.splat import CPU, Backend


@dataclass(frozen=True, eq=False)
class Observations:
    """The pixels of all slices, and what part each of them has.

    Attributes
    ----------
    slices : Slices
        Their geometry; where they were in the beginning. Its mask is what the field has to cover.
    pixels : (P,) float32
        What was measured.
    inside : (P,) bool
        Pixels of the region.
    validation : (P,) bool
        Those of them that are left out of the fit, to choose by.
    fitted : (P,) bool
        Those that are fitted, and judge slices and noise.
    around : (P,) bool
        Pixels right beside the region, where they were measured.
    rim : (P,) bool or None
        Those of them that are fitted too; they judge nothing.
    noise : Noise
        That in the pixels, measured before any fit.
    backend : Backend
        Where the tensors are, and where everything is computed.
    belief : (S,) or None
        What a slice counts for besides what its residuals say; None: all in full.
    """

    slices: Slices
    pixels: Tensor
    inside: Tensor
    validation: Tensor
    fitted: Tensor
    around: Tensor
    rim: Tensor | None
    noise: Noise
    backend: Backend
    belief: Float | None = None

    @property
    def pixel_spacing(self) -> float:
        """Distance, mm, between pixels that were measured: those that were interpolated between them show no more."""
        return float(np.median(self.slices.step)) * self.noise.step

    def with_rim(self) -> Observations:
        """The pixels beside the region are fitted too."""
        return replace(self, rim=self.around)

    def all_fitted(self) -> Observations:
        """The validation pixels are fitted too."""
        return replace(self, fitted=self.inside)

    def believing(self, belief: Float) -> Observations:
        """Slices count for (S,) besides what their residuals say."""
        return replace(self, belief=belief)

    def without(self, lost: NDArray[np.bool_]) -> Observations:
        """Slices (S,) take no part any more."""
        if not lost.any():
            return self
        kept = broadcast_to_pixels(~lost, self.slices, self.pixels.device) > 0
        return replace(self, inside=self.inside & kept, fitted=self.fitted & kept)


def observe(
    slices: Slices,
    inside: NDArray[np.bool_],
    settings: FitSettings,
    random: np.random.Generator,
    backend: Backend = CPU,
) -> Observations:
    """The observations of slices, with some of the pixels inside left out for validation.

    Parameters
    ----------
    slices : Slices
        Intensities near 1.
    inside : (P,) bool
        Pixels that take part; a slice without any is left out.
    settings : FitSettings
    random : numpy Generator
        Chooses the pixels that are left out.
    backend : Backend
    """
    noise = measured_noise(slices, backend.tensor(inside, torch.bool), backend, settings.likelihood.noise)
    slices = slices.interpolated(noise.step)
    judged = dilate_in_plane(slices, inside, -settings.outline)
    held = hold_out(slices, judged, random, settings.likelihood.validation_share, noise.reach)
    # Pixels that share their noise with those left out would tell it to the fit.
    guarded = held if noise.reach == 1 else dilate_in_plane(slices, held, noise.reach)
    seen = dilate_in_plane(slices, inside, settings.rim)
    # Where a stack was cut out nothing was measured beside the mask, but the field goes on.
    around = seen & ~inside & slices.measured
    inside_, held_, guarded_, around_ = (backend.tensor(x, torch.bool) for x in (inside, held, guarded, around))
    return Observations(
        slices=replace(slices, mask=seen),
        pixels=backend.tensor(slices.pixels),
        inside=inside_,
        validation=held_,
        fitted=inside_ & ~guarded_,
        around=around_,
        rim=None,
        noise=noise,
        backend=backend,
    )


@dataclass(frozen=True, eq=False)
class Estimate:
    """Everything that is estimated.

    Attributes
    ----------
    field : GaussianField
    motion : Rigid (S)
    weights : Weights
        Of pixels and slices, with gains and noise level.
    ncc : (S,)
        Correlation of each slice with its prediction when its pose was last refined.
    held : (S,) bool
        Slices that go where their neighbours in time go.
    error : float
        Root-mean-square error of the validation pixels, noise included; infinite before it is known.
    image : (P,) float32 or None
        What the field predicts at these motions for gain 1, where it is known.
    """

    field: GaussianField
    motion: Rigid
    weights: Weights
    ncc: Float
    held: NDArray[np.bool_]
    error: float = np.inf
    image: Tensor | None = None

    def moved(self, motion: Rigid, ncc: Float | None = None) -> Estimate:
        """The same with the slices elsewhere."""
        return replace(self, motion=motion, ncc=self.ncc if ncc is None else ncc, image=None)

    def trusting(self, pixels: Tensor) -> Estimate:
        """The same with pixels (P,) bool that count in full.

        Pixels that the field was not fitted to predict badly where no other slice looks. Judged by that they would not
        be fitted afterwards either, nor would their slices.
        """
        weights = replace(self.weights, pixel=self.weights.pixel.masked_fill(pixels, 1.0))
        return replace(self, weights=weights)

    def with_amplitudes(self, amplitudes: Tensor, image: Tensor) -> Estimate:
        """The same with other amplitudes, which predict this image."""
        return replace(self, field=replace(self.field, amplitudes=amplitudes), image=image)


Swept = Callable[[Estimate], None]
"""Told after every sweep what is estimated now."""


def mean_product(observations: Observations, weights: Weights, one: Float, other: Float) -> float:
    """Mean inner product of two steps (S, 6) of the slices that count, mm^2."""
    trust = weights.slice * sum_over_slices(observations.fitted, observations.slices)
    return float(np.average(step_product(one, other), weights=trust)) if trust.any() else 0.0
