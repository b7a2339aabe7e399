"""The joint fit of field, motion, gains and weights.

First, field and poses take turns: amplitudes, gains and weights at their optimum, then Gauss-Newton steps of the poses.
Then the field's candidates are tried, and the validation pixels choose among them. Last, with all pixels, field and
poses take turns once more: against a finer field poses are more accurate. docs/method.md, Objective.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import FitSettings, RegistrationSettings, TimePriorSettings
from slicesplat.errors import InputError
from slicesplat.estimate.alternate import alternate, descend_jointly, sweep
from slicesplat.estimate.lattice import LatticeStrategy
from slicesplat.estimate.observations import Estimate, Observations, observe
from slicesplat.estimate.select import select
from slicesplat.estimate.strategy import Candidate, FieldStrategy
from slicesplat.estimate.uneven import with_bias_fields
from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import prune
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.noise import Noise
from slicesplat.likelihood.robust import Weights
from slicesplat.motion.acceptance import least_ncc
from slicesplat.motion.astray import Verdict, judge_stray
from slicesplat.motion.ends import search_ends, show_little
from slicesplat.motion.strain import least_shown_strain
from slicesplat.motion.time_prior import gone_and_back
from slicesplat.priors import prior_named
from slicesplat.progress import ReportProgress
from slicesplat.records import SweepRecord
from slicesplat.splat import CPU, Backend

log = logging.getLogger("slicesplat")


def _primitives(settings: FitSettings, time: TimePriorSettings) -> FieldStrategy:
    from slicesplat.estimate.primitives import PrimitivesStrategy  # what it imports nobody else needs

    return PrimitivesStrategy(settings, time)


STRATEGIES: dict[str, Callable[[FitSettings, TimePriorSettings], FieldStrategy]] = {
    "lattice": LatticeStrategy,
    "primitives": _primitives,
}
"""By the name that `FitSettings.strategy` gives."""
Watch = Callable[[GaussianField, SweepRecord], None]
"""Shown the field as it is after a sweep, the brightest tissue at 1, in the frame of the registration."""
_REGISTRATION = RegistrationSettings()
_LEAST_BELIEF = 0.7  # squared: a slice that its pixels place is used, wherever that is


@dataclass(frozen=True, eq=False)
class Fit:
    """What the joint fit found.

    Attributes
    ----------
    field : GaussianField
    motion : Rigid (S)
    weights : Weights
    ncc : (S,)
        Correlation of each slice with its prediction when its pose was last refined.
    validation_error : float
        Root-mean-square error of the pixels that were left out while the field was chosen, noise included.
    standard_error : (S,)
        Of the poses, mm; NaN where they were taken as they were.
    held : (S,) bool
        Slices that went where their neighbours in time went: what they show does not say where they are.
    noise : Noise
        In the pixels; where most of them were interpolated, the PSF is that of the ones that were measured.
    sweeps : tuple of SweepRecord
        The error after every sweep, in the order in which they were done.
    image : (P,) float32 or None
        What the field predicts for the slices there at gain 1, where it is known.
    """

    field: GaussianField
    motion: Rigid
    weights: Weights
    ncc: Float
    validation_error: float
    standard_error: Float
    held: NDArray[np.bool_]
    noise: Noise
    sweeps: tuple[SweepRecord, ...] = ()
    image: Tensor | None = None


def check_names(settings: FitSettings) -> None:
    """Know ahead of any work that there are a strategy and a prior of the names given.

    Raises
    ------
    InputError
        There is none.
    """
    if settings.strategy not in STRATEGIES:
        raise InputError(f"field strategy {settings.strategy!r}: choose one of {', '.join(sorted(STRATEGIES))}")
    prior_named(settings.prior)


def joint_fit(
    slices: Slices,
    inside: NDArray[np.bool_],
    settings: FitSettings,
    random: np.random.Generator,
    report_progress: ReportProgress = lambda done, total, loss: None,
    backend: Backend = CPU,
    registration: RegistrationSettings = _REGISTRATION,
    watch: Watch | None = None,
) -> Fit:
    """Fit field, motion, gains and weights to the slices.

    Parameters
    ----------
    slices : Slices
        At their registered poses, intensities near 1.
    inside : (P,) bool
        Pixels that take part; a slice without any is left out.
    settings : FitSettings
    random : numpy Generator
        Chooses the pixels that are left out while the field is chosen.
    report_progress : callable
        Told how many sweeps are done, of how many at most, and the error of the pixels left out; in the end these take
        part in the fit too.
    backend : Backend
        Where to compute, and where the field is to be.
    registration : RegistrationSettings
        For the poses: what is expected, and how slices that stray from it are judged.
    watch : callable, optional
        Shown the field after every sweep; the fit is the same with it and without.

    Raises
    ------
    InputError
        As `check_names`.
    """
    check_names(settings)
    strategy = STRATEGIES[settings.strategy](settings, registration.time)
    observations = observe(slices, inside, settings, random, backend)
    noise = observations.noise
    progress = _Sweeps(report_progress, settings, strategy.last_sweeps, noise.known, watch)
    if noise.step > 1:
        log.info("every %d pixels hold one that was measured: the slices were interpolated", noise.step)
    if not noise.known:
        log.info(
            "the noise of neighbouring pixels is not independent: its level is not known, and the fit goes without"
        )
    best = strategy.initialise(observations, slices.motion)
    progress.begin("field and poses", settings.pose_rounds)
    best = alternate(observations, best, settings.pose_rounds, progress.swept)
    verdict = None
    progress.begin("field with poses", settings.joint_rounds)
    if settings.pose_steps:
        here = observations.slices.moved(best.estimate.motion)
        if least_shown_strain(here, best.estimate.weights.slice) < settings.open_strain:
            best = descend_jointly(observations, best, settings.joint_rounds, progress.swept)
        best, settled = _searched(observations, best, registration, random)
        verdict = _judged(observations, best, registration, settled)
    before = best.estimate.motion
    if verdict is not None:
        moved = best.estimate.moved(verdict.motion(before))
        best = replace(best, estimate=replace(moved, held=verdict.taken_back(len(slices))))
    # Edges that a coarse field cannot draw would pull at the poses.
    observations = observations.with_rim()
    progress.begin("field", settings.rounds)
    first = min(1, settings.rounds)
    best = sweep(observations, best, first, progress.swept)
    best = with_bias_fields(observations, best, settings.likelihood)
    best = sweep(observations, best, settings.rounds - first, progress.swept)
    best = best if verdict is None else _released(observations, best, verdict, before, registration)
    progress.begin("how many Gaussians", progress.of_trials)
    best = select(observations, strategy, best, progress.swept)
    progress.begin("which Gaussians", strategy.last_sweeps)
    best = strategy.finish(observations, best, progress.swept)
    log.debug(
        "Gaussians %.2f mm apart, prior of %.2g times its strength", best.objective.spacing, best.objective.strength
    )
    error = best.estimate.error
    best = replace(best, estimate=best.estimate.trusting(observations.inside & ~observations.fitted))
    observations = observations.all_fitted()
    progress.begin("all pixels", settings.final_rounds)
    best = alternate(observations, best, settings.final_rounds, progress.swept)
    known = np.full(len(slices), np.nan)
    if settings.pose_steps:
        known = best.objective.pose_errors(observations, best.estimate)
        observations = observations.without(_lost(observations, best.estimate, known, registration))
        observations = observations.believing(_belief(observations, best.estimate, registration))
    progress.begin("all pixels", settings.rounds)
    best = sweep(observations, best, settings.rounds, progress.swept, last=settings.last_iterations)
    found = best.estimate
    return Fit(
        *(prune(found.field), found.motion, found.weights, found.ncc, error, known, found.held, noise),
        sweeps=tuple(progress.told),
        image=found.image,
    )


def _searched(
    observations: Observations, best: Candidate, settings: RegistrationSettings, random: np.random.Generator
) -> tuple[Candidate, NDArray[np.bool_]]:
    """The candidate with slices of few pixels where the others would have them, and which slices (S,) that are."""
    slices, weights = observations.slices.moved(best.estimate.motion), best.estimate.weights
    given = (weights.slice, weights.gain, random, settings, observations.backend)
    motion, moved = search_ends(slices, observations.fitted.float(), *given)
    return (replace(best, estimate=best.estimate.moved(motion)) if moved.any() else best), moved


def _judged(
    observations: Observations, best: Candidate, settings: RegistrationSettings, settled: NDArray[np.bool_]
) -> Verdict | None:
    """What becomes of slices that went astray while the field followed them; None where none is taken back."""
    slices, weights = observations.slices.moved(best.estimate.motion), best.estimate.weights
    given = (weights.slice, weights.gain, settings, observations.backend, settled)
    verdict = judge_stray(slices, observations.fitted.float(), *given)
    return verdict if verdict is not None and verdict.back.any() else None


def _released(
    observations: Observations, best: Candidate, verdict: Verdict, found: Rigid, settings: RegistrationSettings
) -> Candidate:
    """Slices that do not fit near their neighbours go back to where they were found, if they fitted better there.

    Those of few pixels do not: they fit somewhere by chance.
    """
    estimate, weight = best.estimate, best.estimate.weights.slice
    favoured = np.isin(np.arange(len(weight)), verdict.which[verdict.favoured])
    given = (observations.fitted.float(), np.ones(len(weight)), settings.recovery)
    wrong = estimate.held & favoured & (weight < settings.time.trusted) & ~show_little(observations.slices, *given)
    if not wrong.any():
        return best
    moved = estimate.moved(found.where(wrong, estimate.motion))
    return replace(best, estimate=replace(moved, held=estimate.held & ~wrong))


def _lost(
    observations: Observations, estimate: Estimate, known: Float, settings: RegistrationSettings
) -> NDArray[np.bool_]:
    """Slices (S,) that do not show what the field shows, or whose poses are known too badly, to so many mm (S,)."""
    weight, stack = estimate.weights.slice, observations.slices.stack
    little = estimate.ncc < settings.least_ncc
    if little.any():  # the noise of single slices takes a while
        little &= estimate.ncc < least_ncc(observations.slices, settings, observations.backend)
    # A stack with more noise than the others counts for less as a whole, and is not lost by that.
    most = np.zeros(int(stack.max()) + 1)
    np.maximum.at(most, stack, weight)
    lost = (little | (known > settings.known_to) | (weight < settings.least_weight * most[stack])) & (weight > 0)
    log.debug("slices that are nowhere in the end: %d", int(lost.sum()))
    return np.asarray(lost)


def _belief(observations: Observations, estimate: Estimate, settings: RegistrationSettings) -> Float:
    """What slices (S,) count for at which the subject went away and came back: the less the further it was.

    Their pixels say that they are there, or they would have been taken back. But whoever moves so far and back between
    three slices moves within them too.
    """
    slices, trust = observations.slices.moved(estimate.motion), estimate.weights.slice * ~estimate.held
    stray = gone_and_back(slices, trust, settings.time)
    belief = np.clip(settings.recovery.stray / np.maximum(stray, 1e-12), _LEAST_BELIEF, 1.0) ** 2
    belief[estimate.held] = 1.0
    log.debug("slices at which the subject went away and came back: %d", int((belief < 1).sum()))
    return np.asarray(belief)


class _Sweeps:
    """Counts the sweeps, part by part, for the progress, and keeps what each has come to."""

    def __init__(
        self,
        report_progress: ReportProgress,
        settings: FitSettings,
        last_sweeps: int,
        noise_known: bool,
        watch: Watch | None,
    ) -> None:
        self._report, self._done, self._end = report_progress, 0, 0
        self._part, self._watch = "", watch
        self.told: list[SweepRecord] = []
        finer = len(settings.spacings) - 1
        stronger = len(settings.strengths) + len(settings.factors(noise_known))
        self.of_trials = finer * settings.rounds + stronger * (settings.rounds // 2)
        others = settings.pose_rounds + settings.joint_rounds + settings.final_rounds + 2 * settings.rounds
        self._total = others + self.of_trials + last_sweeps

    def begin(self, part: str, most: int) -> None:
        """A part begins, of so many sweeps at most; those that the part before did without count as done."""
        self._part = part
        self._done, self._end = self._end, self._end + most

    def swept(self, estimate: Estimate) -> None:
        """One more is done, with this outcome."""
        self._done += 1
        self.told.append(SweepRecord(self._part, estimate.error))
        self._report(self._done, self._total, estimate.error)
        if self._watch is not None:
            self._watch(estimate.field, self.told[-1])
