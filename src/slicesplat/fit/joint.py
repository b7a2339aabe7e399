"""The joint fit of Gaussians, slice poses, gains and robust weights.

    minimise   sum_p w_p (g_s y_p(field, pose_s) - p)^2 / sum_p w_p  +  lambda integral TV(V)

y is the exact forward model. The Gaussians (means, scales, rotations, amplitudes) follow Adam; every few iterations the
poses take Gauss-Newton steps (`motion.align`) and gains and weights are set to their optimum (`fit.weights`). The prior
is the smoothed total variation of the field itself, sampled on a coarse grid: it keeps directions in which nothing was
measured smooth and leaves edges (Rudin, Osher and Fatemi, Physica D 60, 1992, 259-268).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.field import GaussianField
from slicesplat.fit.complexity import local_misfit, noise_level, split, to_split
from slicesplat.fit.heldout import held_out_error, hold_out
from slicesplat.fit.linear import placed_lattice, solve_amplitudes
from slicesplat.fit.replay import KeptLists, Replay
from slicesplat.fit.weights import Weights, initial_weights, reweight
from slicesplat.motion.align import align
from slicesplat.motion.smooth import time_prior
from slicesplat.splat import CPU, Backend, render
from slicesplat.splat.grid import grid_slices
from slicesplat.splat.pixels import spread
from slicesplat.stack import Slices

log = logging.getLogger("slicesplat")
Tell = Callable[[int, int, float | None], None]


@dataclass(frozen=True)
class FitSettings:
    """How the joint fit goes.

    Attributes
    ----------
    spacing : float
        Lattice constant of the first Gaussians, in units of the in-plane pixel spacing.
    iterations : int
        Of Adam.
    pose_every : int
        Iterations between two refinements of the poses; they stay as they are in the last third.
    weight_every : int
        Iterations between two updates of gains and weights.
    split_at : float
        Share of the iterations after which Gaussians are split where the residual is beyond noise.
    split_excess : float
        Variance of the residual around a Gaussian, over that of the noise, above which it is split.
    smoothness : float
        Weight of the mean total variation over the region, intensity per mm, against the mean squared residual in units
        of the noise's variance: the prior of a maximum-a-posteriori estimate does not depend on the noise.
    edge : float
        Gradient, in brightest tissue per mm, above which the prior counts as an edge.
    prior_spacing : float
        Voxel size, mm, of the grid on which the prior is evaluated.
    prior_every : int
        Iterations between two evaluations of the prior, which then counts that many times.
    """

    spacing: float = 2.0
    iterations: int = 120
    pose_every: int = 15
    weight_every: int = 10
    split_at: float = 0.4
    split_excess: float = 1.2
    smoothness: float = 8.0
    edge: float = 0.02
    prior_spacing: float = 1.25
    prior_every: int = 2


# Adam's steps at the start; they fall to zero as a cosine. Means move by a fraction of the lattice constant.
_RATES = {"means": 0.025, "log_scales": 0.02, "rotations": 0.01, "amplitudes": 0.01}
_BETAS = (0.9, 0.99)
OVERFIT = 1.02  # times the least error of the pixels left out: beyond it the field fits noise
_POSE_SCALE = 4.0  # residual, in sigma, beyond which a pixel loses influence on its slice's pose


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


class TotalVariation:
    """Smoothed total variation of a field, as the mean over a region of sqrt(|grad V|^2 + edge^2) - edge.

    Parameters
    ----------
    field : GaussianField
        Its means say where the region is.
    settings : FitSettings
    backend : Backend
        Where the fields are of which it is taken.
    """

    def __init__(self, field: GaussianField, settings: FitSettings, backend: Backend = CPU) -> None:
        spacing = settings.prior_spacing
        means = field.means.detach().cpu().numpy()
        low = means.min(axis=0) - spacing
        shape = tuple(int(n) for n in np.ceil((means.max(axis=0) + spacing - low) / spacing).astype(int) + 1)
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = low
        # A trace of blur keeps a Gaussian from hiding between the voxels.
        planes = grid_slices(affine, (shape[0], shape[1], shape[2]), (0.4 * spacing) ** 2)
        self.splatter = backend.splatter(planes)
        self.rotations = backend.tensor(planes.pose[:, :3, :3].copy(), torch.float64)
        self.translations = backend.tensor(planes.pose[:, :3, 3].copy(), torch.float64)
        self.gains = torch.ones(len(planes), dtype=torch.float64, device=backend.device)
        self.shape = (shape[2], shape[0], shape[1])
        region = torch.zeros(shape)
        region[tuple(np.rint((means - low) / spacing).astype(int).T)] = 1.0
        region = torch.nn.functional.max_pool3d(region[None, None], 5, 1, 2)[0, 0].permute(2, 0, 1)
        self.region = backend.tensor(region[:-1, :-1, :-1].contiguous() / region.sum())
        self.spacing, self.edge = spacing, settings.edge

    def __call__(self, field: GaussianField, rebuild: bool | None = None) -> Tensor:
        """The prior's value, differentiable; `rebuild` as in `render`."""
        flat = render(field, self.rotations, self.translations, self.gains, self.splatter, rebuild)
        volume = flat.reshape(self.shape)
        here = volume[:-1, :-1, :-1]
        square = (
            (volume[1:, :-1, :-1] - here) ** 2 + (volume[:-1, 1:, :-1] - here) ** 2 + (volume[:-1, :-1, 1:] - here) ** 2
        ) / self.spacing**2
        return (self.region * (torch.sqrt(square + self.edge**2) - self.edge)).sum()


