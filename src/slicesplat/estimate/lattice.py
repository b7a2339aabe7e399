"""The field as a cubic lattice of Gaussians: shapes are given, amplitudes are solved for.

What the data decide is how many Gaussians there are, that is how close they stand, and how strong the prior is: the
error of the validation pixels chooses both. docs/method.md, Field strategies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from slicesplat.config import FitSettings, TimePriorSettings
from slicesplat.estimate.alternate import sweep
from slicesplat.estimate.basis import LatticeBasis
from slicesplat.estimate.objective import Objective, Workspace, empty_estimate
from slicesplat.estimate.observations import Observations, Swept
from slicesplat.estimate.strategy import Candidate, Trials
from slicesplat.field.lattice import BRIDGED, lattice_over
from slicesplat.geometry.rigid import Rigid
from slicesplat.likelihood.robust import Weights, initial_weights
from slicesplat.solvers.amplitudes import resampled_amplitudes


class LatticeStrategy:
    """Lattices, coarse to fine, and priors of several strengths on the best of them.

    Parameters
    ----------
    settings : FitSettings
    time : TimePriorSettings
    """

    def __init__(self, settings: FitSettings, time: TimePriorSettings) -> None:
        self.settings, self.time = settings, time

    def initialise(self, observations: Observations, motion: Rigid) -> Candidate:
        """The coarsest lattice, fitted from nothing."""
        weights = initial_weights(observations.slices, observations.fitted)
        objective = self._objective(observations, self.settings.spacings[0], motion, weights)
        estimate = empty_estimate(objective.workspace.shapes, motion, weights)
        # Plain conjugate gradients do what is large first; the preconditioner makes them do all scales at once.
        iterations = self.settings.first_iterations
        return Candidate(objective, objective.amplitudes(observations, estimate, iterations, preconditioned=False))

    def candidates(self, observations: Observations) -> Iterator[Trials]:
        """Finer lattices for as long as they are better, then the first strength of the prior that is."""
        rounds = self.settings.rounds
        finer = [partial(self._finer, observations, spacing) for spacing in self.settings.spacings[1:]]
        yield Trials(finer, rounds, chain=True, tie=self.settings.tie, worth=self.settings.worth)
        # Noise that could not be measured is more than it seems, by nobody knows how much, and the prior goes by it.
        stronger = [partial(_with_strength, factor) for factor in self.settings.factors(observations.noise.known)]
        yield Trials(stronger, rounds // 2, chain=True)
        others = [partial(_with_strength, factor) for factor in self.settings.strengths]
        yield Trials(others, rounds // 2, chain=False, even=self.settings.even, between=_halfway)

    @property
    def last_sweeps(self) -> int:
        """A lattice is made coarser only where the number of its Gaussians is bounded."""
        return self.settings.rounds if self.settings.gaussians else 0

    def finish(self, observations: Observations, best: Candidate, swept: Swept) -> Candidate:
        """The best lattice, or the finest one that has no more Gaussians than there may be."""
        most, spacing = self.settings.gaussians, best.objective.spacing / observations.pixel_spacing
        found = best
        while most and len(found.estimate.field) > most:
            # Of a lattice that is a little coarser than it would have to be there is one more often.
            spacing *= max(1.01, (len(found.estimate.field) / most) ** (1 / 3))
            found = self._finer(observations, spacing, best)
        if found is not best:
            best.objective.workspace.release()
            found = Candidate(found.objective.with_strength(best.objective.strength), found.estimate)
            found = sweep(observations, found, self.last_sweeps, swept)
        return found

    def _finer(self, observations: Observations, spacing: float, best: Candidate) -> Candidate:
        """A lattice of another constant that begins with the values of the best."""
        best.objective.workspace.free_scratch()
        estimate = best.estimate
        objective = self._objective(observations, spacing, estimate.motion, estimate.weights)
        workspace = objective.workspace
        amplitudes = resampled_amplitudes(estimate.field, workspace.basis.lattice, observations.backend)
        field = replace(workspace.shapes, amplitudes=amplitudes)
        return Candidate(objective, replace(estimate, field=field, error=np.inf, image=None))

    def _objective(self, observations: Observations, spacing: float, motion: Rigid, weights: Weights) -> Objective:
        here = observations.slices.moved(motion)
        lattice = lattice_over(here, spacing * observations.pixel_spacing, observations.backend.device, BRIDGED)
        workspace = Workspace(observations, LatticeBasis(lattice), weights, motion, self.settings)
        return Objective(workspace, self.settings, self.time)


def _with_strength(factor: float, best: Candidate) -> Candidate:
    """The same field under a prior of another strength: it goes on from where the best is."""
    return Candidate(best.objective.with_strength(factor * best.objective.strength), best.estimate)


def _halfway(best: Candidate, other: Candidate) -> Candidate:
    """The other one under a prior halfway between the two."""
    strength = math.sqrt(best.objective.strength * other.objective.strength)
    return Candidate(other.objective.with_strength(strength), other.estimate)
