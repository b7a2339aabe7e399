"""From scanner positions to one pose per slice, coarse to fine, on the field itself.

On each level the field is a lattice of Gaussians, solved for by conjugate gradients (`fit.linear`), and groups of
slices are moved onto it by Levenberg-Marquardt (`motion.align`): whole stacks, then shorter and shorter runs of slices
that were acquired one after the other, then single slices. Coarse levels see the brain cut out of its surroundings,
zero outside the mask, in pixels averaged over blocks: its outline is what guides them, and large Gaussians make a cost
with a wide basin.

A mask that was carried over from another stack is no outline: it stays where the scanner put it while the brain moves,
and holds surroundings that do not move with the brain. `register_by_one_mask` brings the stacks together by the mask
that was drawn. With masks about where the region is then (`motion.tighten`), `register_roughly` goes by what is inside
them alone, well enough to say where every slice cuts the region; from there `register` goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels, sum_over_slices
from slicesplat.geometry.rigid import angles, rigid
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.noise import noise_levels
from slicesplat.motion.align import Alignment, align
from slicesplat.motion.recover import STRAY, correlates_little, recover
from slicesplat.motion.time_prior import time_prior
from slicesplat.solvers.amplitudes import placed_lattice, solve_amplitudes
from slicesplat.splat import CPU, Backend, ForwardModel

Float = NDArray[np.float64]
Tell = Callable[[int, int, float | None], None]

log = logging.getLogger("slicesplat")

BRAIN_RADIUS = 40.0  # mm; turns a rotation into a displacement when deciding whether anything still moves
FAR = 5.0  # mm from where its neighbours in time say that it is
MIN_NCC = 0.45  # below it a slice without noise shows something else than the field
# With noise it cannot correlate as much. So many standard errors of a correlation of independent pixels are no chance.
BEYOND_CHANCE = 4.0
RIDGE = 0.05
CG_ITERATIONS = 8
WHOLE_STACK = -1
FROM_START = 4  # coarse levels that are left out where the slices are known to be about in place


@dataclass(frozen=True)
class Level:
    """One level of the registration.

    Attributes
    ----------
    spacing : float
        Lattice constant of the field, mm.
    run : int
        Slices that move as one, consecutive in time; `WHOLE_STACK` for all of a stack, 1 for each by itself.
    rounds : int
        Fits of the field, each followed by an alignment, at most.
    scale : float
        Residual, as a fraction of the brightest tissue, beyond which a pixel loses influence.
    still : float
        Median movement of a round, mm, below which the level is done.
    """

    spacing: float
    run: int
    rounds: int
    scale: float
    still: float


COARSE = (
    Level(8.0, WHOLE_STACK, 3, 0.5, 0.5),
    Level(8.0, 20, 3, 0.5, 0.5),
    Level(7.0, 7, 4, 0.5, 0.5),
    Level(6.0, 4, 4, 0.5, 0.4),
    Level(5.0, 2, 4, 0.5, 0.3),
    Level(5.0, 1, 6, 0.3, 0.2),
    Level(4.0, 1, 3, 0.3, 0.1),
)
FINE = (Level(3.0, 1, 3, 0.15, 0.05), Level(2.5, 1, 2, 0.15, 0.05))


def runs_in_time(slices: Slices, interleave: Sequence[int], length: int) -> NDArray[np.int64]:
    """Numbers (S,) of the groups: runs of about `length` slices that follow each other in time in their stack.

    Parameters
    ----------
    slices : Slices
    interleave : sequence of int
        Packages of each stack: slice k belongs to package k modulo that number.
    length : int
        `WHOLE_STACK`, or the number of slices in a run.
    """
    if length == WHOLE_STACK:
        return np.unique(slices.stack, return_inverse=True)[1]
    if length == 1:
        return np.arange(len(slices))
    group = np.zeros(len(slices), np.int64)
    number = 0
    for stack in np.unique(slices.stack):
        for package in range(interleave[stack]):
            members = np.flatnonzero((slices.stack == stack) & (slices.index % interleave[stack] == package))
            for part in np.array_split(members, max(1, round(len(members) / length))):
                group[part] = number
                number += len(part) > 0
    return group


def fit_lattice(
    slices: Slices, weights: Tensor, gain: Float, spacing: float, backend: Backend = CPU
) -> tuple[GaussianField, ForwardModel]:
    """The field of a lattice of Gaussians that explains the pixels, and the forward model that has it in place."""
    field, forward_model = placed_lattice(slices, spacing, backend)
    pixels = backend.tensor(slices.pixels)
    field.amplitudes = solve_amplitudes(forward_model, pixels, weights, gain, field.amplitudes, CG_ITERATIONS, RIDGE)
    return field, forward_model


@dataclass(eq=False)
class Registration:
    """Where the slices are.

    Attributes
    ----------
    pose : (S, 4, 4)
    gain, weight, ncc : (S,)
        Intensity over the field's, trust between 0 and 1, correlation with the prediction.
    reference : int
        The stack whose scanner space everything is in.
    """

    pose: Float
    gain: Float
    weight: Float
    ncc: Float
    reference: int


def slice_weights(misfit: Float) -> Float:
    """Trust (S,) in slices from their root-mean-square misfit: falls with its square above the median."""
    return np.minimum(1.0, np.median(misfit) / np.maximum(misfit, 1e-12)) ** 2


def _run_level(
    level: Level, slices: Slices, inside: Tensor, state: Alignment, interleave: Sequence[int], backend: Backend
) -> Alignment:
    """Fit the field and align the slices to it in turn, until nothing moves."""
    group = runs_in_time(slices, interleave, level.run)
    scale = np.full(len(slices), level.scale)
    for _ in range(level.rounds):
        here = slices.with_poses(state.pose)
        trust = slice_weights(state.misfit)
        per_pixel = inside * broadcast_to_pixels(trust, slices, backend.device)
        field, forward_model = fit_lattice(here, per_pixel, state.gain, level.spacing, backend)
        prior = time_prior(here, trust, interleave) if level.run == 1 else None
        start = (field, here, slices.pixels, inside, state.gain, scale, group)
        new = align(*start, iterations=3, forward_model=forward_model, prior=prior)
        new.gain = new.gain / np.median(new.gain)
        moved = movement(state.pose, new.pose)
        state = new
        if np.median(moved) < level.still:
            break
    return state


def _search_lost(
    level: Level,
    slices: Slices,
    inside: Tensor,
    state: Alignment,
    interleave: Sequence[int],
    backend: Backend,
    random: np.random.Generator | None = None,
) -> Alignment:
    """Search the slices that have not found their place, on a field of the others."""
    here = slices.with_poses(state.pose)
    trust = slice_weights(state.misfit)
    per_pixel = inside * broadcast_to_pixels(trust, slices, backend.device)
    field, _ = fit_lattice(here, per_pixel, state.gain, level.spacing, backend)
    prior = time_prior(here, trust, interleave)
    state, replaced = recover(field, slices, inside, state, prior, interleave, level.scale, random, backend)
    log.debug("slices found again at another place: %d", replaced)
    return state


def _run_levels(
    levels: Sequence[Level],
    slices: Slices,
    inside: Tensor,
    pose: Float,
    interleave: Sequence[int],
    tell: Tell,
    total: int,
    backend: Backend,
) -> Alignment:
    """Run levels from some poses on, and tell of `total` how many are done."""
    ones = np.ones(len(slices))
    state = Alignment(pose, ones.copy(), ones.copy(), ones.copy())
    for done, level in enumerate(levels, 1):
        tell(done, total, float(np.median(state.misfit)) if done > 1 else None)
        state = _run_level(level, slices, inside, state, interleave, backend)
    return state


def movement(before: Float, after: Float) -> Float:
    """How far (S,) mm each slice has moved, rotation taken at the radius of a brain."""
    turn = angles(before[:, :3, :3].transpose(0, 2, 1) @ after[:, :3, :3])
    return np.linalg.norm(after[:, :3, 3] - before[:, :3, 3], axis=1) + BRAIN_RADIUS * turn


def register(
    wide: Slices,
    slices: Slices,
    reference: int,
    interleave: Sequence[int],
    dropout: NDArray[np.bool_],
    random: np.random.Generator,
    tell: Tell = lambda done, total, loss: None,
    backend: Backend = CPU,
    start: Float | None = None,
) -> Registration:
    """Find every slice.

    Parameters
    ----------
    wide : Slices
        Cut with a margin of several pixels, so that the outline of the mask shows; intensities near 1.
    slices : Slices
        The same slices without the margin.
    reference : int
        The stack with the least motion: the others are brought to it first, and its scanner space is kept.
    interleave : sequence of int
        Packages of each stack.
    dropout : (S,) bool
        Slices that lost their signal: they take no part, and get the pose that their neighbours in time suggest.
    random : numpy Generator
        For the starts of slices that are searched again.
    tell : callable
        Told how many levels are done, of how many, and the misfit.
    backend : Backend
        Where to compute.
    start : (S, 4, 4), optional
        Where the slices are about, as transforms of the world: stacks and long runs are not registered then.
    """
    coarse = wide.binned(2)
    everywhere = broadcast_to_pixels(~dropout, coarse, backend.device)
    levels = COARSE if start is None else COARSE[FROM_START:]
    total = 1 + len(levels) + len(FINE)
    tell(0, total, None)
    pose = register_stacks(coarse, reference, backend) if start is None else start @ coarse.nominal
    state = _run_levels(levels, coarse, everywhere, pose, interleave, tell, total, backend)
    state = _search_lost(COARSE[-1], coarse, everywhere, state, interleave, backend, random)
    inside = backend.tensor(slices.mask) * broadcast_to_pixels(~dropout, slices, backend.device)
    state.pose = state.pose @ np.linalg.inv(wide.nominal) @ slices.nominal
    for done, level in enumerate(FINE, 1 + len(levels)):
        tell(done, total, float(np.median(state.misfit)))
        state = _run_level(level, slices, inside, state, interleave, backend)
    state = _search_lost(FINE[0], slices, inside, state, interleave, backend)
    lost = dropout | out_of_place(slices, state, interleave, least_ncc(slices, backend))
    trust = np.where(lost, 0.0, slice_weights(state.misfit))
    prior = time_prior(slices.with_poses(state.pose), trust, interleave)
    pose = np.where(lost[:, None, None], prior.pose, state.pose)
    tell(total, total, float(np.median(state.misfit)))
    return Registration(keep_gauge(pose, slices, reference, trust), state.gain, trust, state.ncc, reference)


def as_scanned(slices: Slices, dropout: NDArray[np.bool_]) -> Registration:
    """Every slice where the scanner put it, all trusted but those that lost their signal, (S,) bool."""
    trust, ones = np.where(dropout, 0.0, 1.0), np.ones(len(slices))
    return Registration(slices.nominal.copy(), ones, trust, trust, int(slices.stack[0]))


def register_roughly(
    slices: Slices,
    reference: int,
    interleave: Sequence[int],
    dropout: NDArray[np.bool_],
    start: Float,
    tell: Tell = lambda done, total, loss: None,
    backend: Backend = CPU,
) -> tuple[Float, Float]:
    """Find where the slices are about, by what is inside masks that are no outlines.

    Parameters
    ----------
    slices, reference, interleave, dropout, tell, backend
        As `register`; slices without a margin.
    start : (S, 4, 4)
        Where the stacks are, as transforms of the world.

    Returns
    -------
    pose : (S, 4, 4)
    weight : (S,)
        Trust in the slices.
    """
    coarse = slices.binned(2)
    inside = backend.tensor(coarse.mask) * broadcast_to_pixels(~dropout, coarse, backend.device)
    levels = COARSE[1:]
    total = 1 + len(levels)
    tell(0, total, None)
    state = _run_levels(levels, coarse, inside, start @ coarse.nominal, interleave, tell, total, backend)
    tell(total, total, float(np.median(state.misfit)))
    pose = state.pose @ np.linalg.inv(coarse.nominal) @ slices.nominal
    trust = np.where(dropout, 0.0, slice_weights(state.misfit))
    return keep_gauge(pose, slices, reference, trust), trust


def out_of_place(
    slices: Slices, state: Alignment, interleave: Sequence[int], least: Float | float = MIN_NCC
) -> NDArray[np.bool_]:
    """Slices (S,) that still do not fit: hardly any correlation, or little of it at a place that makes no sense.

    `least` is the correlation (S,) that they have to reach.
    """
    prior = time_prior(slices.with_poses(state.pose), slice_weights(state.misfit), interleave)
    far = (prior.stray(state.pose) > 2 * STRAY) & (movement(prior.pose, state.pose) > FAR)
    return (state.ncc < least) | (correlates_little(state.ncc) & far)


def least_ncc(slices: Slices, backend: Backend = CPU) -> Float:
    """Correlation (S,) with the prediction below which a slice does not show what the field shows.

    A perfect prediction correlates with an image by the root of the share of the image's variance that is no noise
    (attenuation, Spearman, American Journal of Psychology 15, 1904, 72-101). It never falls to what chance gives.
    """
    inside = backend.tensor(slices.mask, torch.bool)
    noise = noise_levels(slices, inside, backend)
    noise = np.where(np.isfinite(noise), noise, np.nanmedian(noise) if np.isfinite(noise).any() else 0.0)
    pixels = backend.tensor(slices.pixels, torch.float64)
    sums = (sum_over_slices(values * inside, slices) for values in (torch.ones_like(pixels), pixels, pixels**2))
    count, total, squares = sums
    count = np.maximum(count, 1)
    variance = np.maximum(squares / count - (total / count) ** 2, 1e-12)
    attenuated = MIN_NCC * np.sqrt(np.maximum(1 - noise**2 / variance, 0.0))
    return np.clip(BEYOND_CHANCE / np.sqrt(count), attenuated, MIN_NCC)


STACK_SPACING = 10.0
CARRIED_SPACINGS = (10.0, 5.0)
STACK_TURNS = np.deg2rad([25.0, 50.0, -25.0, -50.0])


def register_stacks(slices: Slices, reference: int, backend: Backend = CPU) -> Float:
    """Poses (S, 4, 4) with every stack brought onto the reference stack as a rigid body.

    Starts from scanner positions and from matching centres of the masks, each as it is and turned by 25 and 50 degrees
    to either side about the three axes; the start that ends at the least misfit wins.
    """
    own = np.flatnonzero(slices.stack == reference)
    still = slices.take(own)
    everything = backend.tensor(np.ones_like(still.pixels))
    field, _ = fit_lattice(still, everything, np.ones(len(own)), STACK_SPACING, backend)
    target = _centre(slices, own)
    starts, members, candidate = [], [], []
    others = [s for s in np.unique(slices.stack) if s != reference]
    turns = np.concatenate([np.zeros((1, 3)), np.multiply.outer(STACK_TURNS, np.eye(3)).reshape(-1, 3)])
    for stack in others:
        mine = np.flatnonzero(slices.stack == stack)[::2]
        centre = _centre(slices, mine)
        for shift in (np.zeros(3), target - centre):
            for turn in turns:
                move = rigid(turn, shift + centre)
                move[:3, 3] -= move[:3, :3] @ centre
                starts.append(move)
                members.append(mine)
                candidate.append(np.full(len(mine), len(starts) - 1))
    if not starts:
        return slices.pose
    which, group = np.concatenate(members), np.concatenate(candidate)
    trial = slices.take(which)
    trial = trial.with_poses(np.array(starts)[group] @ trial.nominal)
    ones = np.ones(len(trial))
    found = align(field, trial, trial.pixels, np.ones_like(trial.pixels), ones, 0.5 * ones, group, 8, backend=backend)
    pixels = np.diff(trial.offset)
    misfit = np.bincount(group, found.misfit**2 * pixels) / np.bincount(group, pixels)
    pose = slices.pose.copy()
    per_stack = 2 * len(turns)
    for n, stack in enumerate(others):
        best = n * per_stack + int(np.argmin(misfit[n * per_stack : (n + 1) * per_stack]))
        first = int(np.flatnonzero(group == best)[0])
        move = found.pose[first] @ np.linalg.inv(trial.nominal[first])
        mine = slices.stack == stack
        pose[mine] = move @ slices.nominal[mine]
    return pose


def register_by_one_mask(slices: Slices, reference: int, dropout: NDArray[np.bool_], backend: Backend = CPU) -> Float:
    """Poses (S, 4, 4) with every stack brought onto the reference stack as a rigid body, by the reference's mask alone.

    The other way round than `register_stacks`: the reference stack is moved onto the field of each other stack, so that
    every pixel that counts lies inside a mask that was drawn on it, and what the other masks hold besides is no matter.
    It starts from where the scanner put it: that masks could be carried over means that it is not far off. Slices that
    lost their signal, (S,) bool, take no part.
    """
    coarse, sound = slices.binned(2), ~dropout
    own = coarse.take(np.flatnonzero((slices.stack == reference) & sound))
    pose = slices.pose.copy()
    if not len(own):
        return pose
    given = (own.pixels, own.mask.astype(np.float32), np.ones(len(own)), np.full(len(own), 0.5))
    as_one = np.zeros(len(own), np.int64)
    for stack in np.unique(slices.stack[slices.stack != reference]):
        mine = np.flatnonzero(slices.stack == stack)
        other = coarse.take(mine)
        inside = backend.tensor(other.mask) * broadcast_to_pixels(sound[mine], other, backend.device)
        ones, moved = np.ones(len(mine)), own
        for spacing in CARRIED_SPACINGS:
            field, _ = fit_lattice(other, inside, ones, spacing, backend)
            moved = moved.with_poses(align(field, moved, *given, as_one, iterations=8, backend=backend).pose)
        pose[mine] = np.linalg.inv(moved.world_transforms()[0]) @ slices.nominal[mine]
    return pose


def _centre(slices: Slices, which: NDArray[np.integer]) -> Float:
    """Centre of mass, mm, of the masks of some slices at their present poses."""
    points = [slices.plane_points(s) @ slices.pose[s, :3, :3].T + slices.pose[s, :3, 3] for s in map(int, which)]
    return np.concatenate(points).mean(axis=0)


def keep_gauge(pose: Float, slices: Slices, reference: int, weight: Float) -> Float:
    """Poses moved as one so that the reference stack is, on average, where the scanner put it."""
    return gauge(pose, slices, reference, weight) @ pose


def gauge(pose: Float, slices: Slices, reference: int, weight: Float) -> Float:
    """The rigid transform (4, 4) that brings the reference stack back to where the scanner put it, on average."""
    own = np.flatnonzero((slices.stack == reference) & (weight > 0.5))
    if len(own) == 0:
        own = np.flatnonzero(slices.stack == reference)
    scanned, estimated = [], []
    for s in map(int, own):
        points = slices.plane_points(s)
        scanned.append(points @ slices.nominal[s, :3, :3].T + slices.nominal[s, :3, 3])
        estimated.append(points @ pose[s, :3, :3].T + pose[s, :3, 3])
    a, b = np.concatenate(estimated), np.concatenate(scanned)
    turn, _ = Rotation.align_vectors(b - b.mean(axis=0), a - a.mean(axis=0))
    back = np.eye(4)
    back[:3, :3] = turn.as_matrix()
    back[:3, 3] = b.mean(axis=0) - back[:3, :3] @ a.mean(axis=0)
    return back