def start_field(
    slices: Slices, inside: Tensor, spacing: float, rounds: int = 4, backend: Backend = CPU
) -> tuple[GaussianField, Weights]:
    """A lattice of Gaussians solved for its amplitudes, alternating with gains and weights; `inside` is (P,) bool."""
    field, splatter = placed_lattice(slices, spacing, backend)
    pixels = backend.tensor(slices.pixels)
    weights = initial_weights(slices, inside)
    for _ in range(rounds):
        given = (pixels, weights.total(slices), weights.gain, field.amplitudes)
        field.amplitudes = solve_amplitudes(splatter, *given, iterations=5)
        image = splatter.splat(field.amplitudes, np.ones(len(slices)))
        weights = reweight(slices, pixels, image, inside, weights)
    return field, weights


def joint_fit(
    slices: Slices,
    inside: NDArray[np.bool_],
    settings: FitSettings,
    interleave: Sequence[int],
    random: np.random.Generator,
    tell: Tell = lambda done, total, loss: None,
    backend: Backend = CPU,
) -> Fit:
    """Fit Gaussians, poses, gains and weights to the slices.

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
        Chooses the pixels that are left out; where their error rises, the fit ends with the best field there was.
    tell : callable
        Told how many iterations are done, of how many, and the loss, which comes to the host with every update of the
        weights.
    backend : Backend
        Where to compute, and where the field is to be.
    """
    held = hold_out(slices, inside, random)
    state = _State(slices, inside & ~held, held, settings, interleave, backend)
    best: tuple[float, GaussianField] | None = None
    # A split Gaussian is worse than its parent for a moment.
    settled = (settings.split_at + 0.2) * settings.iterations
    splitting = int(settings.split_at * settings.iterations)
    loss: float | None = None
    for done in range(settings.iterations):
        if done % settings.pose_every == settings.pose_every - 1 and done < 2 * settings.iterations / 3:
            state.refine_poses()
        state.prepare(done)
        if done % settings.weight_every and done != splitting:
            state.iterate(done)
        else:
            image = state.render()
            if done % settings.weight_every == 0:
                error = state.reweight(image)
                if best is None or error < best[0] or done <= settled:
                    best = error, state.field().detach()
                elif error > OVERFIT * best[0]:
                    log.info("fit stopped after %d iterations: the error of pixels left out rises", done)
                    tell(settings.iterations, settings.iterations, None)
                    return state.result(*best)
            loss = float(state.descend(image, done))
            if done == splitting:
                state.split(image, done)
        tell(done + 1, settings.iterations, loss)
    state.prepare(settings.iterations)
    with torch.no_grad():
        error = state.error(state.render())
    return state.result(error, state.field().detach())


