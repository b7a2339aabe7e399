"""Slices that have not found their place are searched for again, from many starts.

A slice is suspect when its correlation with the prediction falls out of what the others reach, or its residual is out
of proportion, or it strays from where the slices acquired just before and after it are. Its starts are where it is,
where it is expected, where its neighbours in time and in space are, and random poses about the expected one.
All starts of all suspects take four steps at once on a coarse field, the best of each slice's go on, and the best of
them by misfit and prior stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import MAD_TO_SIGMA
from slicesplat.geometry.rigid import Float, step_slices
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.motion.align import Alignment, align
from slicesplat.motion.time_prior import TimePrior, acquisition_order
from slicesplat.splat import CPU, Backend

MAX_TURN = np.deg2rad(45.0)
MAX_SHIFT = 15.0  # mm
RANDOM_STARTS = 48
KEPT_STARTS = 6
_OUTLIER = 4.0  # robust standard deviations
_MISFIT = 1.5  # times the median
STRAY = 3.0  # units of the time prior


def correlates_little(ncc: Float) -> NDArray[np.bool_]:
    """Slices (S,) whose correlation with the prediction falls out of what the others reach."""
    median = np.median(ncc)
    spread = MAD_TO_SIGMA * np.median(np.abs(ncc - median)) + 1e-3
    return ncc < median - _OUTLIER * spread


def suspects(state: Alignment, prior: TimePrior) -> NDArray[np.int64]:
    """Slices that may not have found their place."""
    odd = correlates_little(state.ncc) | (state.misfit > _MISFIT * np.median(state.misfit))
    return np.flatnonzero(odd | (prior.stray(state.pose) > STRAY))


def recover(
    field: GaussianField,
    slices: Slices,
    weights: Tensor,
    state: Alignment,
    prior: TimePrior,
    interleave: Sequence[int],
    scale: float,
    random: np.random.Generator | None,
    backend: Backend = CPU,
) -> tuple[Alignment, int]:
    """Search suspects again; the alignment with better poses where there are any, and how many were replaced.

    Parameters
    ----------
    field : GaussianField
        A coarse one: smooth, with a wide basin.
    slices : Slices
    weights : (P,)
        Pixels that take part.
    state : Alignment
        The present one.
    prior : TimePrior
    interleave : sequence of int
        Packages of each stack.
    scale : float
        Residual beyond which a pixel loses influence.
    random : numpy Generator or None
        For random starts; without it only poses that are known from other slices are tried.
    backend : Backend
    """
    lost = suspects(state, prior)
    if len(lost) == 0:
        return state, 0
    here = slices.with_poses(state.pose)
    # The same steps for every slice: a slice's starts must not depend on which others are lost.
    steps = _random_steps(random) if random else np.empty((0, 6))
    starts = [_starts(here, s, prior, interleave, steps) for s in lost]
    which = np.repeat(lost, [len(start) for start in starts])
    given = (field, slices, weights, state, prior, scale)
    looked = _align_starts(*given, which, np.concatenate(starts), iterations=4, backend=backend)
    # The present pose, the first of each slice's starts, stays in the race to be compared on equal terms.
    near = [_best(looked, np.flatnonzero(which == s)) for s in lost]
    chosen = np.concatenate(near)
    found = _align_starts(*given, which[chosen], looked.pose[chosen], iterations=5, backend=backend)
    which = which[chosen]
    # misfit^2 carries the prior's share too: `align` reports the cost that it has minimised.
    new = Alignment(state.pose.copy(), state.gain.copy(), state.misfit.copy(), state.ncc.copy())
    replaced = 0
    for s in lost:
        mine = np.flatnonzero(which == s)
        present, best = mine[0], mine[np.argmin(found.misfit[mine])]
        replaced += best != present and found.misfit[best] < 0.98 * found.misfit[present]
        chosen = best if found.misfit[best] < 0.98 * found.misfit[present] else present
        new.pose[s], new.gain[s] = found.pose[chosen], found.gain[chosen]
        new.misfit[s], new.ncc[s] = found.misfit[chosen], found.ncc[chosen]
    return new, int(replaced)


def _align_starts(
    field: GaussianField, slices: Slices, weights: Tensor, state: Alignment, prior: TimePrior,
    scale: float, which: NDArray[np.int64], pose: Float, iterations: int, backend: Backend,
) -> Alignment:  # fmt: skip
    """Align slices `which`, each as often as it is named, from the poses given."""
    trial = slices.take(which).with_poses(pose)
    pixels = torch.as_tensor(pixel_indices(slices.offset, which), device=weights.device)
    own_prior = TimePrior(prior.pose[which], prior.translation, prior.rotation)
    start = (field, trial, trial.pixels, weights[pixels], state.gain[which], np.full(len(which), scale))
    return align(*start, iterations=iterations, prior=own_prior, backend=backend)


def _best(looked: Alignment, mine: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of some starts, and the best of the others."""
    others = mine[1:]
    return np.concatenate([mine[:1], others[np.argsort(looked.misfit[others], kind="stable")[:KEPT_STARTS]]])


def _random_steps(random: np.random.Generator) -> Float:
    """(n, 6) steps in random directions, up to the largest shift and turn."""
    direction = random.standard_normal((RANDOM_STARTS, 2, 3))
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    length = random.random((RANDOM_STARTS, 2, 1)) * np.array([[MAX_SHIFT], [MAX_TURN]])
    return (direction * length).reshape(RANDOM_STARTS, 6)


def _starts(slices: Slices, s: int, prior: TimePrior, interleave: Sequence[int], steps: Float) -> Float:
    """Poses (n, 4, 4) to try for slice s, the present one first."""
    transforms = slices.world_transforms()
    order = acquisition_order(slices, int(slices.stack[s]), interleave[slices.stack[s]])
    place = int(np.flatnonzero(order == s)[0])
    in_time = [order[p] for p in (place - 2, place - 1, place + 1, place + 2) if 0 <= p < len(order)]
    same = np.flatnonzero(slices.stack == slices.stack[s])
    in_space = [n for n in same if abs(slices.index[n] - slices.index[s]) == 1]
    known = [slices.pose[s], prior.pose[s], *(transforms[n] @ slices.nominal[s] for n in (*in_time, *in_space))]
    return np.concatenate([np.array(known), step_slices(np.tile(prior.pose[s], (len(steps), 1, 1)), steps)])
