"""How well the pose of a slice is determined: by what other stacks show where it lies, and by its neighbours in time.

The posterior covariance is that of Gauss-Newton, Sigma = (q / (n sigma^2) J' W J + P^-1)^-1: the slice's system in its
pose (`motion.align`), residuals of standard deviation sigma of which n neighbouring ones say as much as one, and the
time prior's covariance P. q is the share of the slice that is news: where no other stack crosses it, the field has
learnt what it shows from the slice itself, follows it anywhere, and its residuals say nothing about its place.
docs/method.md, Motion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slicesplat.geometry.pixels import broadcast_to_pixels, sum_over_slices
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices
from slicesplat.motion.agreement import SPACING, binned_for_agreement
from slicesplat.solvers.amplitudes import placed_lattice
from slicesplat.splat import CPU, Backend

_LEAST_SHARE = 1e-3  # a slice that nobody crosses: its standard error is the prior's


def shown_by_others(slices: Slices, weight: Float, backend: Backend = CPU) -> Float:
    """How much (S,) other stacks show of what each slice shows, over what they show of a typical slice; at most 1.

    Parameters
    ----------
    slices : Slices
        At their poses.
    weight : (S,)
        Trust in the slices.
    backend : Backend
    """
    coarse = binned_for_agreement(slices)
    _, forward_model = placed_lattice(coarse, SPACING, backend)
    inside, ones = backend.tensor(coarse.mask), np.ones(len(coarse))
    count, seen = sum_over_slices(inside, coarse), np.zeros(len(coarse))
    for stack in np.unique(coarse.stack):
        own = coarse.stack == stack
        others = inside * broadcast_to_pixels(np.where(own, 0.0, weight), coarse, backend.device)
        coverage = forward_model.apply(forward_model.adjoint(others, ones), ones)
        seen[own] = sum_over_slices(coverage * inside, coarse)[own]
    seen = seen / np.maximum(count, 1.0)
    known = (count > 0) & (weight > 0)
    typical = np.median(seen[known]) if known.any() else 0.0
    return np.clip(seen / max(float(typical), 1e-12), _LEAST_SHARE, 1.0)


def rms_displacement(covariance: NDArray[np.float64], slices: Slices) -> Float:
    """Root mean square displacement (S,) mm of the pixels inside the masks under steps of these covariances.

    A step (v, w) moves a pixel at x by v + w x x.

    Parameters
    ----------
    covariance : (S, 6, 6)
        Of steps in the slice's own frame, mm and rad.
    slices : Slices
    """
    square = np.trace(covariance[:, :3, :3], axis1=1, axis2=2)
    for s in range(len(slices)):
        points = slices.plane_points(s)
        if not len(points):
            continue
        x, y, z = points.mean(axis=0)
        cross = np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]])  # w x x = cross w
        second = points.T @ points / len(points)
        inertia = np.trace(second) * np.eye(3) - second
        square[s] += 2 * (cross * covariance[s, :3, 3:]).sum() + (inertia * covariance[s, 3:, 3:]).sum()
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))
