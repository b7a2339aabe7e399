"""Many small least squares at once, each found as if it were alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from slicesplat.solvers.levenberg_marquardt import damped_step, levenberg_marquardt

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Problems where they stand, linearised."""

    place: Float
    cost: Float
    matrix: Float
    vector: Float
    floor: Float


class Valleys:
    """Rosenbrock's curved valleys, 1/2 |(k (y - x^2), 1 - x)|^2, of several steepnesses k; minimum 0 at (1, 1)."""

    def __init__(self, steepness: Float) -> None:
        self.steepness, self.costs = steepness, []  # type: ignore[var-annotated]

    def at(self, place: Float) -> Point:
        (x, y), k = place.T, self.steepness
        residual = np.stack([k * (y - x**2), 1 - x], axis=1)
        jacobian = np.zeros((len(k), 2, 2))
        jacobian[:, 0, 0], jacobian[:, 0, 1], jacobian[:, 1, 0] = -2 * k * x, k, -1
        matrix = np.einsum("gri,grj->gij", jacobian, jacobian)
        vector = np.einsum("gri,gr->gi", jacobian, residual)
        return Point(place, (residual**2).sum(axis=1), matrix, vector, np.zeros_like(place))

    def stepped(self, point: Point, step: Float) -> Point:
        return self.at(point.place + step)

    def tried(self, point: Point, step: Float) -> Point:
        return replace(self.at(point.place + step), matrix=point.matrix, vector=point.vector)

    def chosen(self, better: NDArray[np.bool_], new: Point, old: Point) -> Point:
        self.costs.append(np.where(better, new.cost, old.cost))
        parts = zip(vars(new).values(), vars(old).values(), strict=True)
        return Point(*(np.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in parts))


START = np.array([[-1.2, 1.0], [-1.2, 1.0], [2.0, -3.0], [1.0, 1.0]])
STEEPNESS = np.array([1.0, 100.0, 10.0, 10.0])  # the second is ten thousand times worse conditioned than the first


def test_minimum_of_every_problem_is_found_however_conditioned() -> None:
    model = Valleys(STEEPNESS)
    found = levenberg_marquardt(model, model.at(START), 200)
    np.testing.assert_allclose(found.place, 1.0, atol=1e-5)
    assert (found.cost < 1e-10).all()


def test_cost_of_no_problem_ever_rises() -> None:
    model = Valleys(STEEPNESS)
    start = model.at(START)
    levenberg_marquardt(model, start, 200)
    assert (np.diff(np.stack([start.cost, *model.costs]), axis=0) <= 0).all()


def test_problem_goes_its_way_whatever_the_others_do() -> None:
    together = Valleys(STEEPNESS)
    found = levenberg_marquardt(together, together.at(START), 12)
    for g in range(len(START)):
        alone = Valleys(STEEPNESS[[g]])
        # One by one they may end sooner; while both go on, damping and steps are the same.
        levenberg_marquardt(alone, alone.at(START[[g]]), 12)
        steps = len(alone.costs)
        np.testing.assert_allclose([costs[g] for costs in together.costs[:steps]], np.concatenate(alone.costs))
    assert found.cost[0] < found.cost[1]


def test_no_step_is_taken_beyond_those_allowed_or_once_all_are_still() -> None:
    model = Valleys(STEEPNESS)
    assert levenberg_marquardt(model, model.at(START), 0).place.tolist() == START.tolist()
    levenberg_marquardt(model, model.at(START), 3)
    assert len(model.costs) == 3
    still = Valleys(np.ones(2))
    levenberg_marquardt(still, still.at(np.ones((2, 2))), 100)
    assert len(still.costs) < 20


def test_last_step_is_tried_without_what_a_further_one_needs() -> None:
    model, asked = Valleys(STEEPNESS), []  # type: ignore[var-annotated]
    stepped, tried = model.stepped, model.tried
    model.stepped = lambda *given: asked.append("stepped") or stepped(*given)  # type: ignore[method-assign,func-returns-value]
    model.tried = lambda *given: asked.append("tried") or tried(*given)  # type: ignore[method-assign,func-returns-value]
    found = levenberg_marquardt(model, model.at(START), 4)
    assert asked == ["stepped"] * 3 + ["tried"]
    np.testing.assert_array_equal(found.cost, model.at(found.place).cost)


def test_undamped_step_solves_the_linear_problem_and_a_floor_holds_what_nothing_constrains() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, 3, 3))
    matrix, vector = root.transpose(0, 2, 1) @ root, rng.normal(size=(2, 3))
    point = Point(np.zeros((2, 3)), np.ones(2), matrix, vector, np.zeros((2, 3)))
    expected = [-np.linalg.solve(m, v) for m, v in zip(matrix, vector, strict=True)]
    np.testing.assert_allclose(damped_step(point, np.zeros(2)), expected)
    # A hundred times its diagonal leaves a problem about a hundredth of the way down its gradient; the other is free.
    held = damped_step(point, np.array([0.0, 1e4]))
    np.testing.assert_allclose(held[0], expected[0])
    np.testing.assert_allclose(held[1], -vector[1] / (1e4 * np.diag(matrix[1])), rtol=1e-2)
    open_, gradient = np.zeros((1, 3, 3)), np.array([[1.0, 1.0, 0.0]])
    open_[0, 0, 0] = 2.0
    loose = Point(np.zeros((1, 3)), np.ones(1), open_, gradient, np.array([[0.0, 1e6, 1e-9]]))
    assert damped_step(loose, np.zeros(1))[0] == pytest.approx([-0.5, 0.0, 0.0], abs=2e-6)
