"""Descent: sweeps of the field's block, turns of field and poses with momentum, and steps of both together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slicesplat.estimate.observations import Observations, Swept, mean_product
from slicesplat.estimate.strategy import Candidate
from slicesplat.geometry.rigid import Rigid, limited

_WORSE = 1.01


def sweep(
    observations: Observations,
    candidate: Candidate,
    sweeps: int,
    swept: Swept,
    rival: float = math.inf,
    last: int | None = None,
) -> Candidate:
    """So many sweeps of the field, its gains and weights; the poses stay.

    It ends early where the error of the validation pixels will not fall below a rival's: what a sweep gains becomes
    less from one to the next, so that it comes no further than the last one did times those that are left. The last of
    them takes so many iterations, where it is told.
    """
    objective, estimate = candidate.objective, candidate.estimate
    del candidate  # its image and weights are as large as the pixels
    for left in reversed(range(sweeps)):
        before = estimate.error
        estimate = objective.irls_sweep(observations, estimate, None if left else last)
        swept(estimate)
        if left and estimate.error - left * max(before - estimate.error, 0.0) >= rival:
            break
    return Candidate(objective, estimate)


def alternate(observations: Observations, candidate: Candidate, rounds: int, swept: Swept) -> Candidate:
    """Field and poses in turn, so many times or until the slices come no closer.

    Where few slices cross, field and slices give way together, a little in every turn. So the poses are moved ahead in
    the direction in which they are going (Nesterov, Soviet Mathematics Doklady 27, 1983, 372-376), afresh when they
    turn back (O'Donoghue and Candes, Foundations of Computational Mathematics 15, 2015, 715-732).
    """
    objective, estimate = candidate.objective, candidate.estimate
    del candidate
    settings, frame = objective.settings, observations.slices.frame
    momentum, before = 0, estimate.motion @ frame
    moved: list[float] = []  # root mean square of every turn, mm
    for turn in range(rounds):
        estimate = objective.irls_sweep(observations, estimate)
        swept(estimate)
        start = estimate.motion @ frame
        estimate = objective.refine_poses(observations, estimate)
        pose = estimate.motion @ frame
        step, going = (~start @ pose).log(), (~before @ pose).log()
        moved.append(math.sqrt(mean_product(observations, estimate.weights, step, step)))
        share = _share(moved)
        stalled = share > settings.stalled and moved[-1] < settings.still
        if turn + 1 == rounds or _left(moved[-1], share) < settings.still or stalled:
            break
        momentum = momentum + 1 if mean_product(observations, estimate.weights, step, going) > 0 else 0
        extrapolation = limited(momentum / (momentum + 3) * going, settings.max_extrapolation)
        estimate = estimate.moved(pose @ Rigid.exp(extrapolation) @ ~frame)
        before = pose
    return Candidate(objective, estimate)


def descend_jointly(observations: Observations, candidate: Candidate, rounds: int, swept: Swept) -> Candidate:
    """Amplitudes and poses together, so many steps or until the slices are still.

    Where it predicts the validation pixels worse by more than a hundredth in the end, nothing has happened: Gauss and
    Newton's steps are not tried one by one.
    """
    objective, estimate = candidate.objective, candidate.estimate
    wide = objective.spread(observations, estimate)
    for _ in range(rounds):
        before = estimate.motion @ observations.slices.frame
        estimate = objective.joint_sweep(observations, estimate, wide)
        swept(estimate)
        step = (~before @ (estimate.motion @ observations.slices.frame)).log()
        if math.sqrt(mean_product(observations, estimate.weights, step, step)) < objective.settings.still:
            break
    worse = estimate.error > _WORSE * candidate.estimate.error
    return candidate if worse else Candidate(objective, estimate)


def _share(moved: Sequence[float]) -> float:
    """Share of the turn before that slices move by in a turn: over the last two, as with momentum it goes up and down.

    Examples
    --------
    >>> _share([0.4]), _share([0.4, 0.1]), _share([0.4, 0.0, 0.1])
    (0.5, 0.25, 0.5)
    """
    steps = min(2, len(moved) - 1)
    return (moved[-1] / max(moved[-1 - steps], 1e-12)) ** (1 / steps) if steps else 0.5


def _left(moved: float, share: float) -> float:
    """How far slices will go that moved so far, if each turn moves them by that share of the one before.

    Examples
    --------
    >>> _left(0.1, 0.5), _left(0.1, 1.0)
    (0.1, inf)
    """
    return moved * share / (1 - share) if share < 1 else math.inf
