"""Slices to field: Levenberg-Marquardt on rigid poses, all groups of slices at once.

    minimise over the groups' poses and the slices' gains   sum_pixels w r^2 / (1 + (r / s)^2),   r = g_s y_s(pose) - p

y_s is the exact forward model and its derivatives are analytic, the PSF's rotation included (`splat.cpu_pose`). The
robust misfit is that of Geman and McClure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import sum_over_slices
from slicesplat.geometry.rigid import group_jacobian, step_groups
from slicesplat.geometry.slices import Slices
from slicesplat.motion.time_prior import TimePrior
from slicesplat.splat import CPU, Backend, ForwardModel, set_geometry

Float = NDArray[np.float64]
MAX_SHIFT = 3.0  # mm a step; beyond it the linearisation means nothing on structures of a few mm
MAX_TURN = np.deg2rad(6.0)
# Against a prior, a slice's residuals count for less than their number: neighbouring pixels share what the field has
# not learnt yet, over about the area of the PSF.
NEIGHBOURING_PIXELS = 4.0
ROBUST_SIGMAS = 4.0  # `scale` is meant to be so many standard deviations of a residual


@dataclass(eq=False)
class Alignment:
    """What `align` found.

    Attributes
    ----------
    pose : (S, 4, 4)
    gain : (S,)
    misfit : (S,)
        Robust root-mean-square residual of every slice, in units of the pixels.
    ncc : (S,)
        Correlation of every slice with its prediction, inside its mask.
    """

    pose: Float
    gain: Float
    misfit: Float
    ncc: Float


def correlation(sums: Float) -> Float:
    """Weighted correlation from the sums of w, w y, w p, w y^2, w p^2, w y p in the last axis.

    Examples
    --------
    >>> float(correlation(np.array([2.0, 1.0, 2.0, 1.0, 4.0, 2.0])))
    1.0
    """
    w, y, p, yy, pp, yp = np.moveaxis(sums, -1, 0)
    w = np.maximum(w, 1e-12)
    cov, vy, vp = yp / w - y * p / w**2, yy / w - (y / w) ** 2, pp / w - (p / w) ** 2
    return cov / np.sqrt(np.maximum(vy * vp, 1e-24))


def align(
    field: GaussianField,
    slices: Slices,
    pixels: ArrayLike | Tensor,
    weights: ArrayLike | Tensor,
    gain: Float,
    scale: Float,
    group: NDArray[np.integer] | None = None,
    iterations: int = 8,
    forward_model: ForwardModel | None = None,
    gain_prior: float = 0.1,
    prior: TimePrior | None = None,
    backend: Backend = CPU,
) -> Alignment:
    """Move groups of slices onto the field.

    Parameters
    ----------
    field : GaussianField
    slices : Slices
        Starting poses.
    pixels, weights : (P,)
    gain : (S,)
        Starting gains.
    scale : (S,)
        Residual, in units of the pixels, beyond which a pixel loses influence.
    group : (S,) int, optional
        Slices with the same number, 0 to G - 1, move as one; every slice by itself when not given.
    iterations : int
        Systems solved at most.
    forward_model : ForwardModel, optional
        One for these slices' geometry, to be used again.
    gain_prior : float
        Standard deviation of the gains about 1.
    prior : TimePrior, optional
        Where single slices are expected; for slices that move one by one.
    backend : Backend
        Where to compute when no forward_model is given.
    """
    group = np.arange(len(slices)) if group is None else np.asarray(group)
    groups = int(group.max()) + 1
    forward_model = forward_model or backend.forward_model(slices)
    amplitudes = field.amplitudes.detach()
    pixels, weights = (torch.as_tensor(x, dtype=torch.float32, device=forward_model.device) for x in (pixels, weights))
    count = np.maximum(sum_over_slices(weights, slices), 1e-6)

    pose, gain = slices.pose.copy(), gain.astype(np.float64).copy()
    best = Alignment(pose, gain, np.full(len(slices), np.inf), np.full(len(slices), -1.0))
    best_cost = np.full(groups, np.inf)
    damping = np.full(groups, 1e-3)
    system: tuple[Float, ...] = ()
    for turn in range(iterations + 1):
        set_geometry(forward_model, field, pose)
        systems = forward_model.pose_normal_equations(amplitudes, gain, pixels, weights, scale)
        hessian, gradient, cost, sums = (part.cpu().numpy() for part in systems)
        hold = count * (0.1 * scale / gain_prior) ** 2
        cost = cost + hold * (gain - 1.0) ** 2
        hessian[:, 6, 6] += hold
        gradient[:, 6] += hold * (gain - 1.0)
        if prior is not None:
            cost = cost + _add_prior(prior, pose, NEIGHBOURING_PIXELS * (scale / ROBUST_SIGMAS) ** 2, hessian, gradient)
        group_cost = np.bincount(group, cost, groups)
        better = group_cost < best_cost
        of_better = better[group]
        improvement = np.where(better, 1.0 - group_cost / np.maximum(best_cost, 1e-30), 0.0)
        best_cost = np.where(better, group_cost, best_cost)
        centre = np.stack([np.bincount(group, pose[:, k, 3], groups) for k in range(3)], 1) / np.maximum(
            np.bincount(group, minlength=groups)[:, None], 1
        )
        solved = _reduce(hessian, gradient, pose, group, centre, groups)
        if not system:
            system = solved
            reference_centre = centre
        else:
            damping = np.where(better, damping / 4, damping * 6)
            for new, old in zip(solved, system, strict=True):
                chosen = better if len(new) == groups else of_better
                old[chosen] = new[chosen]
            reference_centre = np.where(better[:, None], centre, reference_centre)
        best.pose = np.where(of_better[:, None, None], pose, best.pose)
        best.gain = np.where(of_better, gain, best.gain)
        best.misfit = np.where(of_better, np.sqrt(cost / count), best.misfit)
        best.ncc = np.where(of_better, correlation(sums), best.ncc)
        if turn > 0 and np.all(improvement < 1e-4) and np.all(better | (damping > 1e3)):
            break
        step, gain_step = _solve(system, damping, group)
        pose = step_groups(best.pose, group, reference_centre, step)
        gain = np.clip(best.gain + gain_step, 0.2, 5.0)
    return best


def _add_prior(prior: TimePrior, pose: Float, variance: Float, hessian: Float, gradient: Float) -> Float:
    """Add the prior to the slices' systems; `variance` turns its chi-square into squared residuals. Its cost (S,)."""
    penalty, soft = prior.penalty(pose)
    step = prior.deviation(pose)
    precision = (variance * soft)[:, None] / prior.scales() ** 2
    # A step of the slice in its own frame turns into one in the expected frame by the rotation between the two.
    turn = np.linalg.inv(prior.pose[:, :3, :3]) @ pose[:, :3, :3]
    for part in (slice(0, 3), slice(3, 6)):
        hessian[:, part, part] += turn.transpose(0, 2, 1) @ (precision[:, part, None] * turn)
        gradient[:, part] += np.einsum("sji,sj->si", turn, precision[:, part] * step[:, part])
    return variance * penalty


