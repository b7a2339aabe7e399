"""The objective of a reconstruction, on a field of fixed shapes, and its minimisation block by block.

    Phi(a, T, g) = sum_p rho((g_s (A(T) a)_p - y_p) / sigma)  +  lambda E(V_a)

    forward model   A(T): amplitudes to pixels through every slice's PSF at its motion (`splat`)
    likelihood      rho: Gaussian noise with outliers, pixels and whole slices, as weights w (`likelihood.robust`)
    prior           E: few places are curved (`priors`); lambda in units of the variance of the noise

Each block minimises a majoriser of it, for the others as they are:

    amplitudes   1/2 sum w_p (g_s (A a)_p - y_p)^2 + 1/2 a' P a, P the form that touches lambda E (`irls_sweep`)
    gains        sum_p w_p (g_s (A a)_p - y_p)^2, drawn to 1 a little (`likelihood.robust.fit_gains`)
    weights      pixels: those of an M-estimator; slices and sigma: robust scales (`likelihood.robust.reweight`)
    poses        sum_p w_p (g_s (A(T) a)_p - y_p)^2, the same w, and the time prior (`refine_poses`)

docs/method.md, Objective, says where they differ and what that does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from slicesplat.config import FitSettings, TimePriorSettings
from slicesplat.estimate.basis import Basis, Preconditions
from slicesplat.estimate.gauss_newton import JointSystem
from slicesplat.estimate.observations import Estimate, Observations
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.geometry.rigid import Float, Rigid, limited
from slicesplat.likelihood.bias_step import bias_step
from slicesplat.likelihood.robust import LEAST_NOISE, Weights, reweight
from slicesplat.likelihood.validation import validation_error
from slicesplat.motion.align import NEIGHBOURING_PIXELS, align, pose_covariance
from slicesplat.motion.motion_prior import motion_prior, spread
from slicesplat.motion.posterior import rms_displacement, shown_by_others
from slicesplat.motion.time_prior import time_prior
from slicesplat.priors import QuadraticPrior
from slicesplat.solvers.amplitudes import AmplitudeSolver
from slicesplat.splat import ForwardModel, set_geometry

_HELD = 1e-6  # so little that its neighbours alone place a slice, and its correlation is known all the same
_LONGEST = 2.0  # mm, of a step of amplitudes and poses together: field and slices are linear in them for about so long
_UNLIMITED = 1e4  # sigma; no residual is as large: the weights are those of the field, and stay during the steps


@dataclass(frozen=True, eq=False)
class _Parts:
    """What a workspace holds."""

    forward_model: ForwardModel
    prior: QuadraticPrior
    preconditioner: Preconditions
    coverage: Tensor


class Workspace:
    """Memory for one basis: the forward model and what depends on where it has the slices.

    It is no part of any estimate: whatever it holds is found again from one, so that it can be given back at any time.

    Parameters
    ----------
    observations : Observations
    basis : Basis
    weights : Weights
        Those at the beginning, near enough for the preconditioner.
    motion : Rigid (S)
        That at the beginning.
    settings : FitSettings
    """

    def __init__(
        self, observations: Observations, basis: Basis, weights: Weights, motion: Rigid, settings: FitSettings
    ) -> None:
        self.backend, self.slices, self.basis = observations.backend, observations.slices, basis
        self.shapes = basis.shapes()
        self._weights, self._first, self._prior = weights, motion, settings.prior
        self._kept: _Parts | None = None
        self._motion: Rigid | None = None
        self._solver: AmplitudeSolver | None = None

    @property
    def _parts(self) -> _Parts:
        if self._kept is None:
            forward_model, here = self.backend.forward_model(self.slices), self.slices.moved(self._first)
            set_geometry(forward_model, self.shapes, here.pose)
            self._motion = self._first
            prior, preconditioner = self.basis.prior(self._prior, here, self.backend)
            coverage = forward_model.adjoint(self._weights.total(self.slices), self._weights.gain)
            self._kept = _Parts(forward_model, prior, preconditioner, coverage)
        return self._kept

    def solver(self, motion: Rigid, preconditioned: bool) -> AmplitudeSolver:
        """For the amplitudes with the slices there and the prior as it was majorised last."""
        parts = self._parts
        if motion is not self._motion:
            set_geometry(parts.forward_model, self.shapes, self.slices.moved(motion).pose)
            self._motion, self._solver = motion, None
        given = (parts.forward_model, len(self.shapes), parts.prior.matvec)
        if not preconditioned:
            return AmplitudeSolver(*given)
        if self._solver is None:
            self._solver = AmplitudeSolver(*given, parts.preconditioner.matvec)
        return self._solver

    def lent(self) -> ForwardModel:
        """The forward model, to be used with the slices anywhere."""
        parts = self._parts
        self._motion = self._solver = None
        return parts.forward_model

    def system(self, motion: Rigid) -> tuple[ForwardModel, QuadraticPrior, Preconditions]:
        """What the amplitudes' normal equations are made of, with the slices there."""
        forward_model = self.lent()
        set_geometry(forward_model, self.shapes, self.slices.moved(motion).pose)
        return forward_model, self._parts.prior, self._parts.preconditioner

    def majorise(self, amplitudes: Tensor, strength: float) -> None:
        """Set prior and preconditioner to what they are about these amplitudes."""
        parts = self._parts
        parts.prior.majorise(amplitudes, strength)
        parts.preconditioner.update(parts.coverage)

    def free_scratch(self) -> None:
        """Give back the memory of what is quickly found again when it is needed next."""
        self._parts.forward_model.free_scratch()

    def release(self) -> None:
        """Give back all memory, until there is work again."""
        self._kept = self._solver = self._motion = None


