"""Sweeps and turns go on for as long as they bring something."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from balls import distance, some_field
from brains import still_slices

from slicesplat.config import FitSettings, TimePriorSettings
from slicesplat.estimate.alternate import alternate, sweep
from slicesplat.estimate.lattice import LatticeStrategy
from slicesplat.estimate.objective import empty_estimate
from slicesplat.estimate.observations import Estimate, Observations, observe
from slicesplat.estimate.strategy import Candidate
from slicesplat.geometry.rigid import Rigid, limited
from slicesplat.likelihood.robust import initial_weights

COARSE = FitSettings(spacings=(3.0,))


def observations() -> Observations:
    slices = still_slices()
    return observe(slices, slices.mask, COARSE, np.random.default_rng(0))


@dataclass
class Scripted:
    """An objective whose sweeps come to the errors given."""

    errors: list[float]
    iterations: list[int | None] = field(default_factory=list)

    def irls_sweep(self, observations: Observations, estimate: Estimate, iterations: int | None = None) -> Estimate:
        self.iterations.append(iterations)
        return replace(estimate, error=self.errors.pop(0))


@pytest.mark.parametrize(
    ("before", "errors", "rival", "swept"),
    [
        (np.inf, [1.0, 1.1, 0.4, 0.3], 0.5, 2),  # it rises
        (np.inf, [1.0, 0.9, 0.6, 0.4], 0.5, 2),  # by 0.1 a sweep it comes to 0.7 at most
        (np.inf, [1.0, 0.7, 0.65, 0.4], 0.5, 3),  # at first it may come to 0.1, then to 0.6 at most
        (np.inf, [1.0, 0.7, 0.5, 0.4], 0.5, 4),
        (np.inf, [1.0, 0.8, 0.6, 0.45], 0.5, 4),  # two more by 0.2 come to 0.4
        (np.inf, [1.0, 1.1, 1.2, 1.3], np.inf, 4),  # nobody to lose against
        (0.5, [0.51, 0.4], 0.5, 1),  # under another prior it goes on from where the rival is
    ],
)
def test_a_trial_ends_when_it_cannot_win_any_more_and_not_before(
    before: float, errors: list[float], rival: float, swept: int
) -> None:
    slices = still_slices()
    data = observations()
    begun = empty_estimate(some_field(), slices.motion, initial_weights(slices, data.fitted))
    told: list[float] = []
    candidate = Candidate(Scripted(list(errors)), replace(begun, error=before))  # type: ignore[arg-type]
    found = sweep(data, candidate, len(errors), lambda estimate: told.append(estimate.error), rival)
    assert told == errors[:swept]
    assert found.estimate.error == errors[swept - 1]
    assert candidate.estimate.error == before


def test_the_last_sweep_takes_the_iterations_that_it_is_told() -> None:
    slices, data = still_slices(), observations()
    begun = empty_estimate(some_field(), slices.motion, initial_weights(slices, data.fitted))
    scripted = Scripted([0.3, 0.2, 0.1])
    sweep(data, Candidate(scripted, begun), 3, lambda estimate: None, last=8)  # type: ignore[arg-type]
    assert scripted.iterations == [None, None, 8]


@pytest.mark.parametrize(
    ("settings", "turns"),
    [
        (replace(COARSE, still=np.inf), 1),  # they have not moved
        (replace(COARSE, still=0.0, stalled=0.0), 3),  # they move by more
        (replace(COARSE, pose_steps=0), 1),
    ],
    ids=["still", "moving", "held"],
)
def test_field_and_poses_take_turns_until_the_slices_are_still(settings: FitSettings, turns: int) -> None:
    data, told = observations(), []  # type: ignore[var-annotated]
    start = LatticeStrategy(settings, TimePriorSettings()).initialise(data, data.slices.motion)
    alternate(data, start, 3, lambda estimate: told.append(estimate.error))
    assert len(told) == turns


def test_slice_that_is_a_little_off_comes_closer() -> None:
    data, truth = observations(), still_slices()
    off = np.arange(len(truth)) == 12
    # A little, in the plane of the slice and about its normal.
    motion = (truth.frame @ Rigid.exp(np.outer(off, [0.6, -0.5, 0, 0, 0, 0.03]))) @ ~truth.frame
    start = LatticeStrategy(FitSettings(), TimePriorSettings()).initialise(data, motion)
    found = alternate(data, start, 4, lambda estimate: None).estimate
    before, after = (distance(truth, where @ truth.frame, truth.pose)[off] for where in (motion, found.motion))
    assert before > 0.7
    assert after < 0.6 * before


def test_no_slice_is_moved_ahead_further_than_allowed() -> None:
    step = np.array([[3.0, 0.0, 4.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0, 0.125, 0]])
    # The last one is five millimetres at the lever arm.
    expected = [[0.3, 0.0, 0.4, 0.0, 0.0, 0.0], step[1], 0.1 * step[2]]
    np.testing.assert_allclose(limited(step, 0.5), expected)


@dataclass
class Walking:
    """An objective whose turns move all slices by the steps given, mm along x and y, wherever they are."""

    steps: list[tuple[float, float]]
    settings: FitSettings = COARSE

    def irls_sweep(self, observations: Observations, estimate: Estimate, iterations: int | None = None) -> Estimate:
        return estimate

    def refine_poses(self, observations: Observations, estimate: Estimate) -> Estimate:
        step = Rigid.exp([*self.steps.pop(0), 0.0, 0.0, 0.0, 0.0])
        frame = observations.slices.frame
        return estimate.moved(estimate.motion @ frame @ step @ ~frame)


@pytest.mark.parametrize(
    ("steps", "turns"),
    [
        ([(0.3, 0.0), (0.2, 0.0), (0.2, 0.0), (0.3, 0.0), (0.2, 0.0)], 5),  # no less than before
        ([(0.3, 0.0), (0.2, 0.0), (0.0, 0.12), (0.18, 0.0), (0.0, 0.2)], 5),  # by little in one turn
        ([(0.3, 0.0), (0.2, 0.0), (0.0, 0.1), (0.0, 0.005), (0.3, 0.0)], 4),  # less and less, until they are still
        ([(0.06, 0.0), (0.0, 0.058), (0.059, 0.0), (0.2, 0.0)], 3),  # hardly, and no less than before
    ],
)
def test_turns_go_on_while_slices_have_far_to_go_and_end_where_noise_moves_them(
    steps: list[tuple[float, float]], turns: int
) -> None:
    data, told = observations(), []  # type: ignore[var-annotated]
    begun = empty_estimate(some_field(), data.slices.motion, initial_weights(data.slices, data.fitted))
    candidate = Candidate(Walking(list(steps)), begun)  # type: ignore[arg-type]
    alternate(data, candidate, len(steps), lambda estimate: told.append(1))
    assert len(told) == turns
