"""A prior on Gaussians of any shape is that of the lattice that takes their field's values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from balls import ball
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import LATTICE_SUM, lattice_over
from slicesplat.priors import PRIORS, make_prior
from slicesplat.priors.sampled import SampledPrior

SPACING, STRENGTH = 1.5, 0.7
every_prior = pytest.mark.parametrize("name", sorted(PRIORS))


def shapes(count: int = 30) -> GaussianField:
    """Gaussians of 1 to 3 mm inside the ball."""
    rng = np.random.default_rng(4)
    values = (rng.uniform(-5, 5, (count, 3)), np.log(rng.uniform(1, 3, (count, 3))), rng.normal(size=(count, 4)))
    return GaussianField(*(torch.tensor(x, dtype=torch.float32) for x in values), torch.zeros(count))


def amplitudes(seed: int, count: int = 30) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(0, 0.3, count), dtype=torch.float32)


@every_prior
def test_energy_is_that_of_the_values_at_the_cells(name: str) -> None:
    lattice, field = lattice_over(ball(), SPACING), replace(shapes(), amplitudes=amplitudes(0))
    prior = SampledPrior(make_prior(name, lattice), field)
    values = field.to(torch.float64).evaluate(lattice.means().double()).float() / LATTICE_SUM
    # The forward model cuts Gaussians off at 3 standard deviations.
    assert prior.energy(field.amplitudes) == pytest.approx(make_prior(name, lattice).energy(values), rel=0.05)


@every_prior
def test_form_is_symmetric_and_positive_and_has_the_slope_of_the_prior_where_it_touches_it(name: str) -> None:
    prior, at = SampledPrior(make_prior(name, lattice_over(ball(), SPACING)), shapes()), amplitudes(0)
    prior.majorise(at, STRENGTH)
    form = torch.stack([prior.matvec(unit) for unit in torch.eye(len(at))], dim=1).double()
    scale = float(form.abs().max())
    torch.testing.assert_close(form, form.T, rtol=0, atol=1e-4 * scale)
    assert float(torch.linalg.eigvalsh(form).min()) > -1e-4 * scale
    for unit in torch.eye(len(at))[:5]:
        step = 3e-3 * unit
        rise = STRENGTH * (prior.energy(at + step) - prior.energy(at - step)) / 6e-3
        assert rise == pytest.approx(float(prior.matvec(at) @ unit), rel=0.03, abs=0.01 * scale)


@every_prior
def test_diagonal_is_about_that_of_the_form(name: str) -> None:
    prior, at = SampledPrior(make_prior(name, lattice_over(ball(), SPACING)), shapes()), torch.zeros(30)
    prior.majorise(at, STRENGTH)
    true = torch.stack([prior.matvec(unit) @ unit for unit in torch.eye(len(at))])
    ratio = (prior.diagonal() / true).log().abs()
    assert float(ratio.median()) < np.log(1.5)
