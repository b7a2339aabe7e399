"""Validation pixels are few, in patches, and say by how much a prediction is off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brains import still_slices

from slicesplat.likelihood.robust import initial_weights
from slicesplat.likelihood.validation import hold_out, validation_error

SHARE = 0.02


def test_pixels_held_out_are_patches_inside_the_mask_and_few() -> None:
    slices = still_slices()
    held = hold_out(slices, slices.mask, np.random.default_rng(0), SHARE)
    assert not held[~slices.mask].any()
    # A tenth of a small scan, less where patches overlap and reach beyond the mask; two per cent of a large one.
    assert 0.05 < held.sum() / slices.mask.sum() < 0.11
    many = slices.take(np.tile(np.arange(len(slices)), 8))
    assert 0.01 < hold_out(many, many.mask, np.random.default_rng(0), SHARE).sum() / many.mask.sum() < 0.03
    np.testing.assert_array_equal(held, hold_out(slices, slices.mask, np.random.default_rng(0), SHARE))
    assert not hold_out(slices, np.zeros_like(slices.mask), np.random.default_rng(0), SHARE).any()


def test_error_is_that_of_the_pixels_held_out_and_of_no_others() -> None:
    slices, rng = still_slices(), np.random.default_rng(1)
    held = torch.from_numpy(hold_out(slices, slices.mask, rng, SHARE))
    pixels = torch.from_numpy(slices.pixels)
    off = torch.where(held, 0.05, 7.0) * torch.from_numpy(rng.choice([-1.0, 1.0], len(pixels)).astype(np.float32))
    weights = replace(initial_weights(slices, torch.from_numpy(slices.mask)), sigma=0.05)
    assert validation_error(slices, held, pixels, pixels + off, weights, 5.0) == pytest.approx(0.05, rel=1e-5)
    # One beyond the limit counts as the limit; a slice without trust does not count.
    assert validation_error(slices, held, pixels, pixels + 100 * off, weights, 5.0) == pytest.approx(0.25, rel=1e-5)
    lost = torch.from_numpy(slices.slice_of_pixel() == 6)
    without = replace(weights, slice=np.where(np.arange(len(slices)) == 6, 0.0, 1.0))
    image = pixels + torch.where(lost, 1.0, off)
    assert validation_error(slices, held, pixels, image, without, 5.0) == pytest.approx(0.05, rel=1e-5)
    assert validation_error(slices, torch.zeros_like(held), pixels, image, weights, 5.0) == 0


def test_patches_are_as_much_larger_as_noise_reaches() -> None:
    slices = still_slices()
    every = np.ones_like(slices.mask)
    held = hold_out(slices, every, np.random.default_rng(0), SHARE, reach=2)
    image = max((slices.image(held, s) for s in range(len(slices))), key=np.sum)
    rows = image.any(axis=1)
    assert np.diff(np.flatnonzero(np.diff(np.pad(rows.astype(int), 1)))).max() >= 8
    assert 0.02 < held.mean() < 0.12
