"""Slices that have lost their way are found again, and no others are touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from balls import SCALE, distance, full, known_field, observed, put, stepped, three_stacks
from numpy.typing import NDArray

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.acceptance import slice_weights
from slicesplat.motion.align import Alignment, align
from slicesplat.motion.recover import Search, recover, suspects
from slicesplat.motion.time_prior import time_prior

FAR = np.array([6.0, -6.0, 5.3, *np.deg2rad(20) * np.array([0.6, 0.64, -0.48])])  # 10 mm and 20 degrees


def with_noise(slices: Slices) -> Slices:
    """The slices as the known field shows them where they are, with noise."""
    noise = np.random.default_rng(0).normal(0, 0.02, len(slices.pixels))
    return replace(slices, pixels=(observed(slices) + noise).astype(np.float32))


def search(slices: Slices, start: Rigid) -> tuple[Alignment, NDArray[np.int64], Alignment, int]:
    """Align from `start` and search what is lost: the state before, who is suspect, the state after, how many moved."""
    inside = torch.from_numpy(slices.mask.astype(np.float32))
    given = (slices.pixels, inside, full(slices), full(slices, SCALE))
    state = align(known_field(), put(slices, start), *given, iterations=4)
    here = slices.moved(state.motion)
    prior = time_prior(here, slice_weights(state.misfit))
    found, replaced = recover(Search(known_field(), here, inside, prior, SCALE), state, np.random.default_rng(0))
    return state, suspects(state, here, prior), found, replaced


@pytest.mark.parametrize("s", [5, 16, 27])
def test_lost_slice_is_found_again(s: int) -> None:
    slices = with_noise(three_stacks())
    state, suspect, found, replaced = search(slices, stepped(slices.pose, s, FAR))
    # The alignment alone does not get there.
    assert distance(slices, state.motion @ slices.frame, slices.pose)[s] > 5
    assert s in suspect
    assert replaced == 1
    assert distance(slices, found.motion @ slices.frame, slices.pose)[s] < 0.2
    assert found.misfit[s] < state.misfit[s]
    fine = np.setdiff1d(np.arange(len(slices)), suspect)
    assert len(fine) > 0.7 * len(slices)
    np.testing.assert_array_equal(found.motion.matrix[fine], state.motion.matrix[fine])


def test_slice_that_jumped_away_from_its_neighbours_is_found_more_often_than_not() -> None:
    still = three_stacks()
    after = []
    for s in (2, 4, 6, 8, 14, 16, 18, 24, 28):
        truth = stepped(still.pose, s, FAR)
        slices = with_noise(put(still, truth))
        state, _, found, _ = search(slices, still.pose)
        assert distance(still, state.motion @ still.frame, truth)[s] > 5
        own = np.array([s])
        here, alone = slices.moved(found.motion).take(own), slices.take(own)
        inside = here.mask.astype(np.float32)
        refined = align(known_field(), here, here.pixels, inside, full(here), full(here, SCALE), iterations=10)
        after.append(distance(alone, refined.motion @ alone.frame, alone.pose)[0])
    # Its neighbours do not know: random starts within 15 mm and 45 degrees have to come near enough.
    assert np.mean(np.array(after) < 0.2) >= 0.5


def test_nothing_is_lost_by_searching_where_nothing_is_lost() -> None:
    slices = with_noise(three_stacks())
    before, _, found, _ = search(slices, slices.pose)
    off = [distance(slices, state.motion @ slices.frame, slices.pose) for state in (before, found)]
    # The outermost slices show a dozen pixels of the ball each; they may be suspect, and the noise moves them.
    assert off[1].max() < off[0].max() + 0.2
    assert np.median(off[1]) < 0.1
