"""Whether a stack's mirror image shows what the others show, better than the stack itself.

Left and right are swapped where a header's orientation is wrong. A brain is nearly symmetric, so such a stack is
registered to its mirror image well enough, and takes what is not symmetric with it. Its slices, mirrored, are slices of
the subject again, at poses that are rotations: aligned with what the other stacks show, first as a whole from the three
planes of symmetry that the region may have, then one by one, they agree better than the stack does; those of a stack
that is as it should be agree less, the less the less symmetric the subject is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import RegistrationSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.agreement import SPACING, predicted
from slicesplat.motion.align import align
from slicesplat.motion.others import Others
from slicesplat.motion.runs import runs_in_time
from slicesplat.splat import CPU, Backend

_WHOLE, _SINGLE = (6, 0.5), (4, 0.3)
"""Steps, and residual beyond which a pixel loses influence, of the brightest: for the stack, then for its slices."""
_EVERY = 2  # slice counts while the stack moves as one
_HOPELESS = 0.1
"""By so much less than the stack a mirror image correlates that moving single slices will not mend it."""
_DEFAULT = RegistrationSettings()


def mirror_leads(
    slices: Slices,
    weight: Float,
    stacks: int,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Float:
    """By how much more each stack's mirror image correlates with the others than the stack itself; (stacks,).

    Below zero for a stack that is as it should be; NaN where there is nothing to compare.

    Parameters
    ----------
    slices : Slices
        At their final poses, all at one gain.
    weight : (S,)
        Trust in the slices.
    stacks : int
        How many there are.
    settings : RegistrationSettings
    backend : Backend
    """
    out = np.full(stacks, np.nan)
    if len(np.unique(slices.stack[weight > 0])) > 1:
        others = Others(slices, weight, SPACING, SPACING, settings, backend)
        planes = _planes(others.slices)
        for stack in np.unique(others.slices.stack):
            field = others.lattice.field(others.amplitudes(stack))
            own = others.slices.take(np.flatnonzero(others.own(stack)))
            out[stack] = _lead(field, own, planes, backend)
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
    count = len(few)
    before = mirrored(few.take(np.tile(np.arange(count), len(planes))), np.repeat(planes, count, axis=0))
    after = _moved(field, before, np.repeat(np.arange(len(planes)), count), *_WHOLE, backend)
    scores = [_ncc(field, after.take(np.arange(count) + count * start), backend) for start in range(len(planes))]
    best, here = int(np.argmax(scores)), _ncc(field, few, backend)
    if scores[best] < here - _HOPELESS:
        return scores[best] - here
    image = mirrored(own, np.tile(planes[best], (len(own), 1, 1)))
    first = count * best
    image = image.moved(after.motion[[first]] @ ~before.motion[[first]] @ image.motion)
    one_by_one = runs_in_time(own, 1)
    image, itself = (_moved(field, one, one_by_one, *_SINGLE, backend) for one in (image, own))
    return _ncc(field, image, backend) - _ncc(field, itself, backend)


def _moved(
    field: GaussianField, slices: Slices, group: NDArray[np.integer], steps: int, scale: float, backend: Backend
) -> Slices:
    """The slices, as groups, nearer to the field."""
    ones = np.ones(len(slices))
    given = (slices.pixels, slices.mask.astype(np.float32), ones, scale * ones, group, steps)
    return slices.moved(align(field, slices, *given, backend=backend).motion)


def _ncc(field: GaussianField, slices: Slices, backend: Backend) -> float:
    """Mean correlation with the field, by pixels."""
    ncc, size = predicted(field, slices, backend)
    return float(np.average(np.clip(ncc, -1.0, 1.0), weights=size))  # a slice of a few even pixels has none
