"""Slices that stray from where they are expected, judged by the others: what they do not confirm is taken back.

A field that was fitted to a slice shows it wherever it lies, and a slice of few pixels matches somewhere by chance. So
those that stray from the time prior are left out of the field, all at once, and each is aligned to it twice: from
where it was found, and from where it is expected. By Bayes' rule the found place is the likelier one if

    n / (2 c) log(C_expected / C_found) > (nu + 6) / 2 log(1 + d^2 / nu),   nu = 1

C the misfits, the variance of the residuals being unknown, n the pixels and c how many of them say as much as one. The
right side is what a step of length d, in units of the time prior, costs where steps have heavy tails: those of
Student's t distribution in six dimensions (Lange, Little and Taylor, Journal of the American Statistical Association
84, 1989, 881-896). Only pixels that the others see at both places are asked. It is believed too if the slice, begun
where it is expected and drawn back there, goes most of the way to where it was found all the same. Those that are
believed speak for the others, which are then judged again. docs/method.md, Motion.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RecoverySettings, RegistrationSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels, median, sum_over_slices
from slicesplat.geometry.rigid import Float, Rigid, displacement
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.likelihood.robust import LEAST_NOISE
from slicesplat.motion.align import NEIGHBOURING_PIXELS, Alignment, align
from slicesplat.motion.time_prior import TimePrior, time_prior
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend, predict

log = logging.getLogger("slicesplat")
_DEFAULT = RegistrationSettings()
_FREEDOM = 1.0  # degrees, of the t distribution: steps of any size happen


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

    def see(self, slices: Slices, settings: RecoverySettings, backend: Backend) -> Tensor:
        """Pixels (P,) bool of slices where they are that these slices know what to show in."""
        coverage = predict(self.coverage, slices, np.ones(len(slices)), backend)
        return coverage > settings.least_seen * self.typical


@dataclass(frozen=True, eq=False)
class Verdict:
    """What becomes of slices that are astray.

    Attributes
    ----------
    which : (n,)
        The slices.
    back : (n,) bool
        Those of them that are taken back: the others do not confirm where they were found.
    there : Rigid
        (n) the motions that they have then.
    favoured : (n,) bool
        Those that fit better where they were found, if not by enough.
    """

    which: NDArray[np.int64]
    back: NDArray[np.bool_]
    there: Rigid
    favoured: NDArray[np.bool_]

    def taken_back(self, slices: int) -> NDArray[np.bool_]:
        """(S,) of all slices."""
        return np.isin(np.arange(slices), self.which[self.back])

    def motion(self, motion: Rigid) -> Rigid:
        """Motions (S) of all slices, with those that are taken back in their places."""
        matrix = motion.matrix.copy()
        matrix[self.which[self.back]] = self.there.matrix[self.back]
        return Rigid(matrix)


def judge_stray(
    slices: Slices,
    inside: Tensor,
    trust: Float,
    gain: Float,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
    settled: NDArray[np.bool_] | None = None,
) -> Verdict | None:
    """Judge the slices that stray from where they are expected; None where there are none.

    Parameters
    ----------
    slices : Slices
        Where they were found.
    inside : (P,)
        Weights of the pixels that take part.
    trust, gain : (S,)
    settings : RegistrationSettings
    backend : Backend
    settled : (S,) bool, optional
        Slices that the others have been asked about; none when not given.
    """
    stray = astray(slices, time_prior(slices, trust, settings.time), settings.recovery) & (trust > 0)
    stray = stray if settled is None else stray & ~settled
    verdict = None
    for _ in range(settings.recovery.hearings):
        # Without each other's word: next to a slice that is lost a sound one seems astray.
        others = np.where(stray, 0.0, trust)
        prior = time_prior(slices, others, settings.time, by_distance=True)
        stray = stray & astray(slices, prior, settings.recovery)
        which = np.flatnonzero(stray)
        if not len(which) or not others.any():
            break
        witnesses = witnesses_of(slices, inside, others, gain, prior, settings, backend)
        verdict = _verdict(witnesses, slices, inside, gain, which, settings, backend)
        log.debug("slices astray: %d, of which the others confirm %d", len(which), int((~verdict.back).sum()))
        if verdict.back.all() or not verdict.back.any():
            break
        stray[which[~verdict.back]] = False
    return verdict


def at_expected(
    slices: Slices,
    inside: Tensor,
    trust: Float,
    gain: Float,
    which: NDArray[np.int64],
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Alignment:
    """How slices `which` fit what the others show where they are expected: an alignment (n) from there.

    One of which the others see too little to say so correlates by zero.

    Parameters
    ----------
    slices, inside, trust, gain, settings, backend
        As `judge_stray`.
    which : (n,)
        Slices that have not found their place; they do not speak.
    """
    others = np.where(np.isin(np.arange(len(slices)), which), 0.0, trust)
    prior = time_prior(slices, others, settings.time, by_distance=True)
    witnesses = witnesses_of(slices, inside, others, gain, prior, settings, backend)
    trial, prior, ones = slices.take(which), prior[which], np.ones(len(which))
    trial = trial.moved(prior.pose @ ~trial.frame)
    mine = torch.as_tensor(pixel_indices(slices.offset, which), device=inside.device)
    asked = inside[mine] * witnesses.see(trial, settings.recovery, backend)
    given = (asked, ones, settings.fine[-1].scale * ones, None, settings.recovery.last_steps)
    stays = replace(prior, jump=np.inf)
    found = align(witnesses.field, trial, trial.pixels, *given, prior=stays, backend=backend)
    enough = 2 * sum_over_slices(asked, trial) > sum_over_slices(inside[mine], trial)
    return replace(found, ncc=np.where(enough, found.ncc, 0.0))


def witnesses_of(
    slices: Slices,
    inside: Tensor,
    others: Float,
    gain: Float,
    prior: TimePrior,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Witnesses:
    """What slices show by themselves.

    Parameters
    ----------
    slices, inside, gain, settings, backend
        As `judge_stray`.
    others : (S,)
        Trust in the slices; those without any do not speak.
    prior : TimePrior
        Where they expect every slice.
    """
    weights = inside * broadcast_to_pixels(others, slices, backend.device)
    spacing = settings.recovery.judging_spacing * float(np.median(slices.step))
    given = (backend.tensor(slices.pixels), weights, gain, spacing, settings.iterations, settings.ridge)
    field, forward_model = fit_lattice(slices, *given, backend)
    ones = np.ones(len(slices))
    coverage = replace(field, amplitudes=forward_model.adjoint(weights, ones))
    typical = median(forward_model.apply(coverage.amplitudes, ones)[weights > 0])
    return Witnesses(field, coverage, typical, prior)


def astray(slices: Slices, prior: TimePrior, settings: RecoverySettings = _DEFAULT.recovery) -> NDArray[np.bool_]:
    """Slices (S,) that lie where the time prior does not expect them."""
    return np.asarray(prior.stray(slices.pose) > settings.stray)


def surprise(prior: TimePrior, pose: Rigid) -> Float:
    """How much likelier (S,) the expected poses are than these, as a logarithm, where steps have heavy tails.

    Examples
    --------
    >>> prior = TimePrior(Rigid.identity(1), 0.3, np.deg2rad(0.3))
    >>> [round(float(surprise(prior, Rigid.exp([[0, 0, 0, 0, 0, np.deg2rad(turn)]]))[0]), 1) for turn in (0.3, 3, 45)]
    [2.4, 16.2, 35.1]
    """
    square = ((prior.deviation(pose) / prior.scales()) ** 2).sum(axis=1)
    return np.asarray((_FREEDOM + 6) / 2 * np.log1p(square / _FREEDOM))


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
    settings: RegistrationSettings,
    backend: Backend,
) -> Verdict:
    """Judge slices `which` by witnesses that do not hold them."""
    trial, prior, ones = slices.take(which), witnesses.prior[which], np.ones(len(which))
    mine = torch.as_tensor(pixel_indices(slices.offset, which), device=inside.device)
    asked = inside[mine]
    expected_there = trial.moved(prior.pose @ ~trial.frame)
    for at in (trial, expected_there):
        asked = asked * witnesses.see(at, settings.recovery, backend)
    given = (asked, gain[which], settings.fine[-1].scale * ones, None, settings.recovery.last_steps)
    # To stay is to stay: what has not jumped is drawn to its expected place however far it has slid.
    tries = ((trial, prior), (expected_there, replace(prior, jump=np.inf)))
    found, expected = (
        align(witnesses.field, at, trial.pixels, *given, prior=drawn, backend=backend) for at, drawn in tries
    )
    shown = predict(witnesses.field, trial.moved(found.motion), found.gain, backend)
    alike = pixels_as_one(trial, shown - backend.tensor(trial.pixels), asked)
    count = sum_over_slices(asked, trial)
    better = np.log((expected.misfit**2 + LEAST_NOISE**2) / (found.misfit**2 + LEAST_NOISE**2))
    undecided = count / (2 * alike) * better <= surprise(prior, trial.pose)
    way, rest = (displacement(at, trial.pose) for at in (prior.pose, expected.motion @ trial.frame))
    back = undecided & (rest > way / 2)
    return Verdict(which, back, expected.motion, better > 0)
