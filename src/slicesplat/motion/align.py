"""Slices to field: Levenberg-Marquardt on rigid motions, all groups of slices at once.

    minimise over the groups' motions and the slices' gains   sum_p w_p r_p^2 / (1 + (r_p / s)^2),   r = g_s y_s - p

y_s is the exact forward model and its derivatives are analytic, the PSF's rotation included. The robust misfit is that
of Geman and McClure. docs/method.md, Motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import sum_over_slices
from slicesplat.geometry.rigid import Rigid, step_product
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import GAIN_RANGE
from slicesplat.motion.time_prior import TimePrior
from slicesplat.solvers.levenberg_marquardt import levenberg_marquardt
from slicesplat.splat import CPU, Backend, ForwardModel, set_geometry

Float = NDArray[np.float64]
MAX_SHIFT = 3.0  # mm a step; beyond it the linearisation means nothing on structures of a few mm
MAX_TURN = np.deg2rad(6.0)
# Against a prior, a slice's residuals count for less than their number: neighbouring pixels share what the field has
# not learnt yet, over about the area of the PSF.
NEIGHBOURING_PIXELS = 4.0
ROBUST_SIGMAS = 4.0  # a scale is meant to be so many standard deviations of a residual
GAIN_DEVIATION = 0.1  # standard deviation of the gains about 1
_GAIN_RESIDUAL = 0.4  # sigma; what a pixel counts for against it: they share what the field has not learnt yet
_GAIN = 6  # the unknown of a slice after its six of motion


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where slices are, and how well they fit there.

    Attributes
    ----------
    motion : Rigid (S)
    gain : (S,)
    misfit : (S,)
        Robust root-mean-square residual of every slice, in units of the pixels.
    ncc : (S,)
        Correlation of every slice with its prediction, inside its mask.
    """

    motion: Rigid
    gain: Float
    misfit: Float
    ncc: Float

    def __getitem__(self, which: NDArray[np.bool_]) -> Alignment:
        return Alignment(self.motion[which], self.gain[which], self.misfit[which], self.ncc[which])

    def with_some(self, which: NDArray[np.int64], other: Alignment) -> Alignment:
        """The same but for slices `which` (n,), of which it says what another one (n) does."""
        parts = [part.copy() for part in (self.motion.matrix, self.gain, self.misfit, self.ncc)]
        for part, new in zip(parts, (other.motion.matrix, other.gain, other.misfit, other.ncc), strict=True):
            part[which] = new
        return Alignment(Rigid(parts[0]), *parts[1:])

    def where(self, choice: NDArray[np.bool_], other: Alignment) -> Alignment:
        """What this one says where `choice` (S,) holds, else the other."""
        return Alignment(
            self.motion.where(choice, other.motion),
            np.where(choice, self.gain, other.gain),
            np.where(choice, self.misfit, other.misfit),
            np.where(choice, self.ncc, other.ncc),
        )


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
    prior: TimePrior | None = None,
    backend: Backend = CPU,
    sigma: Float | None = None,
    linear: float = 0.0,
) -> Alignment:
    """Move groups of slices onto the field.

    Parameters
    ----------
    field : GaussianField
    slices : Slices
        Where they start.
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
    prior : TimePrior, optional
        Where single slices are expected; for slices that move one by one.
    backend : Backend
        Where to compute when no forward model is given.
    sigma : (S,), optional
        Standard deviation of a residual, against priors; `scale` over `ROBUST_SIGMAS` when not given.
    linear : float
        mm. Where no group's last step is longer, all are taken: the least squares that they are the minima of say what
        they come to. Misfit and correlation are those of where these steps begin.
    """
    group = np.arange(len(slices)) if group is None else np.asarray(group)
    forward_model = forward_model or backend.forward_model(slices)
    y, w = (torch.as_tensor(x, dtype=torch.float32, device=forward_model.device) for x in (pixels, weights))
    sigma = scale / ROBUST_SIGMAS if sigma is None else sigma
    model = _Poses(field, slices, forward_model, y, w, scale, sigma, group, prior, linear)
    start = model.linearised(slices.motion, np.asarray(gain, np.float64))
    return levenberg_marquardt(model, start, iterations).state


