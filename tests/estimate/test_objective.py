"""Steps make new estimates and change none; each block lowers what it says that it lowers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from balls import distance
from brains import still_slices

from slicesplat.config import FitSettings, TimePriorSettings
from slicesplat.estimate.lattice import LatticeStrategy
from slicesplat.estimate.objective import Objective
from slicesplat.estimate.observations import Estimate, Observations, observe
from slicesplat.geometry.rigid import Rigid
from slicesplat.likelihood.robust import LEAST_NOISE
from slicesplat.motion.time_prior import time_prior
from slicesplat.priors import Prior, make_prior
from slicesplat.splat import predict

SETTINGS = FitSettings(spacings=(2.5,))


def begun() -> tuple[Observations, Objective, Estimate]:
    """A coarse lattice, fitted once, and amplitudes that have gone on since the weights were found."""
    slices = still_slices()
    observations = observe(slices, slices.mask, SETTINGS, np.random.default_rng(0)).with_rim()
    candidate = LatticeStrategy(SETTINGS, TimePriorSettings()).initialise(observations, slices.motion)
    objective = candidate.objective
    estimate = objective.irls_sweep(observations, candidate.estimate)
    return observations, objective, objective.amplitudes(observations, estimate, 2)


def arrays(value: Any) -> list[bytes]:
    """Copies of everything that a value holds."""
    if is_dataclass(value):
        return [part for one in fields(value) for part in arrays(getattr(value, one.name))]
    if isinstance(value, torch.Tensor | np.ndarray):
        return [np.asarray(value).tobytes()]
    return [repr(value).encode()]


STEPS: dict[str, Callable[[Objective, Observations, Estimate], Estimate]] = {
    "amplitudes": lambda objective, observations, estimate: objective.amplitudes(observations, estimate, 3),
    "weights": Objective.weights,
    "irls_sweep": Objective.irls_sweep,
    "refine_poses": Objective.refine_poses,
    "joint_sweep": lambda objective, observations, estimate: objective.joint_sweep(observations, estimate, (1.0, 0.02)),
}


@pytest.mark.parametrize("name", STEPS)
def test_step_leaves_what_it_is_given_as_it_is(name: str) -> None:
    observations, objective, estimate = begun()
    before = arrays(observations), arrays(estimate)
    made = STEPS[name](objective, observations, estimate)
    assert (arrays(observations), arrays(estimate)) == before
    assert arrays(made) != before[1]


def test_step_depends_on_what_it_is_given_and_not_on_what_was_done_before() -> None:
    observations, objective, estimate = begun()
    once = objective.irls_sweep(observations, estimate)
    moved = objective.refine_poses(observations, once)
    assert arrays(objective.irls_sweep(observations, estimate)) == arrays(once)
    objective.with_strength(50.0).irls_sweep(observations, moved)
    assert arrays(objective.irls_sweep(observations, estimate)) == arrays(once)
    assert arrays(objective.refine_poses(observations, once)) == arrays(moved)


def prior_of(objective: Objective) -> Prior:
    return make_prior(SETTINGS.prior, objective.workspace.basis.lattice)


def test_amplitudes_lower_misfit_and_prior() -> None:
    observations, objective, estimate = begun()
    strength = SETTINGS.smoothness * max(observations.noise.independent, LEAST_NOISE) ** 2
    weights, slices = estimate.weights.total(observations.slices), observations.slices
    gain = torch.from_numpy(estimate.weights.gain[slices.slice_of_pixel()])

    def value(of: Estimate) -> float:
        assert of.image is not None
        misfit = (weights * (gain * of.image - observations.pixels) ** 2).sum()
        return 0.5 * float(misfit) + strength * prior_of(objective).energy(of.field.amplitudes)

    values, now = [value(estimate)], estimate
    for _ in range(3):
        now = objective.amplitudes(observations, now, 4)
        values.append(value(now))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.999 * values[0]


def test_estimate_keeps_the_image_of_its_amplitudes_until_a_slice_moves() -> None:
    observations, objective, estimate = begun()
    gains = np.ones(len(observations.slices))
    shown = predict(estimate.field, observations.slices.moved(estimate.motion), gains)
    torch.testing.assert_close(estimate.image, shown, rtol=0, atol=1e-5)
    moved = objective.refine_poses(observations, estimate)
    assert moved.image is None
    with pytest.raises(ValueError, match="no prediction: find the amplitudes"):
        objective.weights(observations, moved)


def test_stronger_prior_makes_a_smoother_field() -> None:
    observations, objective, estimate = begun()
    curvature = [
        prior_of(objective).energy(
            objective.with_strength(strength).amplitudes(observations, estimate, 8).field.amplitudes
        )
        for strength in (0.1, 1.0, 10.0)
    ]
    assert curvature == sorted(curvature, reverse=True)
    assert curvature[2] < 0.8 * curvature[0]


def test_validation_pixels_are_not_fitted_before_all_are() -> None:
    observations, *_ = begun()
    assert observations.validation.any() and not (observations.validation & observations.fitted).any()
    assert (observations.fitted | observations.validation).equal(observations.inside)
    assert observations.all_fitted().fitted.equal(observations.inside)
    # The rim is beside the region, and takes part only once it is asked for.
    assert observations.rim is not None and not (observations.rim & observations.inside).any()
    assert replace(observations, rim=None).with_rim().rim is observations.around


def test_slice_that_is_held_goes_where_its_neighbours_in_time_are() -> None:
    observations, objective, estimate = begun()
    slices, s = observations.slices, 12
    held = np.arange(len(slices)) == s
    off = Rigid.exp(np.outer(held, [1.0, -0.5, 0.5, 0.0, 0.0, 0.05])) @ estimate.motion
    errors = []
    for is_held in (False, True):
        moved = replace(estimate.moved(off), held=held & is_held)
        for _ in range(6):
            moved = objective.refine_poses(observations, moved)
        expected = time_prior(slices.moved(moved.motion), np.where(held, 0.0, 1.0)).pose
        assert bool(distance(slices, moved.motion @ slices.frame, expected)[s] < 0.05) == is_held
        assert moved.ncc[s] > 0.3
        errors.append(objective.pose_errors(observations, moved)[s])
    # What its neighbours say of it is less than what it shows itself.
    assert errors[0] < 0.7 * errors[1]
