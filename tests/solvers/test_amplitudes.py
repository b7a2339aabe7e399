"""The model is linear in its amplitudes: what is found is the least-squares solution."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from balls import ball, placed, some_field

from slicesplat.field.lattice import lattice_over
from slicesplat.priors.curvature import Curvature
from slicesplat.solvers.amplitudes import AmplitudeSolver, resampled_amplitudes, solve_amplitudes


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_amplitudes_are_the_least_squares_solution(ridge: float) -> None:
    slices, field = ball(), some_field()
    forward_model, rng = placed(field, slices), np.random.default_rng(1)
    gain, weights = rng.uniform(0.5, 1.5, len(slices)), rng.random(forward_model.pixels).astype(np.float32)
    pixels = rng.normal(size=forward_model.pixels).astype(np.float32)
    columns = np.stack([forward_model.apply(one, gain) for one in np.eye(len(field))], axis=1).astype(np.float64)
    assert np.linalg.matrix_rank(columns) == len(field)
    root = np.sqrt(weights.astype(np.float64))
    matrix = np.concatenate([root[:, None] * columns, np.sqrt(ridge) * np.eye(len(field))])
    wanted = np.linalg.lstsq(matrix, np.concatenate([root * pixels, np.zeros(len(field))]), rcond=None)[0]
    start = rng.normal(size=len(field)).astype(np.float32)
    given = (torch.from_numpy(pixels), torch.from_numpy(weights), gain, torch.from_numpy(start))
    found = solve_amplitudes(forward_model, *given, 100, ridge)
    # Products in float32, with a condition number of about a hundred.
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def test_more_iterations_fit_better() -> None:
    slices, field = ball(), some_field(30)
    forward_model = placed(field, slices)
    gain, ones = np.ones(len(slices)), torch.ones(forward_model.pixels)
    pixels = torch.from_numpy(np.random.default_rng(1).normal(size=forward_model.pixels).astype(np.float32))
    start = torch.zeros(len(field))
    left = []
    for iterations in (0, 1, 2, 5, 20):
        amplitudes = solve_amplitudes(forward_model, pixels, ones, gain, start, iterations)
        left.append(float(((forward_model.apply(amplitudes, gain) - pixels).double() ** 2).sum()))
    assert left == sorted(left, reverse=True)
    assert left[0] == pytest.approx(float((pixels.double() ** 2).sum()))


def test_nothing_to_fit_leaves_the_start() -> None:
    slices, field = ball(), some_field()
    forward_model = placed(field, slices)
    zero, start = torch.zeros(forward_model.pixels), field.amplitudes
    assert solve_amplitudes(forward_model, zero, zero, np.ones(len(slices)), start, 5).equal(start)


def test_solver_gives_back_its_memory_at_once() -> None:
    slices, field = ball(), some_field()
    forward_model = placed(field, slices)
    solver, ones = AmplitudeSolver(forward_model, len(field)), torch.ones(forward_model.pixels)
    solver.solve(ones, ones, np.ones(len(slices)), field.amplitudes, 1)
    gone, collecting = weakref.ref(forward_model), gc.isenabled()
    gc.disable()
    try:
        del solver, forward_model
        assert gone() is None
    finally:
        if collecting:
            gc.enable()


def test_solver_finds_the_minimum_of_misfit_and_prior() -> None:
    slices, rng = ball(), np.random.default_rng(1)
    lattice = lattice_over(slices, 4.0)
    forward_model, prior, start = placed(lattice.field(), slices), Curvature(lattice), torch.zeros(len(lattice))
    prior.majorise(torch.tensor(rng.normal(size=len(lattice)), dtype=torch.float32), 0.3)
    gain, weights = rng.uniform(0.5, 1.5, len(slices)), torch.tensor(rng.random(forward_model.pixels)).float()
    pixels = torch.tensor(rng.normal(size=forward_model.pixels)).float()
    unit = torch.eye(len(lattice))
    forward = np.stack([forward_model.apply(one, gain) for one in unit], axis=1).astype(np.float64)
    form = np.stack([prior.matvec(one) for one in unit], axis=1).astype(np.float64)
    normal = forward.T @ (weights.numpy()[:, None] * forward) + form + 1e-6 * np.eye(len(lattice))
    wanted = np.linalg.solve(normal, forward.T @ (weights * pixels).numpy())
    solver = AmplitudeSolver(forward_model, len(lattice), prior.matvec)
    found, image = solver.solve(pixels, weights, gain, start, 200)
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())
    torch.testing.assert_close(image, forward_model.apply(found, gain), rtol=0, atol=1e-5)
    # Told what its start looks like, it does the same.
    again, _ = solver.solve(pixels, weights, gain, found, 1, image)
    torch.testing.assert_close(again, solver.solve(pixels, weights, gain, found, 1)[0], rtol=0, atol=1e-5)


def test_finer_lattice_takes_the_values_of_a_coarser_one() -> None:
    coarse, fine = lattice_over(ball(), 3.0), lattice_over(ball(), 1.5)
    one = coarse.field(torch.exp(-0.02 * (coarse.means() ** 2).sum(dim=1)))
    other = fine.field(resampled_amplitudes(one, fine))
    inner = torch.tensor(np.random.default_rng(0).uniform(-3, 3, (200, 3)), dtype=torch.float32)
    np.testing.assert_allclose(other.evaluate(inner), one.evaluate(inner), rtol=0.02)