def pose_covariance(
    field: GaussianField,
    slices: Slices,
    pixels: Tensor,
    weights: Tensor,
    gain: Float,
    scale: Float,
    sigma: Float,
    forward_model: ForwardModel,
    prior: TimePrior,
) -> Float:
    """Posterior covariance (S, 6, 6) of every slice's pose where it is: of steps (v, w) in its own frame, mm and rad.

    That of Gauss-Newton with the gain eliminated and the prior added, for residuals of which `NEIGHBOURING_PIXELS` say
    as much as one.

    Parameters
    ----------
    field, slices, pixels, weights, gain, scale, forward_model, prior
        As `align`; weights (P,) say how much of what a pixel shows is news to the field.
    sigma : (S,)
        Standard deviation of a residual.
    """
    model = _Poses(field, slices, forward_model, pixels, weights, scale, sigma, np.arange(len(slices)), prior)
    point = model.linearised(slices.motion, gain)
    turn = np.zeros_like(point.matrix)
    turn[:, :3, :3] = turn[:, 3:, 3:] = slices.pose.rotation
    information = turn.transpose(0, 2, 1) @ point.matrix @ turn / (NEIGHBOURING_PIXELS * sigma**2)[:, None, None]
    # Nothing is less certain than a kilometre: what neither pixels nor prior say has a finite covariance too.
    return np.asarray(np.linalg.inv(information + 1e-6 * np.eye(6)))


@dataclass(frozen=True, eq=False)
class _Point:
    """Groups of slices where they are, and their least squares about it.

    Attributes
    ----------
    state : Alignment
    cost : (G,)
    matrix : (G, 6, 6)
    vector : (G, 6)
    back : (S, 7)
        From a group's step to a slice's gain: what its gain follows each of the six by, and its own step.
    centre : (G, 3) mm
        What the group turns about.
    """

    state: Alignment
    cost: Float
    matrix: Float
    vector: Float
    back: Float
    centre: Float

    @property
    def floor(self) -> Float:
        """(G, 6) a direction that nothing constrains must not move at all."""
        diagonal = np.einsum("gii->gi", self.matrix)
        return np.asarray(1e-4 * diagonal.max(axis=1, keepdims=True) * [1, 1, 1, 1e3, 1e3, 1e3] + 1e-9)


class _Poses:
    """The misfit of slices that move in groups, about any place."""

    def __init__(
        self,
        field: GaussianField,
        slices: Slices,
        forward_model: ForwardModel,
        pixels: Tensor,
        weights: Tensor,
        scale: Float,
        sigma: Float,
        group: NDArray[np.integer],
        prior: TimePrior | None,
        linear: float = 0.0,
    ) -> None:
        self.linear = linear
        self.field, self.amplitudes, self.frame = field, field.amplitudes.detach(), slices.frame
        self.forward_model, self.pixels, self.weights = forward_model, pixels, weights
        self.scale, self.sigma, self.group, self.prior = scale, sigma, group, prior
        self.count = np.maximum(sum_over_slices(weights, slices), 1e-6)
        self.members = np.maximum(np.bincount(group), 1)[:, None]

    def linearised(self, motion: Rigid, gain: Float) -> _Point:
        """The problems with the slices there."""
        pose = motion @ self.frame
        set_geometry(self.forward_model, self.field, pose)
        systems = self.forward_model.pose_normal_equations(self.amplitudes, gain, self.pixels, self.weights, self.scale)
        hessian, gradient, cost, sums = (part.cpu().numpy() for part in systems)
        hold = self._hold()
        hessian[:, _GAIN, _GAIN] += hold
        gradient[:, _GAIN] += hold * (gain - 1.0)
        if self.prior is not None:
            _add_prior(self.prior, pose, self._variance(), hessian, gradient)
        groups = len(self.members)
        at = pose.translation
        centre = np.stack([np.bincount(self.group, at[:, k], groups) for k in range(3)], 1) / self.members
        reduced = _reduce(hessian, gradient, group_jacobian(pose, centre[self.group]), self.group, groups)
        return _Point(*self._judged(motion, gain, cost, sums), *reduced, centre)

    def stepped(self, point: _Point, step: Float) -> _Point:
        """The problems after steps (G, 6) in world axes about the groups' centres, no longer than linear."""
        return self.linearised(*self._moved(point, step))

    def tried(self, point: _Point, step: Float) -> _Point:
        """As `stepped`, with the systems of the point where the steps begin, which say what short ones cost as well."""
        motion, gain = self._moved(point, step)
        if np.sqrt(step_product(step, step)).max(initial=0.0) <= self.linear:
            cost = point.cost + np.einsum(
                "gi,gi->g", 2 * point.vector + np.einsum("gij,gj->gi", point.matrix, step), step
            )
            return replace(point, state=replace(point.state, motion=motion, gain=gain), cost=cost)
        set_geometry(self.forward_model, self.field, motion @ self.frame)
        found = self.forward_model.misfits(self.amplitudes, gain, self.pixels, self.weights, self.scale)
        state, cost = self._judged(motion, gain, *(part.cpu().numpy() for part in found))
        return replace(point, state=state, cost=cost)

    def _hold(self) -> Float:
        """(S,) what a squared deviation of a gain from 1 costs."""
        return np.asarray(self.count * (_GAIN_RESIDUAL * self.sigma / GAIN_DEVIATION) ** 2)

    def _variance(self) -> Float:
        """(S,) what turns the prior's chi-square into squared residuals."""
        return np.asarray(NEIGHBOURING_PIXELS * self.sigma**2)

    def _judged(self, motion: Rigid, gain: Float, cost: Float, sums: Float) -> tuple[Alignment, Float]:
        """Slices there by their misfits (S,), gains and prior added, and the groups' costs (G,)."""
        cost = cost + self._hold() * (gain - 1.0) ** 2
        if self.prior is not None:
            cost = cost + self._variance() * self.prior.penalty(motion @ self.frame)[0]
        state = Alignment(motion, gain, np.sqrt(cost / self.count), correlation(sums))
        return state, np.bincount(self.group, cost, len(self.members)).astype(np.float64)

    def _moved(self, point: _Point, step: Float) -> tuple[Rigid, Float]:
        """Where steps (G, 6) bring the slices, and the gains there."""
        length = np.maximum(
            np.linalg.norm(step[:, :3], axis=1) / MAX_SHIFT, np.linalg.norm(step[:, 3:], axis=1) / MAX_TURN
        )
        step = step / np.maximum(length, 1.0)[:, None]
        gain = point.state.gain - (point.back[:, 6] + np.einsum("si,si->s", point.back[:, :6], step[self.group]))
        motion = Rigid.exp(step).about(point.centre)[self.group] @ point.state.motion
        return motion, np.clip(gain, *GAIN_RANGE)

    def chosen(self, better: NDArray[np.bool_], new: _Point, old: _Point) -> _Point:
        """Group by group."""
        own = better[self.group]
        return replace(
            new,
            state=new.state.where(own, old.state),
            cost=np.where(better, new.cost, old.cost),
            matrix=np.where(better[:, None, None], new.matrix, old.matrix),
            vector=np.where(better[:, None], new.vector, old.vector),
            back=np.where(own[:, None], new.back, old.back),
            centre=np.where(better[:, None], new.centre, old.centre),
        )


