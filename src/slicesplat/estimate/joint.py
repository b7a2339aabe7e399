"""The joint fit of the field, slice poses, gains and robust weights.

    minimise   1/2 sum_p w_p (g_s y_p(field, pose_s) - p)^2 / noise^2  +  lambda E(V)

y is the exact forward model, E the prior (`fit.curvature`). The Gaussians stand on a cubic lattice. With their shapes
fixed, the model is linear in their amplitudes, which are solved for, not descended to. What the data decide is how many
Gaussians there are, that is how close they stand, and how strong the prior is: the error of pixels that are left out
chooses both. (Means, scales and rotations that follow the gradient as well were tried: from this solution on,
they raise the error of the pixels left out, and that to the truth.)

First, field and poses take turns: amplitudes, gains and weights at their optimum, then Gauss-Newton steps of the poses
(`motion.align`). Then the lattice is refined for as long as the pixels left out are predicted better, and the strength
of the prior is varied about its usual value. Last, with all pixels, field and poses take turns once more: against a
finer field poses are more accurate.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import lattice, prune
from slicesplat.geometry.pixels import broadcast_to_pixels, dilate_in_plane, sum_over_slices
from slicesplat.geometry.rigid import slice_steps, step_slices
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.noise import noise_level
from slicesplat.likelihood.robust import LEAST_NOISE, Weights, initial_weights, reweight
from slicesplat.likelihood.validation import held_out_error, hold_out
from slicesplat.motion.align import align
from slicesplat.motion.time_prior import time_prior
from slicesplat.priors.curvature import Curvature
from slicesplat.solvers.amplitudes import AmplitudeSolver, lattice_like
from slicesplat.solvers.precondition import Preconditioner
from slicesplat.splat import CPU, Backend, ForwardModel, set_geometry

log = logging.getLogger("slicesplat")
Tell = Callable[[int, int, float | None], None]


@dataclass(frozen=True)
class FitSettings:
    """How the joint fit goes.

    Attributes
    ----------
    spacings : tuple of float
        Lattice constants that are tried, coarse to fine, in units of the in-plane pixel spacing. The poses are refined
        on the first.
    pose_rounds : int
        Turns of field and poses before the complexity is chosen, at most.
    final_rounds : int
        Turns of field and poses at the end, with all pixels and as many Gaussians as were chosen, at most.
    still : float
        Root-mean-square motion of the slices in a turn, mm, below which there is no further turn; nor is there one
        when they moved nearly as far as in the turn before.
    pose_steps : int
        Gauss-Newton steps of the poses in every turn; with 0 they stay as they are.
    rounds : int
        Updates of prior, gains and weights for every lattice.
    iterations : int
        Of conjugate gradients, preconditioned, between two updates.
    smoothness : float
        Strength of the prior, in units of the noise's variance: that of a maximum-a-posteriori estimate does not depend
        on the noise.
    """

    spacings: tuple[float, ...] = (1.3, 1.05, 0.9)
    pose_rounds: int = 24
    final_rounds: int = 6
    still: float = 0.01
    pose_steps: int = 2
    rounds: int = 4
    iterations: int = 4
    smoothness: float = 0.2


_STALLED = 0.95  # of the motion in the turn before: then it is noise that moves the slices
_ARM = 25.0  # mm, of a pixel from the centre of its slice, about
_REACH = 0.5  # mm, that a slice is moved ahead at most
_POSE_SCALE = 4.0  # residual, in sigma, beyond which a pixel loses influence on its slice's pose
# A pixel whose centre is just outside the mask sees what is inside: without it the field is open at the rim.
_RIM = 1
_OUTLINE = 2  # pixels from the mask's edge inwards that say more about the mask than about the anatomy
_FIRST_ITERATIONS = 8  # of plain conjugate gradients, from nothing
_FACTORS = (2.0, 0.5)  # of the prior's usual strength, that are tried


@dataclass(eq=False)
class Fit:
    """What the joint fit found.

    Attributes
    ----------
    field : GaussianField
    pose : (S, 4, 4)
    weights : Weights
    ncc : (S,)
        Correlation of each slice with its prediction when its pose was last refined.
    held_out : float
        Root-mean-square error of the pixels left out, noise included.
    """

    field: GaussianField
    pose: NDArray[np.float64]
    weights: Weights
    ncc: NDArray[np.float64]
    held_out: float


def joint_fit(
    slices: Slices,
    inside: NDArray[np.bool_],
    settings: FitSettings,
    interleave: Sequence[int],
    random: np.random.Generator,
    tell: Tell = lambda done, total, loss: None,
    backend: Backend = CPU,
) -> Fit:
    """Fit field, poses, gains and weights to the slices.

    Parameters
    ----------
    slices : Slices
        At their registered poses, intensities near 1.
    inside : (P,) bool
        Pixels that take part; a slice without any is left out.
    settings : FitSettings
    interleave : sequence of int
        Packages of each stack, for the poses' prior.
    random : numpy Generator
        Chooses the pixels that are left out while complexity and strength are chosen.
    tell : callable
        Told how many updates of the field are done, of how many at most, and the error of the pixels left out; in the
        end these take part in the fit too.
    backend : Backend
        Where to compute, and where the field is to be.
    """
    held = hold_out(slices, dilate_in_plane(slices, inside, -_OUTLINE), random)
    steps = _Steps(tell, settings)
    data = _Examination(slices, inside, held, interleave, settings, backend, steps.told)
    first = _Lattice(data, settings.spacings[0])
    steps.begin(settings.pose_rounds)
    first.take_turns(settings.pose_rounds)
    # Edges that a coarse field cannot draw would pull at the poses.
    data.rim = data.around
    best = _choose(first, settings, steps)
    log.debug("Gaussians %.2f mm apart, prior at %.2f times its usual strength", best.spacing, best.factor)
    error = best.error
    data.fitted = data.inside
    steps.begin(settings.final_rounds)
    best.take_turns(settings.final_rounds)
    steps.begin(settings.rounds)
    best.improve(settings.rounds)
    return Fit(prune(best.field), data.slices.pose, data.weights, data.ncc, error)


def _choose(best: _Lattice, settings: FitSettings, steps: _Steps) -> _Lattice:
    """The lattice and the strength of the prior that predict the pixels left out best, among those tried.

    What a trial did that was not better is undone, and a lattice that is not used any more gives back its memory.
    """
    data = best.data
    steps.begin(len(settings.spacings) * settings.rounds)
    best.improve(settings.rounds)
    for spacing in settings.spacings[1:]:
        weights = data.weights
        best.forward_model.free_scratch()
        finer = _Lattice(data, spacing, best.field)
        if finer.improve(settings.rounds, best.error) >= best.error:
            data.weights = weights
            finer.release()
            break
        best.release()
        best = finer
    steps.begin(len(_FACTORS) * (settings.rounds // 2))
    for factor in _FACTORS:
        weights = data.weights
        other = best.with_prior(factor)
        if other.improve(settings.rounds // 2, best.error) < best.error:
            return other
        data.weights = weights
    return best


class _Steps:
    """Counts the updates of the field, part by part, for the progress."""

    def __init__(self, tell: Tell, settings: FitSettings) -> None:
        self.tell, self.done, self.end = tell, 0, 0
        trials = len(settings.spacings) * settings.rounds + len(_FACTORS) * (settings.rounds // 2)
        self.total = settings.pose_rounds + trials + settings.final_rounds + settings.rounds

    def begin(self, most: int) -> None:
        """A part begins, of so many updates at most; those that the part before did without count as done."""
        self.done, self.end = self.end, self.end + most

    def told(self, error: float) -> None:
        """One more update is done, with this error of the pixels left out."""
        self.done += 1
        self.tell(self.done, self.total, error)


class _Examination:
    """What was measured, and what is known about it besides the field: poses, gains and weights."""

    def __init__(
        self,
        slices: Slices,
        inside: NDArray[np.bool_],
        held: NDArray[np.bool_],
        interleave: Sequence[int],
        settings: FitSettings,
        backend: Backend,
        told: Callable[[float], None] = lambda error: None,
    ) -> None:
        seen = dilate_in_plane(slices, inside, _RIM)
        # Where a stack was cut out nothing was measured beside the mask, but the field goes on.
        around = seen & ~inside & slices.measured
        self.slices = replace(slices, mask=seen)
        self.interleave, self.settings, self.backend, self.told = interleave, settings, backend, told
        self.pixels = backend.tensor(slices.pixels)
        self.inside, self.held, self.around = (backend.tensor(x, torch.bool) for x in (inside, held, around))
        self.rim: Tensor | None = None
        self.fitted = self.inside & ~self.held
        self.noise = noise_level(slices, self.inside, backend)
        self.weights = initial_weights(slices, self.fitted)
        self.ncc = np.ones(len(slices))

    def refine_poses(self, field: GaussianField, forward_model: ForwardModel) -> None:
        """Gauss-Newton steps of all poses against a field."""
        scale = np.full(len(self.slices), _POSE_SCALE * self.weights.sigma)
        given = (self.pixels, self.fitted, self.weights.gain, scale)
        prior = time_prior(self.slices, self.weights.slice, self.interleave)
        steps = self.settings.pose_steps
        found = align(field, self.slices, *given, iterations=steps, forward_model=forward_model, prior=prior)
        self.slices, self.ncc = self.slices.with_poses(found.pose), found.ncc

    def along(self, step: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        """Mean inner product of two steps (S, 6) of the slices that count, mm^2."""
        trust = self.weights.slice * sum_over_slices(self.fitted, self.slices)
        return float(np.average(_products(step, other), weights=trust)) if trust.any() else 0.0

    def motion(self, step: NDArray[np.float64]) -> float:
        """Root-mean-square size of a step, mm."""
        return math.sqrt(self.along(step, step))

    def reweight(self, image: Tensor) -> float:
        """Set gains and weights to what the prediction for gain 1 says; the error of the pixels left out."""
        self.weights = reweight(self.slices, self.pixels, image, self.fitted, self.weights, self.rim)
        return held_out_error(self.slices, self.held, self.pixels, image, self.weights)


class _Lattice:
    """A lattice of Gaussians over an examination, and the prior on it."""

    def __init__(self, data: _Examination, spacing: float, like: GaussianField | None = None) -> None:
        self.data, self.factor = data, 1.0
        self.spacing = spacing * float(np.median(data.slices.step))
        self.field = lattice(data.slices, self.spacing, data.backend.device)
        if like is not None:
            self.field.amplitudes = lattice_like(like, self.field, self.spacing, data.backend)
        self.forward_model = data.backend.forward_model(data.slices)
        set_geometry(self.forward_model, self.field, data.slices.pose)
        self.prior = Curvature(self.field, self.spacing, data.backend)
        self.preconditioner = Preconditioner(self.prior, data.slices, data.backend)
        self._coverage = self.forward_model.adjoint(data.weights.total(data.slices), data.weights.gain)
        self.error = math.inf
        self._look()
        if like is None:
            # Plain conjugate gradients do what is large first; the preconditioner makes them do all scales at once.
            first = AmplitudeSolver(self.forward_model, len(self.field), self.prior.apply)
            self._solve(first, _FIRST_ITERATIONS)

    def _look(self) -> None:
        """Prepare for the slices where the forward model has them."""
        self.solver = AmplitudeSolver(self.forward_model, len(self.field), self.prior.apply, self.preconditioner.apply)
        self.image: Tensor | None = None

    def _solve(self, solver: AmplitudeSolver, iterations: int) -> Tensor:
        """Take the amplitudes nearer to their optimum under prior, gains and weights as they are now; their image."""
        data, weights = self.data, self.data.weights
        # Without noise the prior still says what is where nothing was measured.
        strength = self.factor * data.settings.smoothness * max(data.noise, LEAST_NOISE) ** 2
        self.prior.reweight(self.field.amplitudes, strength)
        self.preconditioner.update(self._coverage)
        # w (g y - p)^2 = w g^2 (y - p / g)^2: the image is that for gain 1, whatever the gains become.
        gain, ones = broadcast_to_pixels(weights.gain, data.slices, data.backend.device), np.ones(len(data.slices))
        given = (data.pixels / gain, weights.total(data.slices) * gain**2, ones)
        self.field.amplitudes, self.image = solver.solve(*given, self.field.amplitudes, iterations, self.image)
        return self.image

    def with_prior(self, factor: float) -> _Lattice:
        """The same field under a prior of another strength, in units of the usual one."""
        other = copy.copy(self)
        other.field, other.factor = replace(self.field), factor
        return other

    def release(self) -> None:
        """Give back what takes memory; field and error stay."""
        del self.forward_model, self.solver, self.prior, self.preconditioner, self._coverage, self.image

    def take_turns(self, rounds: int) -> None:
        """Field and poses in turn, so many times or until the slices come no closer; the lattice stays where it is.

        Where few slices cross, field and slices give way together, a little in every turn. So the poses are moved ahead
        in the direction in which they are going (Nesterov, Soviet Mathematics Doklady 27, 1983, 372-376), afresh when
        they turn back (O'Donoghue and Candes, Foundations of Computational Mathematics 15, 2015, 715-732).
        """
        data, ahead, moved, before = self.data, 0, math.inf, self.data.slices.pose
        for turn in range(rounds):
            self.improve(1)
            start = data.slices.pose
            data.refine_poses(self.field, self.forward_model)
            pose = data.slices.pose
            step, going = (slice_steps(pose, since) for since in (start, before))
            previous, moved = moved, data.motion(step)
            last = turn + 1 == rounds or moved < data.settings.still or moved > _STALLED * previous
            ahead = ahead + 1 if data.along(step, going) > 0 else 0
            if not last:
                data.slices = data.slices.with_poses(step_slices(pose, _limited(ahead / (ahead + 3) * going)))
            before = pose
            set_geometry(self.forward_model, self.field, data.slices.pose)
            self._look()
            if last:
                break

    def improve(self, rounds: int, rival: float = math.inf) -> float:
        """Update prior, amplitudes, gains and weights in turn; the error of the pixels left out.

        It ends early where that error will not fall below a rival's: what an update gains becomes less from one to the
        next, so that it comes no further than the last one did times those that are left.
        """
        data = self.data
        for left in reversed(range(rounds)):
            before = self.error
            self.error = data.reweight(self._solve(self.solver, data.settings.iterations))
            data.told(self.error)
            if left and self.error - left * max(before - self.error, 0.0) >= rival:
                break
        return self.error


def _products(step: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) inner products of two steps (S, 6), mm^2."""
    return np.asarray((step[:, :3] * other[:, :3] + _ARM**2 * step[:, 3:] * other[:, 3:]).sum(axis=1))


def _limited(step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps (S, 6), none longer than `_REACH`."""
    size = np.sqrt(_products(step, step))
    return step * np.minimum(1.0, _REACH / np.maximum(size, 1e-12))[:, None]
