"""How the field is made of Gaussians is a strategy: where it begins, and what is tried from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from slicesplat.estimate.objective import Objective
from slicesplat.estimate.observations import Estimate, Observations, Swept
from slicesplat.geometry.rigid import Rigid


@dataclass(frozen=True, eq=False)
class Candidate:
    """A field that may be the one, and the objective that it is estimated under.

    Attributes
    ----------
    objective : Objective
    estimate : Estimate
    """

    objective: Objective
    estimate: Estimate


@dataclass(frozen=True, eq=False)
class Trials:
    """What is tried from the best candidate on.

    Attributes
    ----------
    moves : sequence of callable
        From the best candidate so far to where another one starts.
    sweeps : int
        Sweeps that each of them gets, at most.
    chain : bool
        Each move is tried only where the one before has been better; otherwise only where none before has.
    tie : float
        Share of the best error by which one may be worse and passes for better.
    worth : float
        Share of the best error by which one of a chain has to be better for the next to be tried.
    even : float
        Share of the best error by which one has to be better to be taken as it is: else it is what is `between`.
    between : callable, optional
        From the best candidate so far and one that is hardly better to what lies halfway.
    """

    moves: Sequence[Callable[[Candidate], Candidate]]
    sweeps: int
    chain: bool
    tie: float = 0.0
    worth: float = 0.0
    even: float = 0.0
    between: Callable[[Candidate, Candidate], Candidate] | None = None


class FieldStrategy(Protocol):
    """What the joint fit asks of a strategy."""

    def initialise(self, observations: Observations, motion: Rigid) -> Candidate:
        """The field to begin with, and to refine the poses on."""

    def candidates(self, observations: Observations) -> Iterator[Trials]:
        """What is tried once the poses are known, one family after the other."""

    @property
    def last_sweeps(self) -> int:
        """That `finish` makes at most."""

    def finish(self, observations: Observations, best: Candidate, swept: Swept) -> Candidate:
        """What the best candidate becomes before all pixels are fitted: a field of no more Gaussians than asked."""
