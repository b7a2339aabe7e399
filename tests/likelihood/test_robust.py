"""Gains, noise and weights are those of what was simulated, whatever else is in the slices."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from brains import still_slices
from numpy.typing import NDArray

from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import Weights, initial_weights, reweight

SIGMA = 0.03
BAD_SLICE, DIM_SLICE = 3, 5


@cache
def judged() -> tuple[Slices, Weights, NDArray]:
    """A known image, noise, one slice that shows something else, one that is dim, and wild pixels."""
    slices = still_slices()
    rng = np.random.default_rng(0)
    image = np.clip(slices.pixels, 0.2, 1.2).astype(np.float32)
    pixels = image + rng.normal(0, SIGMA, len(image)).astype(np.float32)
    slices.image(pixels, DIM_SLICE)[:] = 0.7 * slices.image(image, DIM_SLICE)
    slices.image(pixels, DIM_SLICE)[:] += rng.normal(0, SIGMA, slices.shape[DIM_SLICE])
    slices.image(pixels, BAD_SLICE)[:] = rng.uniform(0, 1.2, slices.shape[BAD_SLICE])
    wild = (rng.random(len(pixels)) < 0.02) & (slices.slice_of_pixel() != BAD_SLICE)
    pixels = np.where(wild, pixels + 0.6, pixels).astype(np.float32)
    inside = torch.from_numpy(slices.mask)
    weights = initial_weights(slices, inside)
    for _ in range(4):
        weights = reweight(slices, torch.from_numpy(pixels), torch.from_numpy(image), inside, weights)
    return slices, weights, wild


def test_slice_that_shows_something_else_loses_its_weight_and_no_other_does() -> None:
    slices, weights, _ = judged()
    assert weights.slice[BAD_SLICE] < 0.02
    large = np.add.reduceat(slices.mask.astype(int), slices.offset[:-1]) > 60
    assert weights.slice[large & (np.arange(len(slices)) != BAD_SLICE)].min() > 0.3
    assert np.median(weights.slice) == 1.0


def test_gain_of_a_slice_is_found_relative_to_the_others() -> None:
    _, weights, _ = judged()
    others = np.delete(weights.gain, [BAD_SLICE, DIM_SLICE])
    # Held to 1 by a tenth of the slice's energy: it comes ten elevenths of the way, less what wild pixels add.
    expected = 1 - 0.3 / 1.1
    assert weights.gain[DIM_SLICE] / np.median(others) == pytest.approx(expected, abs=0.02)
    assert np.abs(others / np.median(others) - 1).max() < 0.05


def test_noise_level_is_found_in_spite_of_outliers() -> None:
    _, weights, _ = judged()
    assert weights.sigma == pytest.approx(SIGMA, rel=0.1)


def test_wild_pixels_lose_their_weight_and_others_keep_it() -> None:
    slices, weights, wild = judged()
    fair = np.isin(slices.slice_of_pixel(), [BAD_SLICE, DIM_SLICE], invert=True) & slices.mask
    assert weights.pixel[fair & wild].max() < 0.15
    assert weights.pixel[fair & ~wild].mean() > 0.99
    assert (weights.pixel[~slices.mask] == 0).all()


def test_total_weight_is_pixel_times_slice() -> None:
    slices, weights, _ = judged()
    owner = slices.slice_of_pixel()
    np.testing.assert_allclose(weights.total(slices), weights.pixel.numpy() * weights.slice[owner], rtol=1e-6)


def test_slice_without_pixels_has_no_weight_and_gain_one() -> None:
    slices = still_slices()
    inside = torch.from_numpy(slices.mask & (slices.slice_of_pixel() != 4))
    weights = initial_weights(slices, inside)
    assert weights.slice[4] == 0
    noise = np.random.default_rng(0).normal(0, SIGMA, len(slices.pixels)).astype(np.float32)
    pixels = torch.from_numpy(slices.pixels)
    weights = reweight(slices, pixels + torch.from_numpy(noise), pixels, inside, weights)
    assert weights.slice[4] == 0
    assert weights.gain[4] == pytest.approx(1.0, abs=1e-3)
    assert np.isfinite(weights.sigma) and weights.sigma > 0


def test_exact_fit_is_trusted() -> None:
    slices = still_slices()
    pixels, inside = torch.from_numpy(slices.pixels), torch.from_numpy(slices.mask)
    weights = reweight(slices, pixels, pixels, inside, initial_weights(slices, inside))
    np.testing.assert_array_equal(weights.slice, 1)
    np.testing.assert_allclose(weights.gain, 1, rtol=1e-6)
