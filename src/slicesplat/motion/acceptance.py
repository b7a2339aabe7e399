"""Which slices are believed to be where they were found."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.pixels import sum_over_slices
from slicesplat.geometry.rigid import Float, displacement
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.noise import noise_levels
from slicesplat.motion.align import Alignment
from slicesplat.motion.recover import correlates_little
from slicesplat.motion.time_prior import time_prior
from slicesplat.splat import CPU, Backend

_DEFAULT = RegistrationSettings()


def slice_weights(misfit: Float) -> Float:
    """Trust (S,) in slices from their root-mean-square misfit: falls with its square above the median."""
    return np.minimum(1.0, np.median(misfit) / np.maximum(misfit, 1e-12)) ** 2


def out_of_place(
    slices: Slices, state: Alignment, least: Float | float, settings: RegistrationSettings = _DEFAULT
) -> NDArray[np.bool_]:
    """Slices (S,) that still do not fit: hardly any correlation, or little of it at a place that makes no sense.

    `slices` are where `state` says; `least` is the correlation (S,) that they have to reach.
    """
    prior = time_prior(slices, slice_weights(state.misfit), settings.time)
    strays = prior.stray(slices.pose) > 2 * settings.recovery.stray
    far = strays & (displacement(prior.pose, slices.pose) > settings.far)
    return np.asarray((state.ncc < least) | (correlates_little(state.ncc, settings.recovery) & far))


def least_ncc(slices: Slices, settings: RegistrationSettings = _DEFAULT, backend: Backend = CPU) -> Float:
    """Correlation (S,) with the prediction below which a slice does not show what the field shows.

    A perfect prediction correlates with an image by the root of the share of the image's variance that is no noise
    (attenuation, Spearman, American Journal of Psychology 15, 1904, 72-101). It never falls to what chance gives.
    """
    inside = backend.tensor(slices.mask, torch.bool)
    noise = noise_levels(slices, inside, backend)
    noise = np.where(np.isfinite(noise), noise, np.nanmedian(noise) if np.isfinite(noise).any() else 0.0)
    pixels = backend.tensor(slices.pixels, torch.float64)
    sums = (sum_over_slices(values * inside, slices) for values in (torch.ones_like(pixels), pixels, pixels**2))
    count, total, squares = sums
    count = np.maximum(count, 1)
    variance = np.maximum(squares / count - (total / count) ** 2, 1e-12)
    attenuated = settings.least_ncc * np.sqrt(np.maximum(1 - noise**2 / variance, 0.0))
    return np.clip(settings.beyond_chance / np.sqrt(count), attenuated, settings.least_ncc)
