"""The strategy of the paper: a few Gaussians of any shape do what a lattice of many does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from brains import still_slices

from slicesplat.config import FitSettings, PrimitivesSettings
from slicesplat.estimate.fit import Fit, joint_fit

FAST = FitSettings(
    spacings=(1.6, 1.3),
    strengths=(2.0,),
    pose_rounds=2,
    final_rounds=1,
    pose_steps=1,
    rounds=2,
    primitives=PrimitivesSettings(steps=12, growth_steps=8),
)


def fitted(**changed: object) -> Fit:
    slices = still_slices()
    settings = replace(FAST, **changed)  # type: ignore[arg-type]
    return joint_fit(slices, slices.mask, settings, np.random.default_rng(0))


@pytest.mark.parametrize("strategy", ["lattice", "primitives"])
def test_there_are_no_more_gaussians_than_asked(strategy: str) -> None:
    fit = fitted(strategy=strategy, gaussians=700)
    assert 350 < len(fit.field) <= 700


def test_a_few_that_are_shaped_explain_the_slices_better_than_as_many_on_a_lattice() -> None:
    lattice, shaped = (fitted(strategy=name, gaussians=900) for name in ("lattice", "primitives"))
    assert shaped.validation_error < lattice.validation_error


def test_unbounded_they_come_near_the_lattice_with_fewer() -> None:
    lattice, shaped = fitted(), fitted(strategy="primitives")
    assert len(shaped.field) < len(lattice.field)
    assert shaped.validation_error < 1.05 * lattice.validation_error
    # Poses, gains and weights are found as for the lattice.
    assert np.isfinite(shaped.standard_error).all()
    assert np.array_equal(shaped.weights.slice > 0.5, lattice.weights.slice > 0.5)


def test_more_gaussians_have_to_be_worth_it() -> None:
    primitives = replace(FAST.primitives, share=0.03, steps=6, growth_steps=4)
    few, more = (
        fitted(strategy="primitives", primitives=replace(primitives, worth=worth)) for worth in (0.9, primitives.worth)
    )
    assert len(few.field) < len(more.field)
    assert (1 - primitives.worth) * few.validation_error > more.validation_error


def test_too_few_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="20 Gaussians: give 500 or more"):
        FitSettings(gaussians=20)


def test_progress_never_goes_back_and_ends_at_its_end() -> None:
    slices, told = still_slices(), []
    settings = replace(FAST, strategy="primitives", gaussians=700)
    joint_fit(
        slices, slices.mask, settings, np.random.default_rng(0), lambda done, total, loss: told.append((done, total))
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