class _State:
    """Everything that the joint fit changes, and the moves that change it."""

    def __init__(
        self,
        slices: Slices,
        inside: NDArray[np.bool_],
        held: NDArray[np.bool_],
        settings: FitSettings,
        interleave: Sequence[int],
        backend: Backend,
    ) -> None:
        self.slices, self.backend = slices, backend
        self.settings, self.interleave = settings, interleave
        self.inside, self.held = (backend.tensor(mask, torch.bool) for mask in (inside, held))
        self.spacing = settings.spacing * float(np.median(slices.step))
        start, self.weights = start_field(slices, self.inside, self.spacing, backend=backend)
        self.noise = noise_level(slices, self.inside, backend)
        self.prior = TotalVariation(start, settings, backend) if settings.smoothness > 0 else None
        self.splatter = backend.splatter(slices)
        self.measured = backend.tensor(slices.pixels)
        self.ncc = np.ones(len(slices))
        # What an iteration reads keeps its address, and is overwritten: a graph that is replayed knows nothing else.
        self.rotations = backend.tensor(slices.pose[:, :3, :3].copy(), torch.float64)
        self.translations = backend.tensor(slices.pose[:, :3, 3].copy(), torch.float64)
        self.ones = torch.ones(len(slices), dtype=torch.float64, device=backend.device)
        self.scale, self.target = torch.zeros_like(self.measured), torch.zeros_like(self.measured)
        self.kept: KeptLists | None = None
        if backend.asynchronous:
            self.kept = KeptLists([self] if self.prior is None else [self, self.prior], _BETAS)
        self._take(start, 0)

    def _take(self, field: GaussianField, done: int) -> None:
        """Make the field's parameters the leaves of the graph, with an optimiser that moves them."""
        self.leaves = {name: value.clone().requires_grad_() for name, value in field.tensors().items()}
        self.begun = done
        self.rate = {name: torch.zeros((), device=self.backend.device) for name in self.leaves}
        groups = [{"params": [leaf], "lr": self.rate[name]} for name, leaf in self.leaves.items()]
        on_cuda = self.backend.device.type == "cuda"
        self.adam = torch.optim.Adam(groups, betas=_BETAS, fused=True, capturable=on_cuda)
        self.replays: dict[bool, Replay] = {}
        self.lists = 0
        if self.kept:
            self.kept.forget()

    def field(self) -> GaussianField:
        """The present field, part of the graph."""
        return GaussianField(**self.leaves)

    @property
    def _rebuild(self) -> bool | None:
        """Where lists are kept, they hold; elsewhere the splatter decides."""
        return False if self.kept else None

    def rates(self, done: int) -> dict[str, float]:
        """Adam's learning rates after `done` iterations."""
        share = 0.5 * (1.0 + math.cos(math.pi * min(done / self.settings.iterations, 1.0)))
        return {name: share * rate * (self.spacing if name == "means" else 1.0) for name, rate in _RATES.items()}

    def prepare(self, done: int) -> None:
        """What an iteration needs: learning rates, and on a GPU lists of pairs that hold."""
        for name, rate in self.rates(done).items():
            self.rate[name].fill_(rate)
        if self.kept:
            self.kept.hold(self.field(), done - self.begun + 1, lambda ahead: self.rates(done + ahead))
            if self.kept.made != self.lists:
                self.replays.clear()
                self.lists = self.kept.made

    def render(self) -> Tensor:
        """Every pixel (P,) as the present field predicts it for gain 1."""
        return render(self.field(), self.rotations, self.translations, self.ones, self.splatter, self._rebuild)

    def refine_poses(self) -> None:
        """Gauss-Newton steps of all poses against the present field."""
        scale = np.full(len(self.slices), _POSE_SCALE * self.weights.sigma)
        data = (self.measured, self.inside, self.weights.gain, scale)
        prior = time_prior(self.slices, self.weights.slice, self.interleave)
        found = align(self.field(), self.slices, *data, iterations=2, splatter=self.splatter, prior=prior)
        self.slices, self.ncc = self.slices.with_poses(found.pose), found.ncc
        self.rotations.copy_(torch.from_numpy(self.slices.pose[:, :3, :3]))
        self.translations.copy_(torch.from_numpy(self.slices.pose[:, :3, 3]))
        if self.kept:
            self.kept.forget()

    def reweight(self, image: Tensor) -> float:
        """Set gains and weights to what the prediction says; the error of the pixels left out."""
        predicted = image.detach()
        self.weights = reweight(self.slices, self.measured, predicted, self.inside, self.weights)
        # The misfit as a plain sum of squares, of as few passes over the pixels as possible.
        weight = self.weights.total(self.slices)
        root = torch.sqrt(weight / weight.sum(dtype=torch.float64).clamp(min=1e-12)).float()
        self.scale.copy_(root * self._gain())
        self.target.copy_(root * self.measured)
        return self.error(predicted)

    def _gain(self) -> Tensor:
        """(P,) every pixel's gain."""
        return spread(self.weights.gain, self.slices, self.backend.device)

    def error(self, image: Tensor) -> float:
        """The error of the pixels left out."""
        return held_out_error(self.slices, self.held, self.measured, image.detach(), self.weights)

    def descend(self, image: Tensor, done: int) -> Tensor:
        """One step of Adam, `done` of them lying behind; the misfit."""
        self.adam.zero_grad()
        misfit = (self.scale * image - self.target).square().sum()
        loss = misfit
        if self.prior is not None and done % self.settings.prior_every == 0:
            strength = self.settings.smoothness * self.noise**2 * self.settings.prior_every
            loss = misfit + strength * self.prior(self.field(), self._rebuild)
        loss.backward()
        self.adam.step()
        return misfit.detach()

    def step(self, done: int) -> None:
        """Render and descend: an iteration of which nothing comes to the host."""
        self.descend(self.render(), done)

    def iterate(self, done: int) -> None:
        """An iteration, on a CUDA device as a graph: one of those with the prior or one of those without."""
        if self.backend.device.type != "cuda":
            self.step(done)
            return
        with_prior = done % self.settings.prior_every == 0
        if with_prior not in self.replays:
            self.replays[with_prior] = Replay(partial(self.step, done))
        self.replays[with_prior]()

    def split(self, image: Tensor, done: int) -> None:
        """Split Gaussians where the residual is beyond noise."""
        residual = self._gain() * image.detach() - self.measured
        misfit = local_misfit(self.splatter, residual, self.weights.total(self.slices), self.weights.gain)
        before = self.field().detach()
        chosen = to_split(before, misfit, self.noise, self.settings.split_excess, self.slices)
        self._take(split(before, chosen), done + 1)
        log.debug("Gaussians: %d, of which %d are split in two: residual beyond noise", len(before), int(chosen.sum()))

    def result(self, error: float, field: GaussianField) -> Fit:
        """The fit that ends with this field."""
        return Fit(field, self.slices.pose, self.weights, self.ncc, error)
