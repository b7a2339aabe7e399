"""Every prior is lowered by quadratic forms that touch it from above, whatever it says about a field."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from balls import ball
from torch import Tensor

from slicesplat.field.lattice import LATTICE_SUM, Lattice, lattice_over
from slicesplat.priors import PRIORS, Prior, make_prior
from slicesplat.priors.curvature import EDGE
from slicesplat.splat import CPU

SPACING, STRENGTH = 5.0, 0.7

every_prior = pytest.mark.parametrize("name", sorted(PRIORS))
# Of amplitudes: curvatures far below an edge's, like it, and far above.
every_size = pytest.mark.parametrize("size", [factor * EDGE * SPACING**2 / LATTICE_SUM for factor in (0.05, 1, 20)])


def lattice() -> Lattice:
    return lattice_over(ball(), SPACING)


def amplitudes(seed: int, size: float = 1.0) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(0, size, len(lattice())), dtype=torch.float32)


def touching(name: str, at: Tensor) -> Prior:
    """The prior, its form as it is at these amplitudes."""
    prior = make_prior(name, lattice())
    prior.majorise(at, STRENGTH)
    return prior


def matrix(prior: Prior) -> Tensor:
    """The form's, column by column, in float64."""
    return torch.stack([prior.matvec(unit) for unit in torch.eye(len(prior.lattice))], dim=1).double()


@every_prior
@every_size
def test_form_is_symmetric_and_never_negative_and_its_diagonal_is_that_of_its_product(name: str, size: float) -> None:
    prior = touching(name, amplitudes(0, size))
    form = matrix(prior)
    scale = float(form.abs().max())
    assert scale > 0
    torch.testing.assert_close(form, form.T, rtol=0, atol=1e-5 * scale)
    assert float(torch.linalg.eigvalsh(form).min()) > -1e-5 * scale
    torch.testing.assert_close(prior.diagonal().double(), form.diagonal(), rtol=1e-4, atol=1e-6 * scale)


@every_prior
@every_size
def test_form_has_the_slope_of_the_prior_where_it_touches_it(name: str, size: float) -> None:
    at, step = amplitudes(0, size), 1e-2 * size
    prior = touching(name, at)
    slope = prior.matvec(at).double()
    for seed in range(1, 5):
        direction = amplitudes(seed)
        ahead, back = (prior.energy(at + sign * step * direction) for sign in (1, -1))
        numerical = STRENGTH * (ahead - back) / (2 * step)
        steepest = float(slope.norm() * direction.double().norm())
        assert float(slope @ direction.double()) == pytest.approx(numerical, abs=2e-3 * steepest)


@every_prior
@every_size
def test_form_lies_above_the_prior_everywhere(name: str, size: float) -> None:
    at = amplitudes(0, size)
    prior = touching(name, at)
    form, here = matrix(prior), at.double()
    for seed in range(1, 6):
        for far in (0.1, 1.0, 10.0):
            there = (at + far * amplitudes(seed, size)).double()
            above = 0.5 * float(there @ form @ there - here @ form @ here)
            change = STRENGTH * (prior.energy(there.float()) - prior.energy(at))
            scale = 0.5 * float(there @ form @ there + here @ form @ here)
            assert change <= above + 1e-5 * scale


@every_prior
def test_strength_is_a_factor_of_the_form(name: str) -> None:
    at, vector = amplitudes(0), amplitudes(1)
    one, two = make_prior(name, lattice()), make_prior(name, lattice())
    one.majorise(at, 1.0)
    two.majorise(at, 2.5)
    expected = 2.5 * one.matvec(vector)
    torch.testing.assert_close(two.matvec(vector), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@every_prior
def test_symbol_is_that_of_an_even_form(name: str) -> None:
    """A plane wave inside a large lattice comes out of the product as itself, times the symbol and one factor."""
    index = torch.stack(torch.meshgrid(*[torch.arange(24)] * 3, indexing="ij"), dim=-1)
    prior = make_prior(name, Lattice(1.0, index.reshape(-1, 3)), CPU)
    prior.majorise(torch.zeros(24**3), 1.0)
    inner, found = (slice(4, -4),) * 3, []
    for turn in ([0.3, 0.0, 0.9], [1.2, 0.4, 0.0], [2.0, 2.0, 2.0], [0.1, 3.0, 0.7]):
        wave = torch.cos((index * torch.tensor(turn)).sum(dim=-1))
        product = prior.matvec(wave.reshape(-1)).reshape(24, 24, 24)[inner]
        response = float((product * wave[inner]).sum() / (wave[inner] ** 2).sum())
        torch.testing.assert_close(product, response * wave[inner], rtol=0, atol=2e-3 * abs(response))
        found.append(response / float(prior.symbol([torch.tensor(t) for t in turn])))
    np.testing.assert_allclose(found, found[0], rtol=1e-3)


def test_unknown_prior_is_refused_by_the_names_that_there_are() -> None:
    with pytest.raises(ValueError, match="prior 'lasso': choose one of curvature, ridge"):
        make_prior("lasso", lattice())


def test_ridge_is_the_integral_of_the_square() -> None:
    # A field of 1, but for the rim: half of the volume.
    for spacing in (0.5, 1.0):
        places = lattice_over(ball(), spacing)
        ridge = make_prior("ridge", places)
        assert ridge.energy(torch.full((len(places),), 1 / LATTICE_SUM)) == pytest.approx(len(places) * spacing**3 / 2)
