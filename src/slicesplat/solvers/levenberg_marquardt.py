"""Levenberg-Marquardt for many small problems at once, each with a damping of its own; the package's only one.

K. Levenberg, Quarterly of Applied Mathematics 2, 1944, 164-168; D. W. Marquardt, SIAM Journal 11, 1963, 431-441. The
model says what a step is and how it is taken; damping and acceptance are here. docs/method.md, Solvers.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_DAMPING = 1e-3  # of the diagonal, to begin with
_DECREASE, _INCREASE = 4.0, 6.0  # after a step that was accepted, and after one that was not
_CONVERGED = 1e-4  # share of the cost that a step gains; with less in all problems there is no further one
_HOPELESS = 1e3  # damping of a problem that finds no better place


class Linearised(Protocol):
    """G problems about the places where they stand: least squares in the steps of n parameters each."""

    @property
    def cost(self) -> Float:
        """(G,)."""

    @property
    def matrix(self) -> Float:
        """(G, n, n), Gauss-Newton."""

    @property
    def vector(self) -> Float:
        """(G, n), half the gradient."""

    @property
    def floor(self) -> Float:
        """(G, n) what is added to the diagonal in any case: a direction that nothing constrains must not move."""


Point = TypeVar("Point", bound=Linearised)


class Model(Protocol[Point]):
    """What is minimised."""

    def stepped(self, point: Point, step: Float) -> Point:
        """The problems about where steps (G, n) lead to."""

    def tried(self, point: Point, step: Float) -> Point:
        """As `stepped`, where no further step follows: matrix and vector may be those of where the step begins."""

    def chosen(self, better: NDArray[np.bool_], new: Point, old: Point) -> Point:
        """Of every problem the new place where it is better (G,), else the old one."""


def levenberg_marquardt(model: Model[Point], start: Point, iterations: int) -> Point:
    """The best place of every problem after at most so many steps.

    Parameters
    ----------
    model : Model
    start : Linearised
    iterations : int
        Systems solved at most.
    """
    best, damping = start, np.full(len(start.cost), _DAMPING)
    for left in reversed(range(iterations)):
        step = damped_step(best, damping)
        new = model.stepped(best, step) if left else model.tried(best, step)
        better = new.cost < best.cost
        gained = np.where(better, 1.0 - new.cost / np.maximum(best.cost, 1e-30), 0.0)
        damping = np.where(better, damping / _DECREASE, damping * _INCREASE)
        best = model.chosen(better, new, best)
        if np.all(gained < _CONVERGED) and np.all(better | (damping > _HOPELESS)):
            break
    return best


def damped_step(point: Linearised, damping: Float) -> Float:
    """Steps (G, n) to the minima of the problems, damped by so many times their diagonals."""
    diagonal = np.einsum("gii->gi", point.matrix)
    damped = point.matrix + np.einsum(
        "gi,ij->gij", damping[:, None] * diagonal + point.floor, np.eye(diagonal.shape[1])
    )
    return np.asarray(-np.linalg.solve(damped, point.vector[..., None])[..., 0])
