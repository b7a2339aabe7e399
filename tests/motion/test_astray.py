"""What the others do not confirm is taken back, and a jump that they confirm stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from balls import distance, full, observed, put, stepped, three_stacks
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.align import NEIGHBOURING_PIXELS
from slicesplat.motion.astray import Verdict, at_expected, judge_stray, pixels_as_one

JUMP = np.array([4.0, -3.0, 3.0, 0.2, -0.25, 0.15])


def seen(slices: Slices, noise: float = 0.02) -> Slices:
    """The slices as the known field shows them where they are, with noise."""
    random = np.random.default_rng(0).normal(0, noise, len(slices.pixels))
    return replace(slices, pixels=(observed(slices) + random).astype(np.float32))


def judged(slices: Slices, trust: NDArray[np.float64] | None = None) -> Verdict | None:
    inside = torch.from_numpy(slices.mask.astype(np.float32))
    return judge_stray(slices, inside, full(slices) if trust is None else trust, full(slices))


def test_where_all_are_together_nobody_is_judged() -> None:
    assert judged(seen(three_stacks())) is None


@pytest.mark.parametrize("s", [4, 16, 27])
def test_jump_that_the_others_confirm_stands(s: int) -> None:
    truth = three_stacks()
    verdict = judged(seen(put(truth, stepped(truth.pose, s, JUMP))))
    assert verdict is not None and verdict.which.tolist() == [s]
    assert not verdict.back.any()
    assert not verdict.taken_back(len(truth)).any()


def test_slice_that_the_others_were_asked_about_is_not_judged() -> None:
    truth = three_stacks()
    slices = seen(truth).moved(stepped(truth.pose, [4, 27], JUMP) @ ~truth.frame)
    inside, settled = torch.from_numpy(slices.mask.astype(np.float32)), np.arange(len(truth)) == 4
    verdict = judge_stray(slices, inside, full(slices), full(slices), settled=settled)
    assert verdict is not None and 4 not in verdict.which and verdict.taken_back(len(truth))[27]


@pytest.mark.parametrize("s", [4, 16, 27])
def test_slice_that_is_found_where_the_others_show_something_else_is_taken_back(s: int) -> None:
    truth = three_stacks()
    found = stepped(truth.pose, s, JUMP)
    slices = seen(truth).moved(found @ ~truth.frame)
    verdict = judged(slices)
    assert verdict is not None and verdict.which.tolist() == [s] and verdict.back.all()
    after = verdict.motion(slices.motion) @ truth.frame
    assert distance(truth, after, truth.pose)[s] < 0.6
    np.testing.assert_array_equal(np.delete(after.matrix, s, 0), np.delete(found.matrix, s, 0))


def test_slice_of_noise_is_where_it_is_expected() -> None:
    truth, s = three_stacks(), 16
    slices = seen(truth)
    noise = np.random.default_rng(1).normal(0.3, 0.2, slices.pixels.shape).astype(np.float32)
    pixels = np.where(slices.slice_of_pixel() == s, noise, slices.pixels)
    slices = replace(slices, pixels=pixels).moved(stepped(truth.pose, s, JUMP) @ ~truth.frame)
    verdict = judged(slices)
    assert verdict is not None and verdict.back.tolist() == [True]


def test_slice_of_which_the_others_see_nothing_goes_with_its_neighbours() -> None:
    truth, s = three_stacks(), 16
    gone = stepped(truth.pose, s, [100.0, 0, 0, 0, 0, 0])
    slices = seen(truth).moved(gone @ ~truth.frame)
    verdict = judged(slices)
    assert verdict is not None and verdict.back.tolist() == [True]
    assert distance(truth, verdict.motion(slices.motion) @ truth.frame, truth.pose)[s] < 0.01


def test_lost_slice_fits_where_it_is_expected_if_that_is_what_it_shows() -> None:
    truth, (lost, noise) = three_stacks(), (4, 16)
    slices = seen(truth)
    random = np.random.default_rng(1).normal(0.3, 0.2, slices.pixels.shape).astype(np.float32)
    pixels = np.where(slices.slice_of_pixel() == noise, random, slices.pixels)
    slices = replace(slices, pixels=pixels).moved(stepped(truth.pose, [lost, noise], JUMP) @ ~truth.frame)
    inside = torch.from_numpy(slices.mask.astype(np.float32))
    which = np.array([lost, noise])
    home = at_expected(slices, inside, full(slices), full(slices), which)
    assert distance(truth.take(which), home.motion @ truth.frame[which], truth.pose[which])[0] < 0.6
    assert home.ncc[0] > 0.9 and home.ncc[1] < 0.4
    # Two slices at the end of the only stack that is left say nothing of one at its other end.
    alone = np.where(np.isin(np.arange(len(slices)), slices.in_time(2)[:2]), 1.0, 0.0)
    assert at_expected(slices, inside, alone, full(slices), slices.in_time(2)[-1:]).ncc.tolist() == [0.0]


def test_slices_without_trust_neither_speak_nor_are_judged() -> None:
    truth = three_stacks()
    lost = np.arange(len(truth)) == 16
    slices = seen(truth).moved(Rigid.exp(np.outer(lost, JUMP)))
    assert judged(slices, np.where(lost, 0.0, 1.0)) is None
    assert judged(slices, full(slices, 0.0)) is None


def test_residuals_that_are_alike_count_as_few() -> None:
    slices = three_stacks()
    white = np.random.default_rng(0).normal(size=len(slices.pixels))
    smooth = np.concatenate([gaussian_filter(slices.image(white, s), 1.5).ravel() for s in range(len(slices))])
    inside = torch.from_numpy(slices.mask)
    middle = np.abs(slices.index - 5) <= 2
    assert (pixels_as_one(slices, torch.from_numpy(white), inside)[middle] == NEIGHBOURING_PIXELS).all()
    # The autocorrelation of noise smoothed by a Gaussian of 1.5 pixels covers 4 pi 1.5^2 = 28 pixels; an
    # autoregressive process that falls off as fast at the first pixel covers more.
    alike = np.median(pixels_as_one(slices, torch.from_numpy(smooth), inside)[middle])
    assert 28 < alike < 28 * 13
