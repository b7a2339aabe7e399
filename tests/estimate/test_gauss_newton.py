"""Amplitudes and poses together: the system is what it says, and shears go back that turns leave as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from balls import distance, known_field, observed, placed, sheared, three_stacks

from slicesplat.config import FitSettings, TimePriorSettings
from slicesplat.estimate.alternate import descend_jointly
from slicesplat.estimate.gauss_newton import JointSystem
from slicesplat.estimate.lattice import LatticeStrategy
from slicesplat.estimate.observations import Estimate, Observations, observe
from slicesplat.estimate.strategy import Candidate
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.motion_prior import motion_prior

SETTINGS = FitSettings(spacings=(1.6,), still=0.02)


def two_stacks(by: float = 0.0) -> Slices:
    """Two of the stacks of a known field, which were moved by a shear after they had been acquired."""
    slices = three_stacks()
    slices = replace(slices, pixels=observed(slices) + np.float32(0.2), mask=slices.mask.copy())
    for s in np.flatnonzero(slices.stack == 2):
        slices.image(slices.mask, s)[:] = False
    return sheared(slices, by)


def test_step_solves_the_joint_least_squares() -> None:
    slices, field, rng = three_stacks(), known_field(), np.random.default_rng(1)
    forward_model, count = placed(field, slices), len(field)
    jacobian = forward_model.pose_jacobian(field.amplitudes)[:6]
    weights = torch.tensor(rng.uniform(0.2, 1.0, len(slices.pixels)), dtype=torch.float32)
    prior = motion_prior(slices, np.ones(len(slices)), (1.0, 0.02))
    system = JointSystem(
        slices, forward_model, jacobian, weights, lambda a: 0.5 * a, lambda a: a / 40, prior, variance=0.03
    )
    residual = torch.tensor(rng.normal(0, 0.1, len(slices.pixels)), dtype=torch.float32)
    change, steps = system.solve(residual, field.amplitudes, 400)

    ones, owner = np.ones(len(slices)), slices.slice_of_pixel()
    columns = [forward_model.apply(unit, ones).numpy() for unit in torch.eye(count)]
    by_pose = np.zeros((len(owner), len(slices), 6))
    by_pose[np.arange(len(owner)), owner] = jacobian.numpy().T
    design = np.concatenate([np.stack(columns, axis=1), by_pose.reshape(len(owner), -1)], axis=1).astype(np.float64)
    matrix = design.T @ (weights.double().numpy()[:, None] * design)
    matrix[:count, :count] += 0.5 * np.eye(count)
    units = np.eye(6 * len(slices)).reshape(-1, len(slices), 6)
    matrix[count:, count:] += 0.03 * np.stack([prior.matvec(unit).ravel() for unit in units], axis=1)
    force = design.T @ (weights * residual).double().numpy()
    force += np.concatenate([0.5 * field.amplitudes.double().numpy(), 0.03 * prior.gradient().ravel()])
    expected = np.linalg.solve(matrix, -force)
    np.testing.assert_allclose(change.numpy(), expected[:count], atol=2e-3 * abs(expected[:count]).max())
    np.testing.assert_allclose(steps.ravel(), expected[count:], atol=2e-3 * abs(expected[count:]).max())


def begun(slices: Slices) -> tuple[Observations, Candidate]:
    data = observe(slices, slices.mask, SETTINGS, np.random.default_rng(0))
    start = LatticeStrategy(SETTINGS, TimePriorSettings()).initialise(data, slices.motion)
    estimate = start.estimate
    for _ in range(4):
        estimate = start.objective.irls_sweep(data, estimate)
    return data, Candidate(start.objective, estimate)


def off(slices: Slices, motion: Rigid) -> float:
    """Mean distance, mm, of the slices from where they were acquired, but for a movement of all."""
    truth, seen = three_stacks(), np.flatnonzero(slices.stack < 2)
    here = slices.moved(motion)
    points = [np.concatenate([where.world_points(s) for s in seen]) for where in (here, truth)]
    home = here.moved(Rigid(np.broadcast_to(Rigid.kabsch(*points).matrix, (len(here), 4, 4))) @ motion)
    return float(distance(truth, home.pose, truth.pose)[seen].mean())


def test_shear_that_turns_leave_as_it_is_goes_back() -> None:
    slices = two_stacks(0.05)
    data, start = begun(slices)
    estimate = start.estimate
    for _ in range(8):
        estimate = start.objective.refine_poses(data, start.objective.irls_sweep(data, estimate))
    together = descend_jointly(data, start, 8, lambda estimate: None).estimate
    before, in_turns, now = (off(slices, motion) for motion in (slices.motion, estimate.motion, together.motion))
    assert before > 0.3
    assert in_turns > 0.95 * before and now < 0.8 * before


@pytest.mark.parametrize("error", [0.5, 1.005, 2.0])
def test_descent_that_ends_worse_has_not_happened(error: float) -> None:
    slices = two_stacks()
    data, start = begun(slices)

    class Scripted:
        settings = SETTINGS

        def spread(self, observations: Observations, estimate: Estimate) -> tuple[float, float]:
            return 1.0, 0.01

        def joint_sweep(self, observations: Observations, estimate: Estimate, wide: tuple[float, float]) -> Estimate:
            return replace(estimate, error=error)

    first = Candidate(Scripted(), replace(start.estimate, error=1.0))  # type: ignore[arg-type]
    found = descend_jointly(data, first, 3, lambda estimate: None)
    assert (found is first) == (error > 1.01)


def test_held_slice_goes_with_its_neighbours_and_without_rounds_nothing_moves() -> None:
    slices = two_stacks(0.03)
    data, start = begun(slices)
    held = np.arange(len(slices)) == 5
    estimate = start.objective.joint_sweep(data, replace(start.estimate, held=held), (1.0, 0.02))
    free = start.objective.joint_sweep(data, start.estimate, (1.0, 0.02))
    one = np.array([5])
    assert (~free.motion[one] @ estimate.motion[one]).log().any()
    assert descend_jointly(data, start, 0, lambda estimate: None).estimate is start.estimate
