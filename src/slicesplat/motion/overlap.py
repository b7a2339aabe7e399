"""Whole stacks whose masks are no outlines, brought together by what is inside both masks.

Such masks may lie anywhere in the anatomy, another one in each stack: their centres mean nothing, and a pixel that only
one stack has inside its mask says nothing about where the two lie to each other. Compared with a field that ends where
the other mask does, it would draw the masks over each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.align import align
from slicesplat.motion.stacks import SCALE
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend

_DEFAULT = RegistrationSettings()


def register_overlaps(
    slices: Slices,
    reference: int,
    dropout: NDArray[np.bool_],
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Rigid:
    """Motions (S) with every stack brought onto the reference stack, from where the scanner put it.

    Parameters
    ----------
    slices : Slices
        With masks that hold the pixels that count.
    reference : int
        The stack that the others are brought to.
    dropout : (S,) bool
        Slices that lost their signal: they take no part.
    settings : RegistrationSettings
    backend : Backend
    """
    from scipy.spatial import cKDTree  # slow to import, and for such masks alone

    sound = ~dropout
    still = slices.take(np.flatnonzero((slices.stack == reference) & sound))
    motion = slices.motion.matrix.copy()
    if not still.mask.any():
        return slices.motion
    pixels, there, ones = backend.tensor(still.pixels), backend.tensor(still.mask), np.ones(len(still))
    fitted = (settings.iterations, settings.ridge, backend)
    fields = [fit_lattice(still, pixels, there, ones, step, *fitted)[0] for step in settings.carried_spacings]
    seen, reach = cKDTree(_points(still)), _reach(still)
    for stack in np.unique(slices.stack[slices.stack != reference]):
        moved = slices.take(np.flatnonzero((slices.stack == stack) & sound))
        given = (np.ones(len(moved)), np.full(len(moved), SCALE), np.zeros(len(moved), np.int64))
        for field in fields:
            both = moved.mask.copy()
            both[both] = seen.query(_points(moved))[0] <= reach
            if both.any():
                found = align(field, moved, moved.pixels, both, *given, settings.stack_steps, backend=backend)
                moved = moved.moved(found.motion)
        if len(moved):
            motion[slices.stack == stack] = moved.motion[0].matrix
    return Rigid(motion)


def _points(slices: Slices) -> Float:
    """World positions (n, 3), mm, of all pixels inside the masks, in their order."""
    return np.concatenate([np.empty((0, 3)), *(slices.world_points(s) for s in range(len(slices)))])


def _reach(slices: Slices) -> float:
    """How far, mm, a place among the pixels of a stack is from the nearest of them at most: half a cell's diagonal."""
    at = np.sort(slices.frame.translation @ slices.frame.rotation[0][:, 2])
    between = float(np.median(np.diff(at))) if len(at) > 1 else 0.0
    return float(np.linalg.norm([*slices.step[0], between])) / 2
