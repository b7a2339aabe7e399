"""What is likely before anything is measured: priors on a field, by name. docs/method.md, Prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from slicesplat.errors import InputError
from slicesplat.field.lattice import Lattice
from slicesplat.priors.curvature import Curvature
from slicesplat.priors.ridge import Ridge
from slicesplat.splat import CPU, Backend


class QuadraticPrior(Protocol):
    """A prior E on a field of given shapes, lowered by way of quadratic forms a' P a / 2 that touch it from above."""

    def energy(self, amplitudes: Tensor) -> float:
        """E of the field of these amplitudes (N,)."""

    def majorise(self, amplitudes: Tensor, strength: float) -> None:
        """Make the form touch `strength` times E at these amplitudes (N,)."""

    def matvec(self, amplitudes: Tensor) -> Tensor:
        """P times a vector: (N,) to (N,)."""

    def diagonal(self) -> Tensor:
        """The diagonal (N,) of P, or about that."""


class Prior(QuadraticPrior, Protocol):
    """A prior on the field of a lattice."""

    lattice: Lattice

    def symbol(self, turns: Sequence[Tensor]) -> Tensor:
        """What P does to waves of `turns` radian per cell along each axis, where it is even, but for a factor."""


PRIORS: dict[str, Callable[[Lattice, Backend], Prior]] = {"curvature": Curvature, "ridge": Ridge}
"""By the name that `FitSettings.prior` gives."""


def prior_named(name: str) -> Callable[[Lattice, Backend], Prior]:
    """What makes the prior of that name on a lattice.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in PRIORS:
        raise InputError(f"prior {name!r}: choose one of {', '.join(sorted(PRIORS))}")
    return PRIORS[name]


def make_prior(name: str, lattice: Lattice, backend: Backend = CPU) -> Prior:
    """The prior of that name on a lattice; errors as `prior_named`."""
    return prior_named(name)(lattice, backend)
