"""Bias fields become part of the model where the validation pixels ask for it, and change nothing elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from brains import phantom, still_slices

from slicesplat.config import FitSettings, LikelihoodSettings, TimePriorSettings
from slicesplat.estimate.alternate import sweep
from slicesplat.estimate.lattice import LatticeStrategy
from slicesplat.estimate.observations import Observations, observe
from slicesplat.estimate.strategy import Candidate
from slicesplat.estimate.uneven import with_bias_fields
from slicesplat.geometry.slices import cut_slices
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.validation.simulate import SimulationConfig, simulate

SETTINGS = FitSettings(spacings=(1.6,))


@cache
def begun(bias: float) -> tuple[Observations, Candidate]:
    config = SimulationConfig(
        motion="none", pixel=1.6, spacing=2.6, thickness=2.5, noise=0.02, dropout=0.0, seed=2, bias_field=bias
    )
    slices = cut_slices(scale_intensities(simulate(*phantom(), config).stacks)[0]) if bias else still_slices()
    observations = observe(slices, slices.mask, SETTINGS, np.random.default_rng(0))
    first = LatticeStrategy(SETTINGS, TimePriorSettings()).initialise(observations, slices.motion)
    return observations, sweep(observations, first, 3, lambda estimate: None)


def test_even_stacks_stay_what_they_are() -> None:
    observations, candidate = begun(0.0)
    assert with_bias_fields(observations, candidate, LikelihoodSettings()) is candidate


def test_uneven_stacks_get_fields_and_are_predicted_better() -> None:
    observations, candidate = begun(0.3)
    found = with_bias_fields(observations, candidate, LikelihoodSettings())
    assert found is not candidate and found.estimate.weights.bias is not None
    after, without = (sweep(observations, one, 2, lambda estimate: None).estimate for one in (found, candidate))
    assert after.error < 0.95 * without.error
    assert after.weights.sigma < without.weights.sigma


@pytest.mark.parametrize("settings", [LikelihoodSettings(bias_field=None), LikelihoodSettings(gains=False)])
def test_fields_are_not_looked_for_where_they_are_not_wanted(settings: LikelihoodSettings) -> None:
    observations, candidate = begun(0.3)
    assert with_bias_fields(observations, candidate, settings) is candidate


def test_poses_do_not_follow_the_light() -> None:
    """Dividing the pixels by the fields and weighing them by their square is the model's own least squares."""
    observations, candidate = begun(0.3)
    found = with_bias_fields(observations, candidate, LikelihoodSettings())
    objective, estimate = found.objective, sweep(observations, found, 2, lambda estimate: None).estimate
    bias = estimate.weights.bias
    assert bias is not None
    even = replace(estimate.weights, bias=None, pixel=estimate.weights.pixel * bias.pixel**2)
    flat = replace(observations, pixels=observations.pixels / bias.pixel)
    one = objective.refine_poses(observations, estimate)
    other = objective.refine_poses(flat, replace(estimate, weights=even))
    np.testing.assert_allclose(one.motion.matrix, other.motion.matrix, atol=1e-6)
    torch.testing.assert_close(torch.from_numpy(one.ncc), torch.from_numpy(other.ncc), atol=1e-5, rtol=0)
