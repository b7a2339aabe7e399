"""Conjugate gradients find what a direct solver finds, sooner with a preconditioner, and stop where they are told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.solvers.cg import ConjugateGradients, inner_product

UNKNOWNS = 20


def system(condition: float) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """A symmetric, positive matrix with widely spread diagonal, a right side, a start, and a linear map to an image."""
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(UNKNOWNS, UNKNOWNS)))
    even = turned @ np.diag(np.linspace(1.0, 3.0, UNKNOWNS)) @ turned.T
    spread = np.diag(np.geomspace(1.0, np.sqrt(condition), UNKNOWNS))
    return spread @ even @ spread, rng.normal(size=UNKNOWNS), rng.normal(size=UNKNOWNS), rng.normal(size=(7, UNKNOWNS))


def tensor(values: NDArray) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def solver(
    matrix: NDArray, to_image: NDArray, preconditioner: Callable[[Tensor], Tensor] | None = None
) -> tuple[ConjugateGradients, list[int]]:
    """Conjugate gradients, and a list that grows with every product."""
    products: list[int] = []

    def operator(direction: Tensor) -> tuple[Tensor, Tensor]:
        products.append(0)
        return tensor(matrix) @ direction, tensor(to_image) @ direction

    like, image = torch.zeros(UNKNOWNS), torch.zeros(len(to_image))
    return ConjugateGradients(operator, like, image, preconditioner), products


def by_diagonal(matrix: NDArray) -> Callable[[Tensor], Tensor]:
    inverse = tensor(1 / np.diag(matrix))
    return lambda vector: inverse * vector


@pytest.mark.parametrize("preconditioned", [False, True])
def test_solution_is_that_of_a_direct_solver_and_the_image_that_of_the_solution(preconditioned: bool) -> None:
    matrix, right, start, to_image = system(30.0)
    given = tensor(start), tensor(right - matrix @ start), tensor(to_image @ start)
    made, products = solver(matrix, to_image, by_diagonal(matrix) if preconditioned else None)
    found, image = made.solve(*given, 60)
    wanted = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(image, to_image @ wanted, atol=1e-4)
    assert len(products) == 60
    # The same solver again, from where it began: nothing of the first run is left.
    assert made.solve(*given, 60)[0].equal(found)
    assert given[0].equal(tensor(start))


def test_preconditioner_saves_iterations() -> None:
    matrix, right, _, to_image = system(1e4)
    given = torch.zeros(UNKNOWNS), tensor(right), torch.zeros(len(to_image))
    wanted = np.linalg.solve(matrix, right)

    def above(preconditioner: Callable[[Tensor], Tensor] | None) -> float:
        error = solver(matrix, to_image, preconditioner)[0].solve(*given, 8)[0].numpy() - wanted
        return float(error @ matrix @ error / (wanted @ matrix @ wanted))

    assert above(by_diagonal(matrix)) < 1e-5 < 1e-3 < above(None)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_iterations_end_where_the_residual_is_small_enough_and_not_before(preconditioned: bool) -> None:
    matrix, right, _, to_image = system(100.0)
    preconditioner = by_diagonal(matrix) if preconditioned else lambda vector: vector
    given, tolerance = (torch.zeros(UNKNOWNS), tensor(right), torch.zeros(len(to_image))), 1e-4

    def left(found: Tensor) -> float:
        residual = tensor(right - matrix @ found.double().numpy())
        return float(residual @ preconditioner(residual))

    made, products = solver(matrix, to_image, preconditioner)
    found, _ = made.solve(*given, 200, tolerance)
    taken = len(products)
    assert 2 < taken < 40
    assert left(found) <= 1.01 * tolerance
    assert left(made.solve(*given, taken - 1)[0]) > tolerance
    # With nothing to do, nothing is done.
    products.clear()
    assert made.solve(found, torch.zeros(UNKNOWNS), given[2], 9, tolerance)[0].equal(found)
    assert not products


def test_exact_start_stays() -> None:
    matrix, _, start, to_image = system(10.0)
    found, _ = solver(matrix, to_image)[0].solve(tensor(start), torch.zeros(UNKNOWNS), tensor(to_image @ start), 5)
    assert found.equal(tensor(start))


def test_inner_product_is_summed_in_double_precision() -> None:
    values = torch.full((2**14,), 1.0 + 2**-12)
    assert float(inner_product(values, values)) == pytest.approx(2**14 * (1 + 2**-12) ** 2, rel=1e-7)
    assert inner_product(values, values).dtype == torch.float64