def _reduce(
    hessian: Float, gradient: Float, pose: Float, group: NDArray[np.integer], centre: Float, groups: int
) -> tuple[Float, ...]:
    """Eliminate each slice's gain and add up what is left over the group: (G, 6, 6), (G, 6), and the way back."""
    move = group_jacobian(pose, centre[group])
    own = np.maximum(hessian[:, 6, 6], 1e-9)
    coupling = hessian[:, :6, 6]
    left = hessian[:, :6, :6] - coupling[:, :, None] * coupling[:, None, :] / own[:, None, None]
    right = gradient[:, :6] - coupling * (gradient[:, 6] / own)[:, None]
    matrix, vector = np.zeros((groups, 6, 6)), np.zeros((groups, 6))
    np.add.at(matrix, group, move.transpose(0, 2, 1) @ left @ move)
    np.add.at(vector, group, np.einsum("sji,sj->si", move, right))
    back = np.concatenate([np.einsum("sj,sji->si", coupling, move), gradient[:, 6:]], axis=1) / own[:, None]
    return matrix, vector, back


def _solve(system: tuple[Float, ...], damping: Float, group: NDArray[np.integer]) -> tuple[Float, Float]:
    """Damped steps of the groups (G, 6), no longer than the linearisation holds, and of the gains (S,)."""
    matrix, vector, back = system
    diagonal = np.einsum("gii->gi", matrix)
    # A direction that nothing constrains must not move at all.
    floor = 1e-4 * diagonal.max(axis=1, keepdims=True) * [1, 1, 1, 1e3, 1e3, 1e3] + 1e-9
    damped = matrix + np.einsum("gi,ij->gij", damping[:, None] * diagonal + floor, np.eye(6))
    step = -np.linalg.solve(damped, vector[..., None])[..., 0]
    length = np.maximum(np.linalg.norm(step[:, :3], axis=1) / MAX_SHIFT, np.linalg.norm(step[:, 3:], axis=1) / MAX_TURN)
    step = step / np.maximum(length, 1.0)[:, None]
    return step, -(back[:, 6] + np.einsum("si,si->s", back[:, :6], step[group]))
