"""Measures of quality follow what they are said to measure, whatever the gain of a slice."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from slicesplat.geometry.stack import Stack
from slicesplat.prepare.measures import measure
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


@cache
def scan(motion: str) -> list[Stack]:
    config = SimulationConfig(motion=motion, dropout=0.0, slice_gain=0.0, noise=0.02, pixel=1.6, seed=3)
    return simulate(*brain_phantom(size_mm=80.0, spacing=1.6), config).stacks


def still() -> Stack:
    return scan("none")[0]


def jittered() -> Stack:
    """Every other slice shifted by 5 mm within its plane, image and mask."""
    data, mask = still().data.copy(), still().mask.copy()
    for k in range(0, data.shape[2], 2):
        data[:, :, k] = np.roll(data[:, :, k], 3, axis=0)
        mask[:, :, k] = np.roll(mask[:, :, k], 3, axis=0)
    return replace(still(), data=data, mask=mask)


def test_motion_within_planes_shows_in_every_measure_of_motion() -> None:
    before, after = measure(still()), measure(jittered())
    assert after.centroid > before.centroid + 4.0
    assert after.centroid == pytest.approx(3 * 1.6, abs=1.5)
    assert after.ncc_intersection < before.ncc_intersection - 0.1
    assert after.ncc_median < before.ncc_median - 0.1
    assert after.ncc_window < before.ncc_window
    assert after.nrmse_window > 1.1 * before.nrmse_window
    assert after.psnr_window < before.psnr_window - 0.5
    assert after.rank_error > before.rank_error
    assert after.rank_error_relative > 1.05 * before.rank_error_relative


def test_relative_rank_error_grows_with_motion() -> None:
    means = [np.mean([measure(each).rank_error_relative for each in scan(motion)]) for motion in ("none", "severe")]
    assert means[1] > 1.15 * means[0]


def test_gain_of_the_whole_stack_matters_to_no_measure_and_that_of_slices_not_to_correlation_and_rank() -> None:
    stack = still()
    gains = np.random.default_rng(0).uniform(0.5, 2.0, stack.n_slices).astype(np.float32)
    plain, bright, uneven = (
        measure(replace(stack, data=(stack.data * gain).astype(np.float32))) for gain in (1.0, 3.0, gains)
    )
    for name, value in vars(plain).items():
        assert getattr(bright, name) == pytest.approx(value, rel=1e-4), name
    for name in ("centroid", "mask_volume", "ncc_intersection", "ncc_window", "rank_error"):
        assert getattr(uneven, name) == pytest.approx(getattr(plain, name), rel=1e-3), name


def test_volume_is_that_of_the_mask() -> None:
    stack = still()
    assert measure(stack).mask_volume == pytest.approx(stack.mask.sum() * np.prod(stack.spacing))


def test_what_too_few_slices_cannot_tell_is_not_a_number() -> None:
    stack = still()
    mask = np.zeros_like(stack.mask)
    mask[:, :, 5] = stack.mask[:, :, 5]
    found = measure(replace(stack, mask=mask))
    assert all(np.isnan(value) for value in (found.centroid, found.ncc_intersection, found.psnr_window))
    assert found.mask_volume > 0