def _add_prior(prior: TimePrior, pose: Rigid, variance: Float, hessian: Float, gradient: Float) -> None:
    """Add the prior to the slices' systems; `variance` (S,) turns its chi-square into squared residuals."""
    soft = prior.penalty(pose)[1]
    step = prior.deviation(pose)
    precision = (variance * soft)[:, None] / prior.scales() ** 2
    # A step of the slice in its own frame turns into one in the expected frame by the rotation between the two.
    turn = (~prior.pose @ pose).rotation
    for part in (slice(0, 3), slice(3, 6)):
        hessian[:, part, part] += turn.transpose(0, 2, 1) @ (precision[:, part, None] * turn)
        gradient[:, part] += np.einsum("sji,sj->si", turn, precision[:, part] * step[:, part])


def _reduce(
    hessian: Float, gradient: Float, move: Float, group: NDArray[np.integer], groups: int
) -> tuple[Float, Float, Float]:
    """Eliminate each slice's gain and add up what is left over the group: (G, 6, 6), (G, 6), and the way back.

    `move` (S, 6, 6) is how a group's step moves each of its slices.
    """
    own = np.maximum(hessian[:, _GAIN, _GAIN], 1e-9)
    coupling = hessian[:, :6, _GAIN]
    left = hessian[:, :6, :6] - coupling[:, :, None] * coupling[:, None, :] / own[:, None, None]
    right = gradient[:, :6] - coupling * (gradient[:, _GAIN] / own)[:, None]
    matrix, vector = np.zeros((groups, 6, 6)), np.zeros((groups, 6))
    np.add.at(matrix, group, move.transpose(0, 2, 1) @ left @ move)
    np.add.at(vector, group, np.einsum("sji,sj->si", move, right))
    back = np.concatenate([np.einsum("sj,sji->si", coupling, move), gradient[:, _GAIN:]], axis=1) / own[:, None]
    return matrix, vector, back


def group_jacobian(pose: Rigid, centre: Float) -> Float:
    """How a group's step (v, w) in world axes moves each of its slices in the slice's own frame: (S, 6, 6).

    Parameters
    ----------
    pose : Rigid (S)
    centre : (S, 3) mm
        The centre of the group that the slice belongs to.
    """
    turn = pose.rotation.transpose(0, 2, 1)
    x, y, z = (pose.translation - centre).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    out = np.zeros((len(turn), 6, 6))
    out[:, :3, :3] = turn
    out[:, :3, 3:] = -turn @ cross
    out[:, 3:, 3:] = turn
    return out
