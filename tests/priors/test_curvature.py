"""The curvature prior: slopes cost nothing, faint bends their square, edges the root of their size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from balls import ball
from torch import Tensor

from slicesplat.field.lattice import LATTICE_SUM, lattice_over
from slicesplat.priors.curvature import EDGE, Curvature


def form_of(spacing: float, values: Callable[[Tensor], Tensor]) -> float:
    """What the quadratic form says about a function of the world's coordinates (N, 3), touching the prior there."""
    lattice = lattice_over(ball(), spacing)
    amplitudes, prior = values(lattice.means()).float(), Curvature(lattice)
    prior.majorise(amplitudes, 1.0)
    return float(amplitudes @ prior.matvec(amplitudes)) / 2


def test_slopes_cost_nothing_and_bends_do() -> None:
    slope = form_of(2.0, lambda x: 0.3 + x @ torch.tensor([0.1, -0.2, 0.05]))
    bend = form_of(2.0, lambda x: 1e-4 * x[:, 0] ** 2)
    twist = form_of(2.0, lambda x: 1e-4 * x[:, 0] * x[:, 1])
    assert abs(slope) < 1e-6 * bend
    # Frobenius norm of the second derivatives: 2 and sqrt(2), in 0.0001. Both far below an edge: squares.
    assert twist / bend == pytest.approx(0.5, rel=0.15)  # the rims differ


def test_faint_bends_cost_their_square_and_edges_the_root_of_their_size() -> None:
    noise = torch.tensor(np.random.default_rng(0).normal(size=5000), dtype=torch.float32)
    faint, faint10, strong, strong10 = (
        form_of(2.0, lambda x, k=k: k * noise[: len(x)])  # type: ignore[misc]
        for k in (1e-5, 1e-4, 1e2, 1e3)
    )
    assert faint10 / faint == pytest.approx(100, rel=0.05)
    assert strong10 / strong == pytest.approx(10**0.5, rel=0.05)


def test_prior_is_an_integral_whatever_the_lattice() -> None:
    # In the region of the faint, half of the integral of |H V|^2 / EDGE^(3/2).
    fine, coarse = (form_of(h, lambda x: 1e-4 * (x[:, 0] ** 2 + x[:, 1] * x[:, 2]) / LATTICE_SUM) for h in (0.75, 1.5))
    assert fine / coarse == pytest.approx(1.0, rel=0.25)  # the rim, where no second difference is complete, differs
    volume = 4 / 3 * np.pi * 9.0**3
    assert fine == pytest.approx(volume * 6e-8 / 2 / EDGE**1.5, rel=0.3)


def test_energy_of_faint_bends_is_half_their_square() -> None:
    lattice = lattice_over(ball(), 1.5)
    faint, prior = 1e-4 * lattice.means()[:, 0] ** 2 / LATTICE_SUM, Curvature(lattice)
    prior.majorise(faint, 1.0)
    assert prior.energy(faint) == pytest.approx(float(faint @ prior.matvec(faint)) / 2, rel=0.02)
    assert prior.energy(torch.zeros(len(lattice))) == 0


def test_product_on_the_cpu_is_that_of_the_definition() -> None:
    lattice, rng = lattice_over(ball(), 1.1), np.random.default_rng(0)
    one, other = (torch.tensor(rng.normal(size=len(lattice)), dtype=torch.float32) for _ in range(2))
    prior, definition = Curvature(lattice), Curvature(lattice)
    definition._product = None
    for form in (prior, definition):
        form.majorise(one * 0.01, 0.7)
    for amplitudes in (one, other):
        expected = definition.matvec(amplitudes)
        torch.testing.assert_close(prior.matvec(amplitudes), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
