"""The preconditioner is an operator that conjugate gradients may use, and that saves them half of their iterations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from balls import ball, placed

from slicesplat.field.lattice import lattice_over
from slicesplat.priors import PRIORS, make_prior
from slicesplat.solvers.amplitudes import AmplitudeSolver
from slicesplat.solvers.precondition import Preconditioner


@pytest.mark.parametrize("strength", [1e-4, 1e-2])
def test_preconditioned_the_solver_needs_half_the_iterations(strength: float) -> None:
    slices, rng = ball(), np.random.default_rng(1)
    lattice = lattice_over(slices, 1.5)
    forward_model, prior, start = (
        placed(lattice.field(), slices),
        make_prior("curvature", lattice),
        torch.zeros(len(lattice)),
    )
    prior.majorise(torch.tensor(rng.normal(size=len(lattice)) * 0.01, dtype=torch.float32), strength)
    weights, gain = torch.from_numpy(slices.mask.astype(np.float32)), np.ones(len(slices))
    pixels = torch.tensor(rng.normal(size=forward_model.pixels)).float()
    preconditioner = Preconditioner(lattice, prior, slices)
    preconditioner.update(forward_model.adjoint(weights, gain))
    plain = AmplitudeSolver(forward_model, len(lattice), prior.matvec)
    better = AmplitudeSolver(forward_model, len(lattice), prior.matvec, preconditioner.matvec)

    def above(solver: AmplitudeSolver, iterations: int) -> float:
        """How far above its minimum the quadratic form is, in units of where it starts."""
        error = solver.solve(pixels, weights, gain, start, iterations)[0] - wanted
        seen = forward_model.apply(error, gain)
        return float((weights * seen**2).sum() + error @ prior.matvec(error))

    wanted = better.solve(pixels, weights, gain, start, 100)[0]
    assert above(better, 8) < above(plain, 16)


@pytest.mark.parametrize("name", sorted(PRIORS))
def test_preconditioner_is_symmetric_and_positive(name: str) -> None:
    slices, rng = ball(profile="box"), np.random.default_rng(2)
    lattice = lattice_over(slices, 1.5)
    prior = make_prior(name, lattice)
    prior.majorise(torch.tensor(rng.normal(size=len(lattice)) * 0.01, dtype=torch.float32), 1e-3)
    preconditioner = Preconditioner(lattice, prior, slices)
    # Some of it was not seen at all.
    coverage = torch.from_numpy(np.where(np.arange(len(lattice)) % 3, 5.0, 0.0).astype(np.float32))
    preconditioner.update(coverage)
    one, other = (torch.tensor(rng.normal(size=len(lattice)), dtype=torch.float32) for _ in range(2))
    ahead, back = float(one @ preconditioner.matvec(other)), float(other @ preconditioner.matvec(one))
    assert ahead == pytest.approx(back, rel=1e-3)
    assert float(one @ preconditioner.matvec(one)) > 0
