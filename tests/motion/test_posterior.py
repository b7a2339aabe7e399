"""The standard error of a pose is as large as its error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from balls import RADIUS, distance, full, known_field, observed, placed, put, some_poses, three_stacks

from slicesplat.geometry.rigid import Rigid
from slicesplat.motion.align import NEIGHBOURING_PIXELS, align, pose_covariance
from slicesplat.motion.posterior import rms_displacement, shown_by_others
from slicesplat.motion.time_prior import TimePrior

NOISE = 0.05
UNLIMITED = 1e3


def test_displacement_is_that_of_the_pixels() -> None:
    slices, step = three_stacks(), np.random.default_rng(0).normal(size=(33, 6)) * [1, 1, 1, 0.1, 0.1, 0.1]
    found = rms_displacement(step[:, :, None] * step[:, None, :], slices)
    for s in (0, 7, 16, 32):
        x = slices.plane_points(s)
        moved = step[s, :3] + np.cross(step[s, 3:], x)
        assert found[s] == pytest.approx(np.sqrt((moved**2).sum(axis=1).mean()))


def test_error_of_a_pose_is_about_its_standard_error() -> None:
    truth, ratios = three_stacks(), []
    prior, field = TimePrior(truth.pose, 100.0, 10.0), known_field()
    weights = torch.from_numpy(truth.mask.astype(np.float32))
    large = np.add.reduceat(truth.mask, truth.offset[:-1]) > 60
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(0, NOISE, len(truth.pixels))
        pixels = torch.from_numpy((observed(truth) + noise).astype(np.float32))
        found = align(field, truth, pixels, weights, full(truth), full(truth, UNLIMITED), iterations=10)
        here = truth.moved(found.motion)
        sigma = full(truth, NOISE)
        given = (field, here, pixels, weights, found.gain, full(truth, UNLIMITED), sigma, placed(field, here), prior)
        known = rms_displacement(pose_covariance(*given), truth)
        ratios.append((distance(truth, here.pose, truth.pose) / known)[large])
    # This noise is white: a pixel says as much as it says, and not as much as one in four.
    assert np.sqrt(np.mean(np.square(ratios)) * NEIGHBOURING_PIXELS) == pytest.approx(1.0, abs=0.15)


def test_slice_that_shows_nothing_is_known_as_well_as_its_neighbours_say() -> None:
    truth = three_stacks()
    prior = TimePrior(some_poses(len(truth)), 0.7, 0.05)
    slices, field = put(truth, prior.pose), known_field()
    nothing = torch.zeros(len(truth.pixels))
    given = (nothing, nothing, full(truth), full(truth, UNLIMITED), full(truth, NOISE), placed(field, slices), prior)
    covariance = pose_covariance(field, slices, *given)
    expected = np.diag(prior.scales()[0] ** 2)
    np.testing.assert_allclose(covariance, np.broadcast_to(expected, covariance.shape), rtol=1e-5, atol=1e-9)


def test_slice_that_no_other_stack_crosses_is_not_shown_by_others() -> None:
    slices = three_stacks()
    seen = shown_by_others(slices, full(slices))
    middle = np.abs(slices.index - 5) <= 2
    assert seen[middle].min() > 0.8
    # One is far away, and of one stack nobody else is left.
    away = np.zeros((len(slices), 6))
    away[14, 0] = 10 * RADIUS
    assert shown_by_others(slices.moved(Rigid.exp(away)), full(slices))[14] < 0.01
    alone = shown_by_others(slices, np.where(slices.stack == 1, 1.0, 0.0))
    assert alone[slices.stack == 1].max() < 0.01
    # The unit is what a typical slice is shown of: twice the trust is no more news.
    np.testing.assert_allclose(shown_by_others(slices, full(slices, 0.5)), seen, rtol=1e-4)
