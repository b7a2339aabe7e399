"""From scanner positions to one motion per slice, coarse to fine, on the field itself.

On each level the field is a lattice of Gaussians, solved for by conjugate gradients, and groups of slices are moved
onto it by Levenberg-Marquardt (`motion.align`): whole stacks, then shorter and shorter runs of slices that were
acquired one after the other, then single slices. Coarse levels see the brain cut out of its surroundings, zero outside
the mask, in pixels averaged over blocks: its outline is what guides them, and large Gaussians make a cost with a wide
basin.

Not every mask is an outline (`prepare.outline`). Of one drawn through tissue the coarse levels see what is
inside, and no edge. A mask that was carried over from another stack stays where the scanner put it while the brain
moves, and holds surroundings that do not move with the brain. With masks about where the region is
(`prepare.refine_masks`), `register_roughly` goes by what is inside them alone, well enough to say where slices cut
the region; from there `register` goes on. docs/method.md, Motion.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import Level, RegistrationSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.geometry.rigid import Float, Rigid, displacement
from slicesplat.geometry.slices import Slices
from slicesplat.motion.acceptance import least_ncc, out_of_place, slice_weights
from slicesplat.motion.align import ROBUST_SIGMAS, Alignment, align, pose_covariance
from slicesplat.motion.astray import at_expected
from slicesplat.motion.gauge import gauge
from slicesplat.motion.overlap import register_overlaps
from slicesplat.motion.posterior import rms_displacement, shown_by_others
from slicesplat.motion.recover import Search, recover
from slicesplat.motion.relocate import StackSearch, agree_better, relocate, strangers
from slicesplat.motion.runs import runs_in_time
from slicesplat.motion.stacks import register_stacks
from slicesplat.motion.time_prior import time_prior
from slicesplat.progress import ReportProgress
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend, ForwardModel

log = logging.getLogger("slicesplat")
_DEFAULT = RegistrationSettings()


@dataclass(frozen=True, eq=False)
class Poses:
    """Where the slices are.

    Attributes
    ----------
    motion : Rigid (S)
    gain, weight, ncc : (S,)
        Intensity over the field's, trust between 0 and 1, correlation with the prediction.
    searches : tuple of StackSearch
        Stacks that did not agree with the others and were searched over all rotations.
    """

    motion: Rigid
    gain: Float
    weight: Float
    ncc: Float
    searches: tuple[StackSearch, ...] = ()


def register(
    wide: Slices,
    slices: Slices,
    reference: int,
    dropout: NDArray[np.bool_],
    random: np.random.Generator,
    report_progress: ReportProgress = lambda done, total, loss: None,
    backend: Backend = CPU,
    start: Rigid | None = None,
    settings: RegistrationSettings = _DEFAULT,
    outline: NDArray[np.bool_] | None = None,
) -> Poses:
    """Find every slice.

    Parameters
    ----------
    wide : Slices
        Cut with a margin of several pixels, so that the outline of the mask shows; intensities near 1.
    slices : Slices
        The same slices without the margin.
    reference : int
        The stack with the least motion: the others are brought to it first, and its scanner space is kept.
    dropout : (S,) bool
        Slices that lost their signal: they take no part, and move as their neighbours in time suggest.
    random : numpy Generator
        For the starts of slices that are searched again.
    report_progress : callable
        Told how many levels are done, of how many, and the misfit.
    backend : Backend
        Where to compute.
    start : Rigid (S), optional
        Where the slices are about: stacks and long runs are not registered then.
    settings : RegistrationSettings
    outline : bool, by stack number, optional
        Whether the edge of the mask is an outline of what is shown; of all of them when not given.
    """
    coarse = wide.binned(settings.binning)
    seen = broadcast_to_pixels(~dropout, coarse, backend.device)
    if outline is not None and not outline.all():
        whole = _inside(wide, settings).mask
        seen = seen * backend.tensor(whole | outline[coarse.stack[coarse.slice_of_pixel()]])
    levels = settings.coarse if start is None else settings.coarse[settings.from_start :]
    progress = _Levels(report_progress, 1 + len(levels) + len(settings.fine))
    progress.report(0)
    outlines = _Descent(coarse, seen, settings, backend)
    motion = _stacks_in_place(wide, coarse, reference, dropout, settings, backend, outline) if start is None else start
    state = outlines.down(levels, motion, progress)
    state = outlines.search_lost(settings.coarse[-1], state, random)
    state, searches, alone = outlines.search_stacks(state, reference, dropout, random)
    dropout = dropout | alone
    inside = backend.tensor(slices.mask) * broadcast_to_pixels(~dropout, slices, backend.device)
    insides = _Descent(slices, inside, settings, backend)
    for level in settings.fine:
        progress.report(progress.done + 1, state)
        state = insides.level(level, state)
    state = insides.search_lost(settings.fine[0], state)
    progress.report(progress.total, state)
    found = _accepted(slices, state, inside, reference, dropout, settings, backend)
    return replace(found, searches=tuple(searches))


def as_scanned(slices: Slices, dropout: NDArray[np.bool_]) -> Poses:
    """Every slice where the scanner put it, all trusted but those that lost their signal, (S,) bool."""
    trust = np.where(dropout, 0.0, 1.0)
    return Poses(Rigid.identity(len(slices)), np.ones(len(slices)), trust, trust)


def as_stacks(
    wide: Slices,
    reference: int,
    dropout: NDArray[np.bool_],
    start: Rigid | None = None,
    backend: Backend = CPU,
    settings: RegistrationSettings = _DEFAULT,
    outline: NDArray[np.bool_] | None = None,
) -> Poses:
    """Every stack as one brought onto the reference stack, all slices trusted but those that lost their signal.

    Where the stacks are, `start` (S), is found by their outlines when it is not given, or by what is inside masks that
    are no outlines.
    """
    if start is None:
        coarse = wide.binned(settings.binning)
        start = _stacks_in_place(wide, coarse, reference, dropout, settings, backend, outline)
    return replace(as_scanned(wide, dropout), motion=start)


def register_roughly(
    slices: Slices,
    reference: int,
    dropout: NDArray[np.bool_],
    start: Rigid,
    report_progress: ReportProgress = lambda done, total, loss: None,
    backend: Backend = CPU,
    settings: RegistrationSettings = _DEFAULT,
) -> tuple[Rigid, Float]:
    """Find where the slices are about, by what is inside masks that are no outlines.

    Parameters
    ----------
    slices, reference, dropout, report_progress, backend, settings
        As `register`; slices without a margin.
    start : Rigid (S)
        Where the stacks are.

    Returns
    -------
    motion : Rigid (S)
    weight : (S,)
        Trust in the slices.
    """
    coarse = slices.binned(settings.binning)
    inside = backend.tensor(coarse.mask) * broadcast_to_pixels(~dropout, coarse, backend.device)
    levels = settings.coarse[1:]
    progress = _Levels(report_progress, 1 + len(levels))
    progress.report(0)
    state = _Descent(coarse, inside, settings, backend).down(levels, start, progress)
    progress.report(progress.total, state)
    trust = np.where(dropout, 0.0, slice_weights(state.misfit))
    return gauge(slices.moved(state.motion), reference, trust) @ state.motion, trust


def _stacks_in_place(
    wide: Slices,
    coarse: Slices,
    reference: int,
    dropout: NDArray[np.bool_],
    settings: RegistrationSettings,
    backend: Backend,
    outline: NDArray[np.bool_] | None,
) -> Rigid:
    """Motions (S) with every stack brought onto the reference stack as a whole."""
    if outline is None or outline.all():
        return register_stacks(coarse, reference, settings, backend)
    return register_overlaps(_inside(wide, settings), reference, dropout, settings, backend)


def _inside(wide: Slices, settings: RegistrationSettings) -> Slices:
    """Averaged pixels, with masks that hold those alone into which nothing is averaged that is outside."""
    return wide.binned(settings.binning, least=1.0)


def pose_errors(
    slices: Slices,
    poses: Poses,
    held: NDArray[np.bool_],
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Float:
    """Standard errors (S,) mm of registered poses: root mean square over the pixels of a slice.

    Parameters
    ----------
    slices : Slices
        Where they were found.
    poses : Poses
    held : (S,) bool
        Slices that are where their neighbours are.
    settings : RegistrationSettings
    backend : Backend
    """
    level, trust = settings.fine[-1], np.where(held, 0.0, poses.weight)
    descent = _Descent(slices, backend.tensor(slices.mask), settings, backend)
    field, forward_model = descent.field(slices, trust, poses.gain, level.spacing)
    weights = descent.inside * broadcast_to_pixels(trust > 0, slices, backend.device)
    scale = np.full(len(slices), level.scale)
    sigma = scale / ROBUST_SIGMAS / np.sqrt(shown_by_others(slices, trust, backend))
    given = (field, slices, backend.tensor(slices.pixels), weights, poses.gain, scale, sigma)
    prior = time_prior(slices, trust, settings.time, by_distance=True)
    return rms_displacement(pose_covariance(*given, forward_model, prior), slices)


def _accepted(
    slices: Slices,
    state: Alignment,
    inside: Tensor,
    reference: int,
    dropout: NDArray[np.bool_],
    settings: RegistrationSettings,
    backend: Backend,
) -> Poses:
    """What was found, in the reference stack's scanner space; what does not fit is left out, at its expected place."""
    here, least = slices.moved(state.motion), least_ncc(slices, settings, backend)
    lost = dropout | out_of_place(here, state, least, settings)
    if (tried := np.flatnonzero(lost & ~dropout)).size and not lost.all():
        # A slice of few pixels is lost by having been found elsewhere: it may fit where its neighbours are.
        trust = np.where(lost, 0.0, slice_weights(state.misfit))
        home = at_expected(here, inside, trust, state.gain, tried, settings, backend)
        fits = (home.ncc >= least[tried]) & (home.misfit < settings.recovery.misfit * np.median(state.misfit))
        state, lost[tried[fits]] = state.with_some(tried[fits], home[fits]), False
        here = slices.moved(state.motion)
    trust = np.where(lost, 0.0, slice_weights(state.misfit))
    expected = time_prior(here, trust, settings.time).pose @ ~slices.frame
    motion = expected.where(lost, state.motion)
    motion = gauge(slices.moved(motion), reference, trust) @ motion
    return Poses(motion, state.gain, trust, state.ncc)


