"""What a field is a sum of while its amplitudes are solved for: Gaussians of given shapes, and their prior."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import Lattice
from slicesplat.geometry.slices import Slices
from slicesplat.priors import QuadraticPrior, make_prior
from slicesplat.priors.sampled import SampledPrior
from slicesplat.solvers.precondition import DiagonalPreconditioner, Preconditioner
from slicesplat.splat import Backend


class Preconditions(Protocol):
    """About the inverse of the normal equations' matrix."""

    def update(self, coverage: Tensor) -> None:
        """Follow the prior, and the pixels' weights: `coverage` (N,) is what their adjoint gives."""

    def matvec(self, vector: Tensor) -> Tensor:
        """The inverse times a vector: (N,) to (N,)."""


class Basis(Protocol):
    """Gaussians of given shapes."""

    lattice: Lattice
    """Themselves, or where the prior looks at their sum."""

    def shapes(self) -> GaussianField:
        """The Gaussians; their amplitudes do not matter."""

    def prior(self, name: str, slices: Slices, backend: Backend) -> tuple[QuadraticPrior, Preconditions]:
        """The prior of that name on them, and a preconditioner for slices at their poses that follows it."""


class LatticeBasis:
    """The Gaussians of a lattice.

    Parameters
    ----------
    lattice : Lattice
    """

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice

    def shapes(self) -> GaussianField:
        """The Gaussians of the lattice, without amplitudes."""
        return self.lattice.field()

    def prior(self, name: str, slices: Slices, backend: Backend) -> tuple[QuadraticPrior, Preconditions]:
        """That of neighbouring amplitudes, and a circulant preconditioner."""
        prior = make_prior(name, self.lattice, backend)
        return prior, Preconditioner(self.lattice, prior, slices, backend)


class PrimitivesBasis:
    """Gaussians of any shape.

    Parameters
    ----------
    field : GaussianField
    lattice : Lattice
        At whose cells the prior looks at the field.
    """

    def __init__(self, field: GaussianField, lattice: Lattice) -> None:
        self._field, self.lattice = field, lattice

    def shapes(self) -> GaussianField:
        """The Gaussians, with the amplitudes that they came with."""
        return self._field

    def prior(self, name: str, slices: Slices, backend: Backend) -> tuple[QuadraticPrior, Preconditions]:
        """That of the field's values at the lattice's cells, and a diagonal preconditioner."""
        prior = SampledPrior(make_prior(name, self.lattice, backend), self._field, backend)
        return prior, DiagonalPreconditioner(self._field, prior, slices, backend)
