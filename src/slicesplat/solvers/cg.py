"""Conjugate gradients for symmetric, positive systems; the package's only ones.

M. R. Hestenes and E. Stiefel, J. Res. Natl. Bur. Stand. 49, 1952, 409-436. docs/method.md, Solvers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from weakref import proxy

import torch
from torch import Tensor

from slicesplat.solvers.replay import repeated

Operator: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A direction to the matrix times it, and to its image: anything linear that is to be known of the solution."""
Matvec: TypeAlias = Callable[[Tensor], Tensor]

_TINY = 1e-30  # nothing is left to do where the residual is zero: no step, and no division by it


class ConjugateGradients:
    """Conjugate gradients for H x = b, preconditioned where a preconditioner is given.

    An iteration waits for no device, and everything that it reads and writes keeps its place: where a backend can
    replay work as a graph, it is captured once.

    Parameters
    ----------
    operator : callable
        x to H x and the image of x.
    like : tensor
        Of the shape and on the device of x.
    image : tensor
        Of the shape and on the device of an image.
    preconditioner : callable, optional
        About the inverse of H, symmetric, times a vector.
    backend : str
        Name of the backend that the operator computes on.
    """

    def __init__(
        self,
        operator: Operator,
        like: Tensor,
        image: Tensor,
        preconditioner: Matvec | None = None,
        backend: str = "cpu",
    ) -> None:
        self.operator, self.preconditioner = operator, preconditioner
        self._solution, self._residual, self._direction = (torch.zeros_like(like) for _ in range(3))
        self._image = torch.zeros_like(image)
        self._square = like.new_zeros((), dtype=torch.float64)
        this = proxy(self)  # itself would be a cycle: the operator's memory would stay until cycles are looked for

        def iterate() -> None:
            this.iterate()

        self._run = repeated(iterate, backend)

    def solve(
        self, start: Tensor, residual: Tensor, image: Tensor, iterations: int, tolerance: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """The solution after at most so many iterations, and its image.

        Parameters
        ----------
        start : tensor
        residual : tensor
            b - H start.
        image : tensor
            Of `start`.
        iterations : int
        tolerance : float
            They end where the residual's square, in the norm of the preconditioner, is not above it. Asking makes the
            device wait, so that zero is not asked for.
        """
        self._solution.copy_(start)
        self._residual.copy_(residual)
        self._image.copy_(image)
        towards = self._preconditioned()
        self._direction.copy_(towards)
        self._square.copy_(inner_product(self._residual, towards))
        for _ in range(iterations):
            if tolerance > 0 and float(self._square) <= tolerance:
                break
            self._run()
        return self._solution.clone(), self._image.clone()

    def iterate(self) -> None:
        """One iteration, in place."""
        product, image = self.operator(self._direction)
        length = (self._square / inner_product(self._direction, product).clamp(min=_TINY)).float()
        self._solution.addcmul_(length, self._direction)
        self._image.addcmul_(length, image)
        self._residual.addcmul_(length, product, value=-1)
        towards = self._preconditioned()
        square = inner_product(self._residual, towards)
        self._direction.mul_((square / self._square.clamp(min=_TINY)).float()).add_(towards)
        self._square.copy_(square)

    def _preconditioned(self) -> Tensor:
        return self._residual if self.preconditioner is None else self.preconditioner(self._residual)


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """In float64. Not BLAS's: that one's last bits depend on where in memory the vectors lie."""
    return torch.sum(a * b, dtype=torch.float64)
