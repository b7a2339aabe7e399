"""Slices that stray from where they are expected, judged by the others: what they do not confirm is taken back.

A field that was fitted to a slice shows it wherever it lies, and a slice of few pixels matches somewhere by chance. So
those that stray from the time prior are left out of the field, all at once, and each is aligned to it twice: from
where it was found, and from where it is expected. A jump may lead anywhere, and the search has looked everywhere. By
Bayes' rule the found place is the likelier one if

    n / (2 c) log(C_expected / C_found) > log((V / v_t)^3 (A / v_r)^3)

C the misfits, the variance of the residuals being unknown, n the pixels and c how many of them say as much as one; V
and A the largest shift and turn that are searched, v_t and v_r the time prior's standard deviations. The right side is
what it costs to choose among so many places (the Occam factor; MacKay, Neural Computation 4, 1992, 415-447). Only
pixels that the others see at both places are asked. docs/method.md, Motion.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import Level, RecoverySettings, RegistrationSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels, median, sum_over_slices
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.likelihood.robust import LEAST_NOISE, MIN_PIXELS
from slicesplat.motion.align import NEIGHBOURING_PIXELS, Alignment, align
from slicesplat.motion.time_prior import TimePrior, time_prior
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend, predict

log = logging.getLogger("slicesplat")
_DEFAULT = RegistrationSettings()


@dataclass(frozen=True, eq=False)
class Witnesses:
    """What the slices that are believed show.

    Attributes
    ----------
    field : GaussianField
        Fitted to them alone.
    coverage : GaussianField
        How much they saw of every place, as a field on the same lattice.
    typical : float
        Coverage at a typical pixel of theirs.
    prior : TimePrior
        Where they expect every slice.
    """

    field: GaussianField
    coverage: GaussianField
    typical: float
    prior: TimePrior


@dataclass(frozen=True, eq=False)
class Verdict:
    """What becomes of slices that are astray.

    Attributes
    ----------
    which : (n,)
        The slices.
    back : (n,) bool
        Those of them that are taken back: the others do not confirm where they were found.
    there : Alignment
        (n) where they are then, and how they fit there what the others show.
    judged : (n,) bool
        Those of which the others see enough to say so.
    """

    which: NDArray[np.int64]
    back: NDArray[np.bool_]
    there: Alignment
    judged: NDArray[np.bool_]

    def taken_back(self, slices: int) -> NDArray[np.bool_]:
        """(S,) of all slices."""
        return np.isin(np.arange(slices), self.which[self.back])

    def motion(self, motion: Rigid) -> Rigid:
        """Motions (S) of all slices, with those that are taken back in their places."""
        matrix = motion.matrix.copy()
        matrix[self.which[self.back]] = self.there.motion.matrix[self.back]
        return Rigid(matrix)

    def applied(self, state: Alignment) -> Alignment:
        """The alignment (S) with the slices that are taken back where they are then.

        A slice of which the others see nothing fits no worse than any.
        """
        fitting = [state.gain.copy(), state.misfit.copy(), state.ncc.copy()]
        misfit = np.where(self.judged, self.there.misfit, np.median(state.misfit))
        ncc = np.where(self.judged, self.there.ncc, state.ncc[self.which])
        for part, new in zip(fitting, (self.there.gain, misfit, ncc), strict=True):
            part[self.which[self.back]] = new[self.back]
        return Alignment(self.motion(state.motion), *fitting)


def judge_stray(
    slices: Slices,
    inside: Tensor,
    trust: Float,
    gain: Float,
    level: Level,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Verdict | None:
    """Judge the slices that stray from where they are expected; None where there are none.

    Parameters
    ----------
    slices : Slices
        Where they were found.
    inside : (P,)
        Weights of the pixels that take part.
    trust, gain : (S,)
    level : Level
        Lattice constant and residual scale of the field of the others.
    settings : RegistrationSettings
    backend : Backend
    """
    stray = astray(slices, time_prior(slices, trust, settings.time), settings.recovery) & (trust > 0)
    # Without each other's word: next to a slice that is lost a sound one seems astray.
    others = np.where(stray, 0.0, trust)
    prior = time_prior(slices, others, settings.time)
    which = np.flatnonzero(stray & astray(slices, prior, settings.recovery))
    if not len(which) or not others.any():
        return None
    weights = inside * broadcast_to_pixels(others, slices, backend.device)
    given = (backend.tensor(slices.pixels), weights, gain, level.spacing, settings.iterations, settings.ridge)
    field, forward_model = fit_lattice(slices, *given, backend)
    ones = np.ones(len(slices))
    coverage = replace(field, amplitudes=forward_model.adjoint(weights, ones))
    typical = median(forward_model.apply(coverage.amplitudes, ones)[weights > 0])
    witnesses = Witnesses(field, coverage, typical, prior)
    verdict = _verdict(witnesses, slices, inside, gain, which, level.scale, settings.recovery, backend)
    log.debug("slices astray: %d, of which the others confirm %d", len(which), int((~verdict.back).sum()))
    return verdict


def astray(slices: Slices, prior: TimePrior, settings: RecoverySettings = _DEFAULT.recovery) -> NDArray[np.bool_]:
    """Slices (S,) that lie where the time prior does not expect them."""
    return np.asarray(prior.stray(slices.pose) > settings.stray)


def occam_factor(prior: TimePrior, settings: RecoverySettings = _DEFAULT.recovery) -> float:
    """Logarithm of how many places of the time prior's size the search has looked at.

    Examples
    --------
    >>> prior = TimePrior(Rigid.identity(1), 1.5, np.deg2rad(4.5))
    >>> round(occam_factor(prior, RecoverySettings(max_shift=15.0, max_turn=45.0)), 3)
    13.816
    """
    turns = np.deg2rad(settings.max_turn) / prior.rotation
    return float(3 * np.log(max(settings.max_shift / prior.translation, 1.0)) + 3 * np.log(max(turns, 1.0)))


def pixels_as_one(slices: Slices, residual: Tensor, inside: Tensor) -> Float:
    """How many pixels (S,) of each slice say as much as one, by how alike the residuals (P,) of neighbours are.

    A mean of residuals whose neighbours correlate by r, along either axis and falling off by that factor a pixel,
    varies as that of fewer by ((1 + r) / (1 - r))^2: the effective size of an autoregressive sample.
    """
    out = np.empty(len(slices))
    values, counted = residual.cpu().numpy(), inside.cpu().numpy() > 0
    for s in range(len(slices)):
        image = np.where(slices.image(counted, s), slices.image(values, s), 0.0).astype(np.float64)
        there = slices.image(counted, s)
        down, across = there[1:] & there[:-1], there[:, 1:] & there[:, :-1]
        product = (image[1:] * image[:-1])[down].sum() + (image[:, 1:] * image[:, :-1])[across].sum()
        square = (image**2).sum() / max(int(there.sum()), 1) * (int(down.sum()) + int(across.sum()))
        alike = np.clip(product / max(square, 1e-12), 0.0, 0.95)
        out[s] = ((1 + alike) / (1 - alike)) ** 2
    return np.maximum(out, NEIGHBOURING_PIXELS)


def _verdict(
    witnesses: Witnesses,
    slices: Slices,
    inside: Tensor,
    gain: Float,
    which: NDArray[np.int64],
    scale: float,
    settings: RecoverySettings,
    backend: Backend,
) -> Verdict:
    """Judge slices `which` by witnesses that do not hold them."""
    trial, prior, ones = slices.take(which), witnesses.prior[which], np.ones(len(which))
    mine = torch.as_tensor(pixel_indices(slices.offset, which), device=inside.device)
    asked = inside[mine]
    expected_there = trial.moved(prior.pose @ ~trial.frame)
    for at in (trial, expected_there):
        asked = asked * (predict(witnesses.coverage, at, ones, backend) > settings.least_seen * witnesses.typical)
    given = (asked, gain[which], scale * ones, None, settings.last_steps)
    # To stay is to stay: what has not jumped is drawn to its expected place however far it has slid.
    tries = ((trial, prior), (expected_there, replace(prior, jump=np.inf)))
    found, expected = (
        align(witnesses.field, at, trial.pixels, *given, prior=drawn, backend=backend) for at, drawn in tries
    )
    shown = predict(witnesses.field, trial.moved(found.motion), found.gain, backend)
    alike = pixels_as_one(trial, shown - backend.tensor(trial.pixels), asked)
    count = sum_over_slices(asked, trial)
    better = np.log((expected.misfit**2 + LEAST_NOISE**2) / (found.misfit**2 + LEAST_NOISE**2))
    back = count / (2 * alike) * better <= occam_factor(prior, settings)
    return Verdict(which, back, expected, count >= MIN_PIXELS)
