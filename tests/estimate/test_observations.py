"""Pixels that share their noise with those left out are not fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from brains import still_slices
from scipy.ndimage import gaussian_filter

from slicesplat.config import FitSettings
from slicesplat.estimate.observations import Observations, observe
from slicesplat.geometry.pixels import dilate_in_plane
from slicesplat.geometry.slices import Slices


def observed(slices: Slices) -> Observations:
    return observe(slices, slices.mask, FitSettings(), np.random.default_rng(0))


def test_every_pixel_is_fitted_or_left_out_where_noise_is_white() -> None:
    noise = np.random.default_rng(1).normal(0.5, 0.1, len(still_slices().pixels)).astype(np.float32)
    seen = observed(replace(still_slices(), pixels=noise))
    assert (seen.noise.known, seen.noise.reach) == (True, 1)
    assert torch.equal(seen.fitted | seen.validation, seen.inside)
    assert not (seen.fitted & seen.validation).any()


def test_a_band_around_what_is_left_out_is_neither_fitted_nor_judged_where_noise_is_shared() -> None:
    slices = still_slices()
    pixels = np.random.default_rng(1).normal(0.5, 0.1, len(slices.pixels)).astype(np.float32)
    for s in range(len(slices)):
        slices.image(pixels, s)[:] = gaussian_filter(slices.image(pixels, s), 1.0)
    seen = observed(replace(slices, pixels=pixels))
    assert seen.noise.reach > 1
    near = torch.from_numpy(dilate_in_plane(slices, seen.validation.numpy(), seen.noise.reach))
    assert not (seen.fitted & near).any()
    band = seen.inside & near & ~seen.validation
    assert band.any()
    assert torch.equal(seen.fitted | seen.validation | band, seen.inside)
    # In the end everything is fitted.
    assert torch.equal(seen.all_fitted().fitted, seen.inside)


def test_slices_that_are_left_out_are_not_in_the_region_any_more_and_the_others_are_as_before() -> None:
    seen = observed(still_slices())
    slices = seen.slices
    lost = np.isin(np.arange(len(slices)), [3, 17])
    of_lost = torch.from_numpy(lost[slices.slice_of_pixel()])
    left = seen.without(lost)
    for before, after in ((seen.inside, left.inside), (seen.fitted, left.fitted)):
        assert before[of_lost].any() and not after[of_lost].any()
        assert torch.equal(after[~of_lost], before[~of_lost])
    assert seen.without(np.zeros(len(slices), bool)) is seen
