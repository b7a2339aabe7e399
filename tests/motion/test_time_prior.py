"""A slice is expected where its neighbours in time are, and motion may jump."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from balls import distance, full, some_poses, three_stacks

from slicesplat.config import TimePriorSettings
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.time_prior import TimePrior, gone_and_back, time_prior

JUMP = TimePriorSettings().jump


def in_motion(interleave: int, jump_at: int | None = None) -> Slices:
    """Slices that drift evenly in time; from one moment on, all of them have jumped."""
    slices = three_stacks(interleave)
    steps = np.zeros((len(slices), 6))
    for stack in range(3):
        for time, s in enumerate(slices.in_time(stack)):
            jumped = 10.0 if jump_at is not None and time >= jump_at else 0.0
            steps[s] = [0.3 * time + jumped, -0.1 * time, 0.2 * time, 0, 0, 0.004 * time]
    return slices.moved(Rigid.exp(steps))


@pytest.mark.parametrize("interleave", [1, 2])
def test_slice_of_an_even_motion_is_where_its_neighbours_in_time_say(interleave: int) -> None:
    slices = in_motion(interleave)
    prior = time_prior(slices, full(slices))
    inner = np.concatenate([slices.in_time(stack)[1:-1] for stack in range(3)])
    # The chord of an arc of half a degree at the radius of the ball is off by a few micrometres.
    assert distance(slices, prior.pose, slices.pose)[inner].max() < 0.01
    if interleave == 2:
        # Neighbours in space were acquired at other times and say something else.
        wrong = time_prior(replace(slices, time=slices.index.astype(float)), full(slices))
        assert distance(slices, wrong.pose, slices.pose)[inner].min() > 0.5


def test_slice_that_is_not_trusted_says_nothing_and_is_expected_between_its_neighbours() -> None:
    even = in_motion(1)
    order = even.in_time(0)
    lost = np.arange(len(even)) == order[4]
    slices = even.moved((Rigid.exp([40.0, 40, 40, 1, 1, 1]) @ even.motion).where(lost, even.motion))
    prior = time_prior(slices, np.where(lost, 0.0, 1.0))
    assert distance(slices, prior.pose, even.pose)[order[3:6]].max() < 0.02
    assert prior.stray(slices.pose)[lost] > 10
    # The scale is that of the others.
    assert prior.translation < 1.0


def test_slice_is_less_certain_the_further_its_neighbours_are() -> None:
    slices = in_motion(1)
    order = slices.in_time(0)
    missing = np.isin(np.arange(len(slices)), order[4:7])
    prior = time_prior(slices, np.where(missing, 0.0, 1.0), by_distance=True)
    plain = time_prior(slices, np.where(missing, 0.0, 1.0))
    times = prior.scales()[order] / plain.scales()
    # Between next neighbours as ever; two steps from either side; one and three; and beyond the last one.
    for place, expected in ((2, 1.0), (5, np.sqrt(2.0)), (4, np.sqrt(1.5)), (0, np.sqrt(2.0))):
        np.testing.assert_allclose(times[place], expected)
    np.testing.assert_array_equal(prior[order[3:6]].scales(), prior.scales()[order[3:6]])


def test_examination_that_shows_nothing_expects_nothing() -> None:
    slices = in_motion(1)
    prior = time_prior(slices, full(slices, 0.0))
    cost, _ = prior.penalty(some_poses(len(slices)))
    np.testing.assert_array_equal(cost, 0)


def test_jump_costs_no_more_than_its_limit() -> None:
    slices = in_motion(1, jump_at=6)
    prior = time_prior(slices, full(slices))
    cost, influence = prior.penalty(slices.pose)
    order = slices.in_time(0)
    assert (cost <= JUMP**2).all()
    assert cost[order[6]] > 0.5 * JUMP**2
    assert influence[order[6]] < 0.1 * influence[order[2]]
    far, _ = prior.penalty(Rigid.exp([1e6, 0, 0, 0, 0, 0]) @ slices.pose)
    assert (far > 0.99 * JUMP**2).all() and (far <= JUMP**2).all()


def test_penalty_of_a_small_deviation_is_its_square() -> None:
    prior = TimePrior(some_poses(1), 2.0, 0.1)
    cost, _ = prior.penalty(prior.pose @ Rigid.exp([0.2, 0, 0, 0, 0.01, 0]))
    assert cost[0] == pytest.approx(0.1**2 + 0.1**2, rel=0.01)


def test_slice_at_which_the_subject_went_away_and_came_back_is_told_from_a_jump() -> None:
    even, jumped = in_motion(1), in_motion(1, jump_at=6)
    order, weight = even.in_time(0), full(even)
    inner = order[1:-1]
    assert gone_and_back(even, weight)[inner].max() < 0.5
    assert gone_and_back(jumped, weight)[inner].max() < 0.5  # the jump is 30 times the scale
    away = np.arange(len(even)) == order[4]
    there = even.moved((Rigid.exp([0.0, 3.0, 0.0, 0.0, 0.05, 0.0]) @ even.motion).where(away, even.motion))
    off = gone_and_back(there, weight)
    assert off[order[4]] > 5 and off[order[[1, 2, 6, 7, 8]]].max() < 0.5
    # Its neighbours lie off it, and where the other side has them.
    assert off[order[[3, 5]]].max() < 1
    assert not gone_and_back(there, full(even, 0.0)).any()


def test_last_slice_is_measured_by_its_only_neighbour() -> None:
    even = in_motion(1)
    order, weight = even.in_time(0), full(even)
    last = np.arange(len(even)) == order[-1]
    there = even.moved((Rigid.exp([0.0, 3.0, 0.0, 0.0, 0.05, 0.0]) @ even.motion).where(last, even.motion))
    assert gone_and_back(there, weight)[last] > 4
    # With two slices missing before it, it may have gone further.
    weight[order[-3:-1]] = 0.0
    np.testing.assert_allclose(
        gone_and_back(there, weight)[last], gone_and_back(there, full(even))[last] / np.sqrt(3), rtol=0.2
    )
