"""The validation pixels choose: what loses leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from balls import some_field
from brains import still_slices

from slicesplat.config import FitSettings, TimePriorSettings
from slicesplat.estimate.alternate import sweep
from slicesplat.estimate.lattice import LatticeStrategy
from slicesplat.estimate.objective import empty_estimate
from slicesplat.estimate.observations import Estimate, Observations, observe
from slicesplat.estimate.select import select
from slicesplat.estimate.strategy import Candidate, Trials
from slicesplat.geometry.rigid import Rigid
from slicesplat.likelihood.robust import initial_weights


def observations(settings: FitSettings) -> Observations:
    slices = still_slices()
    return observe(slices, slices.mask, settings, np.random.default_rng(0))


@dataclass
class Named:
    """An objective that has a name and comes to one error at once."""

    name: str
    error: float
    released: list[str] = field(default_factory=list)

    def release(self, kept: Named) -> None:
        self.released.append(kept.name)

    def irls_sweep(self, observations: Observations, estimate: Estimate, iterations: int | None = None) -> Estimate:
        return replace(estimate, error=self.error)


@dataclass
class MadeUp:
    """A strategy whose trials come to the errors given, family after family."""

    families: Sequence[tuple[dict[str, float], bool]]
    rules: dict[str, Any] = field(default_factory=dict)
    tried: list[tuple[str, str]] = field(default_factory=list)

    def initialise(self, observations: Observations, motion: Rigid) -> Candidate:
        raise AssertionError("it begins elsewhere")

    def candidates(self, observations: Observations) -> Iterator[Trials]:
        for errors, chain in self.families:
            yield Trials([self._move(name, error) for name, error in errors.items()], 1, chain, **self.rules)

    def _move(self, name: str, error: float):  # type: ignore[no-untyped-def]
        def move(best: Candidate) -> Candidate:
            self.tried.append((best.objective.name, name))  # type: ignore[attr-defined]
            return Candidate(Named(name, error), best.estimate)  # type: ignore[arg-type]

        return move


def chosen(*families: tuple[dict[str, float], bool], **rules: Any) -> tuple[str, list[tuple[str, str]], bool]:
    """Who wins against "first" with an error of 1, who was tried from where, and whether nobody beat it."""
    slices, strategy = still_slices(), MadeUp(families, rules)
    data = observations(FitSettings())
    begun = empty_estimate(some_field(), slices.motion, initial_weights(slices, data.fitted))
    first = Candidate(Named("first", 1.0), replace(begun, error=1.0))  # type: ignore[arg-type]
    best = select(data, strategy, first, lambda estimate: None)
    assert first.estimate.error == 1.0
    return best.objective.name, strategy.tried, best.estimate is first.estimate  # type: ignore[attr-defined]


def test_chain_goes_on_from_what_was_better_and_ends_with_the_first_that_is_not() -> None:
    name, tried, _ = chosen(({"a": 0.9, "b": 0.8, "c": 0.85, "d": 0.1}, True))
    assert name == "b"
    assert tried == [("first", "a"), ("a", "b"), ("b", "c")]


@pytest.mark.parametrize(
    ("errors", "best", "tries"),
    [
        ((0.98, 0.96), "b", 2),  # the first is worth a second
        ((0.995, 0.5), "a", 1),  # better, by less than that
        ((1.0005, 0.5), "a", 1),  # as good
        ((1.002, 0.5), "first", 1),
    ],
)
def test_chain_goes_on_where_a_step_was_worth_it_and_takes_what_is_as_good(
    errors: tuple[float, float], best: str, tries: int
) -> None:
    name, tried, _ = chosen((dict(zip("ab", errors, strict=True)), True), tie=0.001, worth=0.01)
    assert (name, len(tried)) == (best, tries)


def test_of_alternatives_the_first_that_is_better_is_taken() -> None:
    name, tried, _ = chosen(({"a": 1.2, "b": 0.8, "c": 0.1}, False))
    assert name == "b"
    assert tried == [("first", "a"), ("first", "b")]


@pytest.mark.parametrize(
    ("error", "best"), [(0.99, "a"), (0.998, "first and a"), (1.0, "first"), (1.1, "first")], ids=str
)
def test_one_that_is_hardly_better_is_met_halfway(error: float, best: str) -> None:
    def between(one: Candidate, other: Candidate) -> Candidate:
        name = f"{one.objective.name} and {other.objective.name}"  # type: ignore[attr-defined]
        return Candidate(Named(name, error), other.estimate)  # type: ignore[arg-type]

    name, tried, _ = chosen(({"a": error, "b": 2.0}, False), even=0.005, between=between)
    assert name == best
    assert len(tried) == (1 if error < 1 else 2)


def test_strength_that_is_hardly_better_is_met_halfway() -> None:
    settings = FitSettings(spacings=(2.0,), strengths=(1.5,), rounds=2, even=np.inf)
    data = observations(settings)
    strategy = LatticeStrategy(settings, TimePriorSettings())
    best = sweep(data, strategy.initialise(data, data.slices.motion), 2, lambda estimate: None)
    worse = Candidate(best.objective, replace(best.estimate, error=1.0))
    found = select(data, strategy, worse, lambda estimate: None)
    assert found.estimate.error < 1.0
    assert found.objective.strength == pytest.approx(np.sqrt(1.5))


def test_next_family_starts_from_the_best_of_the_one_before() -> None:
    name, tried, _ = chosen(({"a": 0.9, "b": 0.95}, True), ({"c": 0.9, "d": 0.7}, False))
    assert name == "d"
    assert tried == [("first", "a"), ("a", "b"), ("a", "c"), ("a", "d")]


@pytest.mark.parametrize("chain", [True, False])
@pytest.mark.parametrize("error", [1.0, 3.0])
def test_who_loses_or_is_no_better_leaves_the_best_as_it_is(error: float, chain: bool) -> None:
    assert chosen(({"a": error}, chain)) == ("first", [("first", "a")], True)


def test_lattices_and_priors_that_lose_leave_estimate_and_validation_error_untouched() -> None:
    # A lattice that cannot draw anything, and priors of a million times the usual strength and more.
    settings = FitSettings(spacings=(2.0, 9.0), strengths=(1e6, 1e7), rounds=2)
    data = observations(settings)
    strategy = LatticeStrategy(settings, TimePriorSettings())
    best = sweep(data, strategy.initialise(data, data.slices.motion), 2, lambda estimate: None)
    before, image = best.estimate.error, best.estimate.image.clone()  # type: ignore[union-attr]
    swept: list[float] = []
    found = select(data, strategy, best, lambda estimate: swept.append(estimate.error))
    assert len(swept) >= 3 and min(swept) > before
    assert found is best
    assert found.estimate.error == before and found.estimate.image.equal(image)  # type: ignore[union-attr]
    # The workspace that the losers worked in gives the same as one that nobody used.
    again = sweep(data, strategy.initialise(data, data.slices.motion), 3, lambda estimate: None)
    assert found.objective.irls_sweep(data, found.estimate).error == again.estimate.error