class _Levels:
    """How many levels are done."""

    def __init__(self, report_progress: ReportProgress, total: int) -> None:
        self._report, self.total, self.done = report_progress, total, 0

    def report(self, done: int, state: Alignment | None = None) -> None:
        """So many are done, and this is where the slices are."""
        self.done = done
        self._report(done, self.total, None if state is None else float(np.median(state.misfit)))


@dataclass(frozen=True, eq=False)
class _Descent:
    """The levels on one set of slices.

    Attributes
    ----------
    slices : Slices
        Where they were in the beginning does not matter.
    inside : (P,)
        Weights of the pixels that take part.
    settings : RegistrationSettings
    backend : Backend
    """

    slices: Slices
    inside: Tensor
    settings: RegistrationSettings
    backend: Backend

    def down(self, levels: Sequence[Level], motion: Rigid, progress: _Levels) -> Alignment:
        """Run levels from some motions on."""
        ones = np.ones(len(self.slices))
        state = Alignment(motion, ones, ones, ones)
        for number, level in enumerate(levels):
            progress.report(progress.done + 1, state if number else None)
            state = self.level(level, state)
        return state

    def level(self, level: Level, state: Alignment) -> Alignment:
        """Fit the field and align the slices to it in turn, until nothing moves."""
        group = runs_in_time(self.slices, level.run)
        scale = np.full(len(self.slices), level.scale)
        for _ in range(level.rounds):
            here = self.slices.moved(state.motion)
            trust = slice_weights(state.misfit)
            field, forward_model = self.field(here, trust, state.gain, level.spacing)
            prior = time_prior(here, trust, self.settings.time) if level.run == 1 else None
            start = (field, here, here.pixels, self.inside, state.gain, scale, group)
            new = align(*start, self.settings.steps, forward_model, prior)
            new = replace(new, gain=new.gain / np.median(new.gain))
            moved = displacement(here.pose, new.motion @ here.frame)
            state = new
            if np.median(moved) < level.still:
                break
        return state

    def search_lost(self, level: Level, state: Alignment, random: np.random.Generator | None = None) -> Alignment:
        """Search the slices that have not found their place, on a field of the others."""
        here = self.slices.moved(state.motion)
        trust = slice_weights(state.misfit)
        field, _ = self.field(here, trust, state.gain, level.spacing)
        prior = time_prior(here, trust, self.settings.time)
        search = Search(field, here, self.inside, prior, level.scale, self.backend)
        state, replaced = recover(search, state, random, self.settings.recovery)
        log.debug("slices found again at another place: %d", replaced)
        return state

    def search_stacks(
        self, state: Alignment, reference: int, dropout: NDArray[np.bool_], random: np.random.Generator
    ) -> tuple[Alignment, list[StackSearch], NDArray[np.bool_]]:
        """Search the stacks that do not agree with the others; where one moves, single slices settle again.

        Where all agree no better then, everything stays where it was. Also the slices (S,) of stacks that agree
        nowhere, which take no part from then on.
        """
        trust = np.where(dropout, 0.0, 1.0)
        motion, searches = relocate(self.slices.moved(state.motion), trust, reference, self.settings, self.backend)
        alone = strangers(self.slices, searches, self.settings, self.backend)
        if np.array_equal(motion.matrix, state.motion.matrix) and not alone.any():
            return state, searches, alone
        levels = self.settings.coarse[self.settings.from_start :]
        others = replace(self, inside=self.inside * broadcast_to_pixels(~alone, self.slices, self.backend.device))
        found = others.down(levels, motion, _Levels(lambda done, total, loss: None, len(levels)))
        found = others.search_lost(levels[-1], found, random)
        given = (np.where(alone, 0.0, trust), searches, self.settings, self.backend)
        if not agree_better(self.slices, state.motion, found.motion, *given):
            return state, [replace(search, moved=False) for search in searches], alone
        return found, searches, alone

    def field(self, here: Slices, trust: Float, gain: Float, spacing: float) -> tuple[GaussianField, ForwardModel]:
        """The field of the slices where they are, by their trust, and the forward model that has it in place."""
        pixels = self.backend.tensor(here.pixels)
        weights = self.inside * broadcast_to_pixels(trust, here, self.backend.device)
        settings = self.settings
        return fit_lattice(here, pixels, weights, gain, spacing, settings.iterations, settings.ridge, self.backend)
