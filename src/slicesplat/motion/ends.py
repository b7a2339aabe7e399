"""Slices of few pixels, at the ends of stacks, are searched for again on a field that was not fitted to any of them.

A field follows such a slice wherever it was found, and its neighbours at the end of the stack, lost like it, expect it
there. So the larger slices alone say what is to be seen, each small one begins from many starts, and another place is
taken where it fits better and Bayes' rule says that it is the likelier one:

    n / (2 c) log(C_present / C) + surprise_present - surprise > log Bayes factor

with the misfits, the pixels and the surprise of a step as in `slicesplat.motion.astray`. docs/method.md, Motion.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RecoverySettings, RegistrationSettings
from slicesplat.geometry.pixels import sum_over_slices
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.likelihood.robust import LEAST_NOISE
from slicesplat.motion.align import NEIGHBOURING_PIXELS, Alignment
from slicesplat.motion.astray import Witnesses, astray, surprise, witnesses_of
from slicesplat.motion.recover import Search, from_many_starts
from slicesplat.motion.time_prior import time_prior
from slicesplat.splat import CPU, Backend

log = logging.getLogger("slicesplat")
_DEFAULT = RegistrationSettings()


def search_ends(
    slices: Slices,
    inside: Tensor,
    trust: Float,
    gain: Float,
    random: np.random.Generator,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> tuple[Rigid, NDArray[np.bool_]]:
    """Put slices of few pixels where the others would have them.

    Parameters
    ----------
    slices : Slices
        Where they were found.
    inside : (P,)
        Weights of the pixels that take part.
    trust, gain : (S,)
    random : numpy Generator
        For the starts.
    settings : RegistrationSettings
    backend : Backend

    Returns
    -------
    motion : Rigid (S)
    moved : (S,) bool
        Those that are at another place now.
    """
    count, moved = sum_over_slices(inside, slices), np.zeros(len(slices), bool)
    few = show_little(slices, inside, trust, settings.recovery) & (trust > 0) & (count > 0)
    stray = astray(slices, time_prior(slices, trust, settings.time), settings.recovery)
    stacks = np.unique(slices.stack[(trust > 0) & ~few & ~stray])
    crossed = len(stacks) - np.isin(slices.stack, stacks) >= settings.recovery.crossing
    # Where few stacks cross, the small slices are needed to know what is to be seen.
    asked = np.flatnonzero(few & (crossed | stray))
    if not len(asked):
        return slices.motion, moved
    others = np.where((few & crossed) | stray, 0.0, trust)
    prior = time_prior(slices, others, settings.time, by_distance=True)
    witnesses = witnesses_of(slices, inside, others, gain, prior, settings, backend)
    asked = asked[_seen(witnesses, slices, inside, asked, settings.recovery, backend) >= settings.recovery.seen_pixels]
    if not len(asked):
        return slices.motion, moved
    search = Search(witnesses.field, slices, inside, prior, settings.fine[-1].scale, backend)
    found, which = from_many_starts(search, asked, gain, random, settings.recovery)
    chosen = _likelier(search, found, which, count, settings.recovery.evidence)
    log.debug("slices of few pixels: %d, of which at another place: %d", len(asked), len(chosen))
    matrix = slices.motion.matrix.copy()
    matrix[which[chosen]], moved[which[chosen]] = found.motion.matrix[chosen], True
    return Rigid(matrix), moved


def show_little(
    slices: Slices, inside: Tensor, trust: Float, settings: RecoverySettings = _DEFAULT.recovery
) -> NDArray[np.bool_]:
    """Slices (S,) of few pixels inside (P,), against the median of those with trust (S,): chance makes them fit."""
    count = sum_over_slices(inside, slices)
    typical = np.median(count[trust > 0]) if (trust > 0).any() else 0.0
    return np.asarray(count < settings.few_pixels * typical)


def _seen(
    witnesses: Witnesses,
    slices: Slices,
    inside: Tensor,
    which: NDArray[np.int64],
    settings: RecoverySettings,
    backend: Backend,
) -> Float:
    """Share (n,) of the pixels of slices `which` (n,) that the others see."""
    part, mine = slices.take(which), torch.as_tensor(pixel_indices(slices.offset, which), device=inside.device)
    weights = inside[mine]
    known = weights * witnesses.see(part, settings, backend)
    return sum_over_slices(known, part) / sum_over_slices(weights, part)


def _likelier(
    search: Search, found: Alignment, which: NDArray[np.int64], count: Float, evidence: float
) -> NDArray[np.int64]:
    """The entries of `found` that slices go to, one of each slice that goes anywhere."""
    misfit = count[which] / (2 * NEIGHBOURING_PIXELS) * np.log(found.misfit**2 + LEAST_NOISE**2)
    improbable = misfit + surprise(search.prior[which], found.motion @ search.slices.frame[which])
    chosen = []
    for s in np.unique(which):
        present, *others = np.flatnonzero(which == s)
        fitting = [other for other in others if misfit[other] < misfit[present]]
        best = min(fitting, key=improbable.__getitem__, default=present)
        if improbable[present] - improbable[best] > evidence:
            chosen.append(best)
    return np.array(chosen, np.int64)