class Objective:
    """Phi on a basis: the assembly of forward model, likelihood and prior.

    Parameters
    ----------
    workspace : Workspace
        Of the basis.
    settings : FitSettings
    time : TimePriorSettings
    strength : float
        Of the prior, in units of its usual one.
    """

    def __init__(
        self, workspace: Workspace, settings: FitSettings, time: TimePriorSettings, strength: float = 1.0
    ) -> None:
        self.workspace, self.settings, self.time, self.strength = workspace, settings, time, strength

    @property
    def spacing(self) -> float:
        """Constant of the lattice that the prior is on, mm."""
        return self.workspace.basis.lattice.spacing

    def release(self, kept: Objective) -> None:
        """Give back the memory that an objective that is kept does not use."""
        if self.workspace is not kept.workspace:
            self.workspace.release()

    def with_strength(self, strength: float) -> Objective:
        """The same under a prior of another strength, in units of the usual one."""
        return Objective(self.workspace, self.settings, self.time, strength)

    def amplitudes(
        self, observations: Observations, estimate: Estimate, iterations: int, preconditioned: bool = True
    ) -> Estimate:
        """Amplitudes nearer to their optimum, under prior, gains and weights as they are."""
        self._majorise(observations, estimate)
        slices, weights = observations.slices, estimate.weights
        # w (g y - p)^2 = w g^2 (y - p / g)^2: the image is that for gain 1, whatever the gains become.
        gain, ones = weights.brightness(slices), np.ones(len(slices))
        given = (observations.pixels / gain, weights.total(slices) * gain**2, ones)
        solver = self.workspace.solver(estimate.motion, preconditioned)
        return estimate.with_amplitudes(*solver.solve(*given, estimate.field.amplitudes, iterations, estimate.image))

    def _majorise(self, observations: Observations, estimate: Estimate) -> None:
        """Set the form of the field's prior to what it is about these amplitudes."""
        # Without noise the prior still says what is where nothing was measured.
        strength = self.strength * self.settings.smoothness * max(observations.noise.independent, LEAST_NOISE) ** 2
        self.workspace.majorise(estimate.field.amplitudes, strength)

    def weights(self, observations: Observations, estimate: Estimate) -> Estimate:
        """Gains, noise level and weights as the prediction says, and its error at the validation pixels."""
        if estimate.image is None:
            raise ValueError("the estimate has no prediction: find the amplitudes at its motion first")
        lit = self.bias_fields(observations, estimate)
        image, slices, settings = lit.image, observations.slices, self.settings.likelihood
        assert image is not None
        if lit is not estimate:
            estimate = replace(lit, image=None)  # that is the first order of what the volume's factor does
        judged = (observations.fitted, estimate.weights, observations.rim)
        undrawn = settings.undrawn * (self.spacing / (self.settings.spacings[0] * observations.pixel_spacing)) ** 2
        weights = reweight(slices, observations.pixels, image, *judged, settings, undrawn)
        if observations.belief is not None:
            weights = replace(weights, slice=weights.slice * observations.belief)
        given = (observations.validation, observations.pixels, image, weights)
        return replace(estimate, weights=weights, error=validation_error(slices, *given, settings.pixel_limit))

    def bias_fields(self, observations: Observations, estimate: Estimate) -> Estimate:
        """Bias fields nearer to their optimum, and the field without what they have taken from it.

        The image is that of the new amplitudes to first order. Without bias fields nothing changes.
        """
        slices, weights, image = observations.slices.moved(estimate.motion), estimate.weights, estimate.image
        bias, settings = weights.bias, self.settings.likelihood.bias_field
        if bias is None or settings is None or image is None:
            return estimate
        given = (observations.pixels, weights.brightness(slices) * image, weights.total(slices) * observations.fitted)
        steps, volume = bias_step(bias, slices, *given, weights.gain, weights.sigma, settings)
        means = estimate.field.means.double().cpu().numpy()
        factor = bias.light(means, volume)
        amplitudes = estimate.field.amplitudes * observations.backend.tensor(factor.astype(np.float32))
        image = image * bias.factor(slices, slices.pose, np.tile(volume, (len(slices), 1)))
        lit = replace(weights, bias=bias.plus(slices, steps))
        return replace(estimate.with_amplitudes(amplitudes, image), weights=lit)

    def irls_sweep(self, observations: Observations, estimate: Estimate, iterations: int | None = None) -> Estimate:
        """One sweep of iteratively reweighted least squares: amplitudes, then gains and weights."""
        steps = self.settings.iterations if iterations is None else iterations
        return self.weights(observations, self.amplitudes(observations, estimate, steps))

    def refine_poses(self, observations: Observations, estimate: Estimate) -> Estimate:
        """Gauss-Newton steps of all poses against the field."""
        slices, weights = observations.slices.moved(estimate.motion), estimate.weights
        pixels, counted, trust = _of_poses(observations, estimate)
        sigma = np.full(len(slices), weights.sigma)
        prior = time_prior(slices, trust, self.time)
        found = align(
            *(estimate.field, slices, pixels, counted, weights.gain, _UNLIMITED * sigma),
            iterations=self.settings.pose_steps,
            forward_model=self.workspace.lent(),
            prior=prior,
            sigma=sigma,
            linear=self.settings.linear * self.spacing,
        )
        expected = prior.pose @ ~slices.frame
        return estimate.moved(expected.where(estimate.held, found.motion), found.ncc)

    def spread(self, observations: Observations, estimate: Estimate) -> tuple[float, float]:
        """How far, mm and rad, slices stray from their stack's mean motion."""
        slices = observations.slices.moved(estimate.motion)
        return spread(slices, estimate.weights.slice * ~estimate.held, self.time)

    def joint_sweep(self, observations: Observations, estimate: Estimate, wide: tuple[float, float]) -> Estimate:
        """A Gauss-Newton step of amplitudes and poses together, then a sweep of the field where the slices are then.

        The motions' prior is so many mm and rad wide about the stacks' means.
        """
        self._majorise(observations, estimate)
        slices, weights = observations.slices.moved(estimate.motion), estimate.weights
        forward_model, prior, preconditioner = self.workspace.system(estimate.motion)
        amplitudes, gain = estimate.field.amplitudes, weights.brightness(slices)
        jacobian = forward_model.pose_jacobian(amplitudes)
        # What the rim shows places nothing; slices that are held go where their neighbours go.
        placed = observations.fitted * broadcast_to_pixels(~estimate.held, slices, gain.device)
        system = JointSystem(
            slices=slices,
            forward_model=forward_model,
            jacobian=jacobian[:6] * placed,
            weights=weights.total(slices) * gain**2,
            prior=prior.matvec,
            preconditioner=preconditioner.matvec,
            motion=motion_prior(slices, weights.slice * ~estimate.held, wide, self.time),
            variance=NEIGHBOURING_PIXELS * weights.sigma**2,
        )
        residual = jacobian[6] - observations.pixels / gain
        change, step = system.solve(residual, amplitudes, self.settings.joint_iterations)
        moved = estimate.moved(slices.pose @ Rigid.exp(limited(step, _LONGEST)) @ ~slices.frame)
        return self.irls_sweep(observations, replace(moved, field=replace(moved.field, amplitudes=amplitudes + change)))

    def pose_errors(self, observations: Observations, estimate: Estimate) -> Float:
        """Standard errors (S,) mm of the poses: root mean square over the pixels of a slice."""
        slices, weights = observations.slices.moved(estimate.motion), estimate.weights
        pixels, counted, trust = _of_poses(observations, estimate)
        sigma = np.full(len(slices), weights.sigma)
        news = shown_by_others(slices, trust, observations.backend)
        given = (estimate.field, slices, pixels, counted, weights.gain, _UNLIMITED * sigma)
        prior = time_prior(slices, trust, self.time, by_distance=True)
        covariance = pose_covariance(*given, sigma / np.sqrt(news), self.workspace.lent(), prior)
        return rms_displacement(covariance, slices)


def _of_poses(observations: Observations, estimate: Estimate) -> tuple[Tensor, Tensor, Float]:
    """Evenly lit pixels (P,), what each counts for the poses, and by slice (S,), which speak for their neighbours."""
    slices, weights = observations.slices, estimate.weights
    free = np.where(estimate.held, _HELD, 1.0)
    # The rim helps the field to its edge, and judges nothing.
    counted = observations.fitted * weights.total(slices) * broadcast_to_pixels(free, slices, weights.pixel.device)
    pixels = observations.pixels
    if weights.bias is not None:  # w (g b y - p)^2 = w b^2 (g y - p / b)^2
        pixels, counted = pixels / weights.bias.pixel, counted * weights.bias.pixel**2
    return pixels, counted, weights.slice * free


def empty_estimate(field: GaussianField, motion: Rigid, weights: Weights) -> Estimate:
    """Where an estimate begins: a field with no amplitudes yet, and slices that fit."""
    return Estimate(field, motion, weights, np.ones(len(weights.slice)), np.zeros(len(weights.slice), bool))
