"""Whether a stack's mirror image shows what the others show, better than the stack itself.

Left and right are swapped where a header's orientation is wrong. A brain is nearly symmetric, so such a stack is
registered to its mirror image well enough, and takes what is not symmetric with it. Its slices, mirrored, are slices of
the subject again, at poses that are rotations: aligned with what the other stacks show, first as a whole from the three
planes of symmetry that the region may have, then one by one, they agree better than the stack does; those of a stack
that is as it should be agree less, the less the less symmetric the subject is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.agreement import SPACING, predicted
from slicesplat.motion.align import align
from slicesplat.motion.others import Others
from slicesplat.motion.trusted import binned_to
from slicesplat.splat import CPU, Backend

_FIRST, _WHOLE, _SINGLE = (2, 0.5), (4, 0.5), (4, 0.3)
"""Steps, and residual beyond which a pixel loses influence, of the brightest: for the stack at every plane, then at the
best one, then for its slices."""
_EVERY = 2  # slice counts while the stack moves as one
_FAR, _HOPELESS = 0.2, 0.1
"""By so much less than the stack a mirror image correlates that moving it on, or its slices, will not mend it: on six
real stacks and 23 simulated ones all that came after the first steps was 0.06 at most."""


def mirror_leads(fields: Mapping[int, Tensor], others: Others, stacks: int, backend: Backend = CPU) -> Float:
    """By how much more each stack's mirror image correlates with the others than the stack itself; (stacks,).

    Below zero for a stack that is as it should be; NaN where there is nothing to compare.

    Parameters
    ----------
    fields : mapping
        By the number of a stack, what the others show: amplitudes (N,).
    others : Others
        The slices, all at one gain, and their lattice.
    stacks : int
        How many there are.
    backend : Backend
    """
    out, coarse = np.full(stacks, np.nan), binned_to(SPACING, others.slices)
    planes = _planes(coarse) if fields else np.empty((0, 4, 4))
    for stack, amplitudes in fields.items():
        own = coarse.take(np.flatnonzero(others.own(stack)))
        out[stack] = _lead(others.lattice.field(amplitudes), own, planes, backend)
    return out


def mirrored(slices: Slices, planes: Float) -> Slices:
    """The mirror images of slices as slices: their pixels turned over, at proper poses.

    Parameters
    ----------
    slices : Slices
    planes : (S, 4, 4)
        Reflections of the world, one for each.
    """
    index = np.arange(len(slices.pixels))
    rows = [slices.image(index, s)[::-1].ravel() for s in range(len(slices))]
    order = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    origin, over = slices.origin.copy(), np.diag([-1.0, 1.0, 1.0, 1.0])
    origin[:, 0] = -(origin[:, 0] + (slices.shape[:, 0] - 1) * slices.step[:, 0])
    return replace(
        slices,
        pixels=slices.pixels[order],
        mask=slices.mask[order],
        measured=slices.measured[order],
        origin=origin,
        frame=Rigid(planes @ slices.frame.matrix @ over),
        motion=Rigid(planes @ slices.motion.matrix @ planes),  # a reflection is its own inverse
    )


def _planes(slices: Slices) -> Float:
    """(3, 4, 4) reflections at the planes through the region's middle and across its principal axes."""
    points = np.concatenate([slices.world_points(s) for s in range(len(slices))])
    middle = points.mean(axis=0)
    axes = np.linalg.eigh(np.cov((points - middle).T))[1].T
    out = np.tile(np.eye(4), (3, 1, 1))
    out[:, :3, :3] -= 2 * axes[:, :, None] * axes[:, None, :]
    out[:, :3, 3] = 2 * axes * (axes @ middle)[:, None]
    return out


def _lead(field: GaussianField, own: Slices, planes: Float, backend: Backend) -> float:
    """By how much more the mirror image of a stack correlates with a field of the others than the stack."""
    few = own.take(np.arange(0, len(own), _EVERY))
    count, here = len(few), _mean(predicted(field, few, backend)[0], few)
    before = mirrored(few.take(np.tile(np.arange(count), len(planes))), np.repeat(planes, count, axis=0))
    after, ncc = _moved(field, before, np.repeat(np.arange(len(planes)), count), *_FIRST, backend)
    starts = [np.arange(count) + count * plane for plane in range(len(planes))]
    scores = [_mean(ncc[start], few) for start in starts]
    best = int(np.argmax(scores))
    if scores[best] < here - _FAR:
        return scores[best] - here
    whole, ncc = _moved(field, after.take(starts[best]), np.zeros(count, np.int64), *_WHOLE, backend)
    if _mean(ncc, few) < here - _HOPELESS:
        return _mean(ncc, few) - here
    image = mirrored(own, np.tile(planes[best], (len(own), 1, 1)))
    image = image.moved(whole.motion[[0]] @ ~before.motion[starts[best][[0]]] @ image.motion)
    there, here = (_mean(_moved(field, one, np.arange(len(own)), *_SINGLE, backend)[1], own) for one in (image, own))
    return there - here


def _moved(
    field: GaussianField, slices: Slices, group: NDArray[np.integer], steps: int, scale: float, backend: Backend
) -> tuple[Slices, Float]:
    """The slices, as groups, nearer to the field, and their correlation (S,) with it there."""
    ones = np.ones(len(slices))
    given = (slices.pixels, slices.mask.astype(np.float32), ones, scale * ones, group, steps)
    found = align(field, slices, *given, backend=backend)
    return slices.moved(found.motion), found.ncc


def _mean(ncc: Float, slices: Slices) -> float:
    """Mean correlation of slices (S,), by pixels inside their masks."""
    size = np.add.reduceat(slices.mask, slices.offset[:-1], dtype=np.float64)
    return float(np.average(np.clip(ncc, -1.0, 1.0), weights=np.maximum(size, 1e-9)))  # a few even pixels have none
