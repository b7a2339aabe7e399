"""What is likely of all motions together: neighbours and stacks move with each other at no cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from balls import full, sheared, three_stacks

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.motion_prior import MotionPrior, motion_prior, spread

WIDE = (2.0, 0.03)


def wandering() -> Slices:
    """Slices of three stacks that have moved a little, each by itself."""
    slices = three_stacks(2)
    rng = np.random.default_rng(5)
    return slices.moved(Rigid.exp(rng.normal(0, [0.5] * 3 + [0.01] * 3, (len(slices), 6))) @ slices.motion)


def cost(prior: MotionPrior) -> float:
    return sum(float((part.precision * part.deviation**2).sum()) / 2 for part in prior.expectations)


def dense(prior: MotionPrior, slices: int) -> np.ndarray:
    units = np.eye(6 * slices).reshape(-1, slices, 6)
    return np.stack([prior.matvec(unit).ravel() for unit in units], axis=1)


def test_matrix_is_symmetric_and_costs_nothing_where_stacks_move_as_a_whole() -> None:
    slices = wandering()
    prior = motion_prior(slices, full(slices), WIDE)
    matrix = dense(prior, len(slices))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9 * abs(matrix).max())
    values = np.linalg.eigvalsh(matrix)
    assert values.min() > -1e-9 * values.max()
    # Three stacks, six directions each.
    assert (values < 1e-9 * values.max()).sum() == 18


def test_gradient_is_that_of_the_cost_and_the_matrix_its_second_derivative() -> None:
    """The limit of a jump's cost is taken as it is: slices that have moved evenly are far below it."""
    slices = wandering()
    weight = full(slices)
    prior = motion_prior(slices, weight, WIDE)
    steps = np.random.default_rng(6).normal(0, [1.0] * 3 + [0.02] * 3, (len(slices), 6))

    def along(t: float) -> float:
        there = slices.moved(slices.pose @ Rigid.exp(t * steps) @ ~slices.frame)
        moved = motion_prior(there, weight, WIDE)
        parts = [
            replace(new, precision=old.precision)
            for new, old in zip(moved.expectations, prior.expectations, strict=True)
        ]
        return cost(replace(moved, expectations=parts))

    h = 1e-3
    slope, bend = (along(h) - along(-h)) / (2 * h), (along(h) - 2 * along(0.0) + along(-h)) / h**2
    np.testing.assert_allclose((prior.gradient() * steps).sum(), slope, rtol=0.02)
    np.testing.assert_allclose((prior.matvec(steps) * steps).sum(), bend, rtol=0.05)


def test_shear_that_no_slice_notices_costs_what_the_motion_is_larger_by() -> None:
    still, apart = three_stacks(), sheared(three_stacks(), 0.05)
    weight = (still.stack < 2).astype(float)
    there = motion_prior(apart, weight, WIDE)
    home = (~apart.pose @ still.pose).log()
    assert cost(motion_prior(still, weight, WIDE)) < 1e-6 < cost(there)
    # One Newton step along the way home is the whole way.
    length = -(there.gradient() * home)[weight > 0].sum() / (there.matvec(home) * home)[weight > 0].sum()
    np.testing.assert_allclose(length, 1.0, atol=0.05)


def test_slices_that_are_not_trusted_are_drawn_to_their_neighbours_alone() -> None:
    slices = wandering()
    weight = full(slices)
    weight[[3, 4, 17]] = 0.1
    by_neighbours, by_stacks = motion_prior(slices, weight, WIDE).expectations
    assert not by_neighbours.share[:, [3, 4, 17]].any() and not by_stacks.share[:, [3, 4, 17]].any()
    assert by_neighbours.precision[[3, 4, 17]].all() and not by_stacks.precision[[3, 4, 17]].any()


def test_spread_is_that_of_the_typical_slice_and_nothing_is_expected_without_any() -> None:
    slices = wandering()
    translation, rotation = spread(slices, full(slices))
    assert 0.4 < translation < 0.6 and 0.008 < rotation < 0.012
    nobody = full(slices, 0.0)
    assert spread(slices, nobody) == (np.inf, np.inf)
    prior = motion_prior(slices, nobody, (np.inf, np.inf))
    assert not prior.gradient().any() and not prior.diagonal().any()
