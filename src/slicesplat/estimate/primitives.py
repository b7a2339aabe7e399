"""The field as Gaussians that have a place, a size and a direction each, as the method's paper has them.

Shapes that follow the gradient of the objective itself fit noise: with the curvature prior, which likes few sharp
folds, they find a lower objective than the best lattice has, and are further from the truth; the validation pixels see
that too late. So the shapes are those with which few Gaussians come nearest to the lattice that the validation pixels
chose (`estimate.projection`): the same prior is in it, and has been minimised in amplitudes only. The amplitudes are
then solved for in the slices again, under the prior of the field that the Gaussians make together, and so are poses,
gains and weights. docs/method.md, Field strategies.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from slicesplat.estimate.alternate import sweep
from slicesplat.estimate.basis import PrimitivesBasis
from slicesplat.estimate.lattice import LatticeStrategy
from slicesplat.estimate.objective import Objective, Workspace
from slicesplat.estimate.observations import Observations, Swept
from slicesplat.estimate.projection import Projection
from slicesplat.estimate.strategy import Candidate
from slicesplat.field.gaussians import GaussianField


class PrimitivesStrategy(LatticeStrategy):
    """Lattices until the validation pixels have chosen one; then so few Gaussians of any shape as they allow.

    Parameters
    ----------
    settings : FitSettings
    time : TimePriorSettings
    """

    @property
    def last_sweeps(self) -> int:
        """Of every number of Gaussians that may be tried."""
        primitives = self.settings.primitives
        numbers = 2 + math.ceil(math.log(1 / primitives.share) / math.log(primitives.growth))
        return numbers * self.settings.rounds

    def finish(self, observations: Observations, best: Candidate, swept: Swept) -> Candidate:
        """The projection of the best lattice, on more and more Gaussians while the validation pixels ask for them."""
        settings, primitives, lattice = self.settings, self.settings.primitives, best.estimate.field
        most = min(settings.gaussians or len(lattice), len(lattice))
        count = min(most, math.ceil(primitives.share * len(lattice)))
        here = observations.slices.moved(best.estimate.motion)
        given = (observations.pixel_spacing, primitives, observations.backend)
        best.objective.workspace.release()
        projection = Projection(lattice, here, *given)
        shapes = projection.begin(count)
        found = sweep(observations, self._candidate(observations, best, shapes), settings.rounds, swept)
        while count < most:
            count = min(most, math.ceil(primitives.growth * count))
            shapes = projection.grow(shapes, count)
            trial = sweep(observations, self._candidate(observations, best, shapes), settings.rounds, swept)
            better = trial.estimate.error < (1 - primitives.worth) * found.estimate.error
            found, other = (trial, found) if better else (found, trial)
            other.objective.workspace.release()
            if not better:
                break
        return found

    def _candidate(self, observations: Observations, best: Candidate, shapes: GaussianField) -> Candidate:
        """The objective of the best lattice on Gaussians of these shapes, and where its minimisation begins."""
        estimate, objective = best.estimate, best.objective
        basis = PrimitivesBasis(shapes, objective.workspace.basis.lattice)
        workspace = Workspace(observations, basis, estimate.weights, estimate.motion, self.settings)
        found = Objective(workspace, self.settings, self.time, objective.strength)
        return Candidate(found, replace(estimate, field=shapes, error=np.inf, image=None))
