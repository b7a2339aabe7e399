"""Whether slices moved at all: motion is believed where it predicts pixels that were left out better than none.

Poses that were fitted explain the pixels they were fitted to a little better, moved or not. So squares of pixels are
left out of every slice; the rest gives the poses and a field, and the field predicts the squares. The simplest motion
that predicts them no worse than the motion of every slice stands: none, then one of every stack. docs/method.md,
Motion.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RegistrationSettings, StillnessSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import MAD_TO_SIGMA, broadcast_to_pixels, median, sum_over_slices
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import LEAST_NOISE, fit_gains
from slicesplat.motion.align import NEIGHBOURING_PIXELS, align
from slicesplat.motion.gauge import gauge
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend, ForwardModel

log = logging.getLogger("slicesplat")

_DEFAULT = RegistrationSettings()


def simplest_motion(
    slices: Slices, found: Rigid, weight: Float, settings: RegistrationSettings = _DEFAULT, backend: Backend = CPU
) -> Rigid | None:
    """The motions (S) of still slices, or of stacks that moved as one, where these explain all; else None.

    Parameters
    ----------
    slices : Slices
        Where they are put if nothing moved.
    found : Rigid (S)
        Motions that were found for every slice by itself.
    weight : (S,)
        Trust in them; slices without any take no part.
    settings : RegistrationSettings
    backend : Backend
    """
    if not (weight > 0).any():
        return None
    coarse, choice = slices.binned(settings.binning, least=1.0), settings.stillness
    rough = _Comparison(coarse, found, weight, choice.rough_spacing, settings, backend)
    fine = _Comparison(slices, found, weight, choice.spacing, settings, backend)
    for name, motion in (("still", slices.motion), ("moved as stacks", _of_stacks(slices.moved(found), weight))):
        # On a rough field, quickly, what moved is told from what did not.
        if rough.no_worse(motion) and fine.no_worse(motion):
            log.info("the slices %s: motion of each by itself explains no more", name)
            return motion
    return None


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Simpler motions against the one that was found, by how they predict pixels that are left out.

    Attributes
    ----------
    slices : Slices
    found : Rigid (S)
    weight : (S,)
        Slices without any take no part.
    spacing : float
        Lattice constant of the fields, mm.
    settings : RegistrationSettings
    backend : Backend
    """

    slices: Slices
    found: Rigid
    weight: Float
    spacing: float
    settings: RegistrationSettings
    backend: Backend

    def no_worse(self, simple: Rigid) -> bool:
        """Whether the simple motion predicts as well as the one that was found, all in all and nearly every slice."""
        choice = self.settings.stillness
        # A slice that nothing crosses agrees with itself best wherever it is alone.
        there = crossed(self.slices.moved(simple), self._inside, choice.rough_spacing)
        held = self._inside & squares(self.slices, choice) & there
        if not held.any():
            return False
        left = self.backend.tensor(held).float()
        errors = (self._least, self._errors(simple))
        sigma = max(MAD_TO_SIGMA * median(errors[0][left > 0]), LEAST_NOISE)
        limited = [error.clamp(max=choice.limit * sigma) ** 2 for error in errors]
        # Neighbouring pixels share what the field has not learnt.
        worse = sum_over_slices(left * (limited[1] - limited[0]), self.slices) / (NEIGHBOURING_PIXELS * sigma**2)
        worse = worse[sum_over_slices(left, self.slices) > 0]
        score = float(worse.sum()) / max(float(np.sqrt((worse**2).sum())), 1e-12)
        moved = int((worse > choice.certain).sum())
        log.debug("motion: %.1f standard errors, certain for %d of %d slices", score, moved, len(worse))
        return score < choice.significant and moved <= max(1, choice.exceptions * len(worse))

    @cached_property
    def _inside(self) -> NDArray[np.bool_]:
        """(P,) pixels that take part."""
        return self.slices.mask & self.slices.measured & (self.weight > 0)[self.slices.slice_of_pixel()]

    @cached_property
    def _kept(self) -> Tensor:
        """(P,) those of them that are not left out."""
        return self.backend.tensor(self._inside & ~squares(self.slices, self.settings.stillness)).float()

    @cached_property
    def _least(self) -> Tensor:
        """Absolute errors (P,) of the motion that was found, as the pixels kept give it by themselves."""
        here, count = self.slices.moved(self.found), len(self.slices)
        field, forward_model = self._field(here)
        level = np.full(count, self.settings.fine[-1].scale)
        start = (field, here, here.pixels, self._kept, np.ones(count), level)
        return self._errors(align(*start, None, self.settings.steps, forward_model).motion)

    def _errors(self, motion: Rigid) -> Tensor:
        """Absolute errors (P,) of the prediction from the pixels kept."""
        here, pixels = self.slices.moved(motion), self.backend.tensor(self.slices.pixels)
        field, forward_model = self._field(here)
        image = forward_model.apply(field.amplitudes, np.ones(len(here)))
        gain = fit_gains(here, pixels, image, self._kept, np.maximum(sum_over_slices(self._kept, here), 1))
        return (broadcast_to_pixels(gain, here, self.backend.device) * image - pixels).abs()

    def _field(self, here: Slices) -> tuple[GaussianField, ForwardModel]:
        given = (self.backend.tensor(here.pixels), self._kept, np.ones(len(here)))
        return fit_lattice(here, *given, self.spacing, self.settings.iterations, self.settings.ridge, self.backend)


def squares(slices: Slices, settings: StillnessSettings) -> NDArray[np.bool_]:
    """(P,) pixels to leave out: a quarter of all, in squares, at other places in every slice."""
    held = np.zeros(len(slices.pixels), bool)
    for s in range(len(slices)):
        size = max(2, round(settings.square / float(slices.step[s].mean())))
        rows, columns = (np.arange(n) // size for n in slices.shape[s])
        slices.image(held, s)[:] = ((rows + s) % 2 == 0)[:, None] & ((columns + s // 2) % 2 == 0)
    return held


def crossed(slices: Slices, inside: NDArray[np.bool_], size: float) -> NDArray[np.bool_]:
    """(P,) pixels in places, cubes of so many mm, where another stack has pixels (P,) inside too."""
    points = [slices.pose[s].map(slices.plane_points(s, inside=False)) for s in range(len(slices))]
    cells = np.floor(np.concatenate(points) / size).astype(np.int64)
    cells -= cells.min(axis=0)
    place, stack = np.ravel_multi_index(tuple(cells.T), cells.max(axis=0) + 1), slices.stack[slices.slice_of_pixel()]
    numbers = int(stack.max()) + 1
    seen = np.unique(place[inside] * numbers + stack[inside])
    places, stacks = np.unique(seen // numbers, return_counts=True)
    return np.isin(place, places[stacks > 1])


def _of_stacks(slices: Slices, weight: Float) -> Rigid:
    """Every stack moved as one, as its slices are on average."""
    motion = slices.motion.matrix.copy()
    for stack in np.unique(slices.stack):
        motion[slices.stack == stack] = (~gauge(slices, int(stack), weight)).matrix
    return Rigid(motion)
