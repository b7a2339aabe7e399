"""Slices that have not found their place are searched for again, from many starts.

A slice is suspect when its correlation with the prediction falls out of what the others reach, or its residual is out
of proportion, or it strays from where the slices acquired just before and after it are. Its starts are where it is,
where it is expected, where its neighbours in time and in space are, and random poses about the expected one.
All starts of all suspects take two steps at once on a coarse field, the best of each slice's take two more, the best of
those go on to the end, and the best of them by misfit and prior stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RecoverySettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import MAD_TO_SIGMA
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.motion.align import Alignment, align
from slicesplat.motion.time_prior import TimePrior
from slicesplat.splat import CPU, Backend

_DEFAULT = RecoverySettings()


@dataclass(frozen=True, eq=False)
class Search:
    """What slices are searched with.

    Attributes
    ----------
    field : GaussianField
        A coarse one: smooth, with a wide basin.
    slices : Slices
        Where they are now.
    weights : (P,)
        Pixels that take part.
    prior : TimePrior
    scale : float
        Residual beyond which a pixel loses influence.
    backend : Backend
    """

    field: GaussianField
    slices: Slices
    weights: Tensor
    prior: TimePrior
    scale: float
    backend: Backend = CPU

    def from_poses(self, which: NDArray[np.int64], pose: Rigid, gain: Float, steps: int) -> Alignment:
        """Align slices `which`, each as often as it is named, from the poses given."""
        trial = self.slices.take(which)
        trial = trial.moved(pose @ ~trial.frame)
        pixels = torch.as_tensor(pixel_indices(self.slices.offset, which), device=self.weights.device)
        start = (self.field, trial, trial.pixels, self.weights[pixels], gain, np.full(len(which), self.scale))
        return align(*start, iterations=steps, prior=self.prior[which], backend=self.backend)


def correlates_little(ncc: Float, settings: RecoverySettings = _DEFAULT) -> NDArray[np.bool_]:
    """Slices (S,) whose correlation with the prediction falls out of what the others reach."""
    median = np.median(ncc)
    deviation = MAD_TO_SIGMA * np.median(np.abs(ncc - median)) + 1e-3
    return np.asarray(ncc < median - settings.outlier * deviation)


def suspects(
    state: Alignment, slices: Slices, prior: TimePrior, settings: RecoverySettings = _DEFAULT
) -> NDArray[np.int64]:
    """Slices that may not have found their place; `slices` are where `state` says."""
    odd = correlates_little(state.ncc, settings) | (state.misfit > settings.misfit * np.median(state.misfit))
    return np.flatnonzero(odd | (prior.stray(slices.pose) > settings.stray))


def recover(
    search: Search, state: Alignment, random: np.random.Generator | None, settings: RecoverySettings = _DEFAULT
) -> tuple[Alignment, int]:
    """Search suspects again; the alignment with better poses where there are any, and how many were replaced.

    Parameters
    ----------
    search : Search
    state : Alignment
        The present one.
    random : numpy Generator or None
        For random starts; without it only poses that are known from other slices are tried.
    settings : RecoverySettings
    """
    lost = suspects(state, search.slices, search.prior, settings)
    if len(lost) == 0:
        return state, 0
    found, which = from_many_starts(search, lost, state.gain, random, settings)
    return _replaced(state, found, which, lost, settings.improvement)


def from_many_starts(
    search: Search,
    lost: NDArray[np.int64],
    gain: Float,
    random: np.random.Generator | None,
    settings: RecoverySettings = _DEFAULT,
) -> tuple[Alignment, NDArray[np.int64]]:
    """Where slices come to from the best of many starts, where they are being the first of each.

    Parameters
    ----------
    search : Search
    lost : (n,)
        The slices.
    gain : (S,)
        Of all slices.
    random, settings
        As `recover`.

    Returns
    -------
    found : Alignment
    which : int array
        The slice that each of its entries is of.
    """
    # The same steps for every slice: a slice's starts must not depend on which others are lost.
    steps = _random_steps(random, settings) if random else np.empty((0, 6))
    starts = [_starts(search.slices, s, search.prior, steps) for s in lost.tolist()]
    which = np.repeat(lost, [len(start) for start in starts])
    poses = Rigid(np.concatenate([start.matrix for start in starts]))
    for kept in settings.kept_starts:
        looked = search.from_poses(which, poses, gain[which], settings.first_steps)
        # The present pose, the first of each slice's starts, stays in the race to be compared on equal terms.
        chosen = np.concatenate([_best(looked, np.flatnonzero(which == s), kept) for s in lost])
        which = which[chosen]
        poses = looked.motion[chosen] @ search.slices.frame[which]
    return search.from_poses(which, poses, gain[which], settings.last_steps), which


def _replaced(
    state: Alignment, found: Alignment, which: NDArray[np.int64], lost: NDArray[np.int64], improvement: float
) -> tuple[Alignment, int]:
    """The state with the best of what was found for each lost slice, and how many of them are at another place."""
    # misfit^2 carries the prior's share too: `align` reports the cost that it has minimised.
    taken, moved = np.full(len(state.gain), -1), 0
    for s in lost:
        mine = np.flatnonzero(which == s)
        present, best = mine[0], mine[np.argmin(found.misfit[mine])]
        better = found.misfit[best] < improvement * found.misfit[present]
        moved += int(best != present and better)
        taken[s] = best if better else present
    again = Alignment(found.motion[taken], found.gain[taken], found.misfit[taken], found.ncc[taken])
    return again.where(taken >= 0, state), moved


def _best(looked: Alignment, mine: NDArray[np.int64], kept: int) -> NDArray[np.int64]:
    """The first of some starts, and the best of the others."""
    others = mine[1:]
    return np.concatenate([mine[:1], others[np.argsort(looked.misfit[others], kind="stable")[:kept]]])


def _random_steps(random: np.random.Generator, settings: RecoverySettings) -> Float:
    """(n, 6) steps in random directions, up to the largest shift and turn."""
    count = settings.random_starts
    direction = random.standard_normal((count, 2, 3))
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    length = random.random((count, 2, 1)) * np.array([[settings.max_shift], [np.deg2rad(settings.max_turn)]])
    return np.asarray((direction * length).reshape(count, 6))


def _starts(slices: Slices, s: int, prior: TimePrior, steps: Float) -> Rigid:
    """Poses (n) to try for slice s, the present one first."""
    order = slices.in_time(int(slices.stack[s]))
    place = int(np.flatnonzero(order == s)[0])
    in_time = [order[p] for p in (place - 2, place - 1, place + 1, place + 2) if 0 <= p < len(order)]
    same = np.flatnonzero(slices.stack == slices.stack[s])
    in_space = [n for n in same if abs(slices.index[n] - slices.index[s]) == 1]
    neighbours = slices.motion[np.array([*in_time, *in_space], np.int64)] @ slices.frame[s]
    about = prior.pose[s] @ Rigid.exp(steps)
    known = [slices.pose[s].matrix[None], prior.pose[s].matrix[None], neighbours.matrix, about.matrix]
    return Rigid(np.concatenate(known))
