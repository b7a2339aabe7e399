"""Whole stacks as rigid bodies, before anything is known of their slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.align import align
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend

_DEFAULT = RegistrationSettings()
SCALE = 0.5
"""Residual of whole stacks, as a fraction of the brightest tissue, beyond which a pixel loses influence."""


def register_stacks(
    slices: Slices, reference: int, settings: RegistrationSettings = _DEFAULT, backend: Backend = CPU
) -> Rigid:
    """Motions (S) with every stack brought onto the reference stack.

    Starts from scanner positions and from matching centres of the masks, each as it is and turned to either side about
    the three axes; the start that ends at the least misfit wins.
    """
    others = [s for s in np.unique(slices.stack) if s != reference]
    if not others:
        return slices.motion
    own = np.flatnonzero(slices.stack == reference)
    still = slices.take(own)
    given = (backend.tensor(still.pixels), backend.tensor(np.ones_like(still.pixels)), np.ones(len(own)))
    spacing, iterations, ridge = settings.stack_spacing, settings.iterations, settings.ridge
    field, _ = fit_lattice(still, *given, spacing, iterations, ridge, backend)
    target = _centre(slices, own)
    # Every other slice of a stack says as much about where it is.
    members = [np.flatnonzero(slices.stack == stack)[::2] for stack in others]
    starts = [_starts(_centre(slices, mine), target, settings.stack_turns) for mine in members]
    which = np.concatenate([np.tile(mine, len(start)) for mine, start in zip(members, starts, strict=True)])
    sizes = [len(mine) for mine, start in zip(members, starts, strict=True) for _ in range(len(start))]
    group = np.repeat(np.arange(len(sizes)), sizes)
    candidate = Rigid(np.concatenate([start.matrix for start in starts]))
    trial = slices.take(which).moved(candidate[group])
    ones = np.ones(len(trial))
    steps = settings.stack_steps
    found = align(
        field, trial, trial.pixels, np.ones_like(trial.pixels), ones, SCALE * ones, group, steps, backend=backend
    )
    pixels = np.diff(trial.offset)
    misfit = np.bincount(group, found.misfit**2 * pixels) / np.bincount(group, pixels)
    motion, first = slices.motion.matrix.copy(), 0
    for stack, start in zip(others, starts, strict=True):
        best = first + int(np.argmin(misfit[first : first + len(start)]))
        motion[slices.stack == stack] = found.motion[int(np.flatnonzero(group == best)[0])].matrix
        first += len(start)
    return Rigid(motion)


def register_by_one_mask(
    slices: Slices,
    reference: int,
    dropout: NDArray[np.bool_],
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Rigid:
    """Motions (S) with every stack brought onto the reference stack, by the reference's mask alone.

    The other way round than `register_stacks`: the reference stack is moved onto the field of each other stack, so that
    every pixel that counts lies inside a mask that was drawn on it, and what the other masks hold besides is no matter.
    It starts from where the scanner put it: that masks could be carried over means that it is not far off. Slices that
    lost their signal, (S,) bool, take no part.
    """
    coarse, sound = slices.binned(settings.binning), ~dropout
    own = coarse.take(np.flatnonzero((slices.stack == reference) & sound))
    if not len(own):
        return slices.motion
    given = (own.pixels, own.mask.astype(np.float32), np.ones(len(own)), np.full(len(own), SCALE))
    as_one, motion = np.zeros(len(own), np.int64), slices.motion.matrix.copy()
    for stack in np.unique(slices.stack[slices.stack != reference]):
        mine = np.flatnonzero(slices.stack == stack)
        other = coarse.take(mine)
        inside = backend.tensor(other.mask) * broadcast_to_pixels(sound[mine], other, backend.device)
        pixels, ones, moved = backend.tensor(other.pixels), np.ones(len(mine)), own
        for spacing in settings.carried_spacings:
            field, _ = fit_lattice(other, pixels, inside, ones, spacing, settings.iterations, settings.ridge, backend)
            found = align(field, moved, *given, as_one, settings.stack_steps, backend=backend)
            moved = moved.moved(found.motion)
        motion[mine] = (~moved.motion[0]).matrix
    return Rigid(motion)


def _starts(centre: Float, target: Float, degrees: tuple[float, ...]) -> Rigid:
    """Motions (n) that a stack with its centre there starts from: as scanned, and onto the target, turned or not."""
    turns = np.concatenate([np.zeros((1, 3)), np.multiply.outer(np.deg2rad(degrees), np.eye(3)).reshape(-1, 3)])
    shifts = np.repeat(np.stack([np.zeros(3), target - centre]), len(turns), axis=0)
    return Rigid.exp(np.concatenate([shifts, np.tile(turns, (2, 1))], axis=1)).about(centre)


def _centre(slices: Slices, which: NDArray[np.integer]) -> Float:
    """Centre of mass, mm, of the masks of some slices at their present poses."""
    return np.concatenate([slices.world_points(s) for s in which.tolist()]).mean(axis=0)
