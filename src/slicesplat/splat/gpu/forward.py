"""The forward model and its adjoint on a GPU: PyTorch's tensors, and Triton's kernels launched on them."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from slicesplat.geometry.reach import FIT_CUTOFF, LIST_MARGIN
from slicesplat.geometry.slices import Slices
from slicesplat.splat.gpu.gather import moments, sum_pairs
from slicesplat.splat.gpu.gradients import gradients_of_gaussians, gradients_of_pairs, sum_poses
from slicesplat.splat.gpu.pairs import PairList, list_pairs
from slicesplat.splat.gpu.pose import misfit, normal_equations, pose_polynomials, splat_poses
from slicesplat.splat.gpu.project import project
from slicesplat.splat.gpu.splat import splat
from slicesplat.splat.gpu.tabulate import tabulate
from slicesplat.splat.gpu.views import TILE, Geometry, Views
from slicesplat.splat.model import MAX_CUTOFF, Misfits, PoseSystems, Values

_PAIR_BLOCK = 16
_PIXEL_CHUNK = 32
_BLOCK = 128
_GAUSSIAN_BLOCK = 32
# Numbers per pair: what a pixel needs, the box, gradients by the Gaussian, by the pose, and a pose's polynomials.
_FLAT, _WINDOW, _PAIR, _POSE, _COEFFICIENTS = 8, 4, 10, 16, 27
# Said outright, because Triton's own default differs between versions.
_OPTIONS = {"enable_fp_fusion": True}


class GpuForwardModel:
    """`slicesplat.splat.ForwardModel` of a set of slices on a CUDA device.

    Returns tensors on `device`; takes those, and others and arrays, which it copies there. Given tensors on the device,
    nothing waits for it except `set_geometry` when it has to decide whether the list of pairs still holds, and the
    making of a new list.

    Parameters
    ----------
    slices : Slices
        Geometry of the images; poses are given with every call of `set_geometry`.
    cutoff : float
        Mahalanobis distance beyond which a Gaussian does not reach a pixel; at most 5.
    device : str or torch.device
        A CUDA device; "cpu" with Triton's interpreter only, to test the kernels.
    margin : float
        How much too generous a list of pairs is, mm: how far things may move before it has to be made anew.
    """

    def __init__(
        self,
        slices: Slices,
        cutoff: float = FIT_CUTOFF,
        device: str | torch.device = "cuda",
        margin: float = LIST_MARGIN,
    ) -> None:
        if not 0 < cutoff <= MAX_CUTOFF:
            raise ValueError(f"cutoff {cutoff} is not in (0, {MAX_CUTOFF}]")
        self.cutoff = float(cutoff)
        self.device = torch.device(device)
        self.backend = "interpreter" if self.device.type == "cpu" else self.device.type
        self.margin = float(margin)
        self.views = Views.of(slices, self.device)
        self.slices, self.pixels = self.views.slices, self.views.pixels
        self.placements = 0
        # A covariance is six numbers; those off the diagonal stand in the matrix twice.
        self._twice = torch.tensor([1, 2, 2, 1, 2, 1], dtype=torch.float64, device=self.device)
        self._pairs: PairList | None = None

    @property
    def pairs(self) -> int:
        """Number of (view, Gaussian) pairs that are listed."""
        return 0 if self._pairs is None else len(self._pairs)

    @property
    def _placed(self) -> PairList:
        if self._pairs is None:
            raise RuntimeError("no Gaussians are in place: call set_geometry first")
        return self._pairs

    def set_geometry(
        self,
        means: Values,  # (N, 3) mm
        log_scales: Values,  # (N, 3)
        quaternions: Values,  # (N, 4)
        rotations: Values,  # (S, 3, 3)
        translations: Values,  # (S, 3) mm
        rebuild: bool | None = None,
    ) -> None:
        """Set the Gaussians' shapes and the slices' poses; see `ForwardModel.set_geometry`.

        To decide whether the list of pairs still holds waits for the device. `rebuild=False` keeps it and waits for
        nothing, as a CUDA graph needs: the caller compares `moved` with `margin` every few iterations, and calls with
        True when it comes close.
        """
        self.placements += 1
        # Copies: an optimiser changes its parameters in place.
        mean, log_scales, quaternions, rotation, translation = (
            self._float(t).clone() for t in (means, log_scales, quaternions, rotations, translations)
        )
        n, covariance = len(mean), self._empty(len(mean), 7, dtype=torch.float64)
        g = self.geometry = Geometry(mean, log_scales, quaternions, rotation, translation, covariance)
        self._run(tabulate, n, g.log_scales, g.quaternions, g.covariance, n, BLOCK=_BLOCK)
        listed = self._pairs is not None and len(self._pairs.geometry) == n
        if rebuild is False and not listed:
            raise ValueError(f"no list of pairs for {n} Gaussians to keep: place them with rebuild=True")
        if rebuild or not listed or (rebuild is None and bool(self.moved() > self.margin)):
            self._pairs = list_pairs(self.views, g, self.cutoff, self.margin)
        self._flat = self._empty(self.pairs, _FLAT)
        self._window = self._empty(self.pairs, _WINDOW, dtype=torch.int32)
        views, pairs = self.views, self._placed
        self._run_pairs(
            *(project, g.mean, g.covariance, g.rotation, g.translation, views.weight, views.blur, views.plane),
            *(views.grid, views.shape, pairs.view, pairs.gaussian, self._flat, self._window, self.cutoff**2),
        )

    def free_scratch(self) -> None:
        """Nothing is given back: graphs that were captured hold on to where everything is."""

    def moved(self) -> Tensor:
        """A bound, mm, on how far anything has moved or grown since the list was made; 0-d, on the device.

        Growth: |sqrt(a) - sqrt(b)| <= |a - b| / (2 sqrt(blur)) for variances a, b of at least `blur`.
        """
        now, then = self.geometry, self._placed.geometry
        bound = torch.zeros((), dtype=torch.float64, device=self.device)
        if len(now):
            shift = (now.mean - then.mean).norm(dim=1)
            change = ((now.covariance - then.covariance)[:, :6].square() * self._twice).sum(dim=1)
            bound = bound + (shift + self.cutoff * (change / self.views.narrowest).sqrt() / 2).max()
        if self.slices:
            turn = (now.rotation - then.rotation).flatten(1).norm(dim=1)
            bound = bound + ((now.translation - then.translation).norm(dim=1) + turn * self.views.radius).max()
        return bound

    def apply(self, amplitudes: Values, gains: Values) -> Tensor:
        """Simulated pixels (P,) float32 for amplitudes (N,) and gains (S,)."""
        out = self._empty(self.pixels)
        self._run_tiles(splat, self._flat, self._peaks(amplitudes), self._float(gains, torch.float32), out=(out,))
        return out

    def adjoint(self, upstream: Values, gains: Values) -> Tensor:
        """The transpose of `apply` as a linear map of the amplitudes: (P,) to (N,) float32."""
        slice_of = torch.div(self._placed.view, self.views.components, rounding_mode="floor")
        level = self._moments(upstream)[:, 0] * self._flat[:, 0] * self._float(gains, torch.float32)[slice_of]
        return self._sum_pairs(level[:, None].contiguous())[:, 0].float()

    def vjp(self, upstream: Values, amplitudes: Values, gains: Values) -> tuple[Tensor, Tensor]:
        """Gradients (N, 11) by the Gaussians, (S, 13) by the poses and gains; see `ForwardModel.vjp`."""
        amplitudes, gains = self._float(amplitudes), self._float(gains)
        pair, pose = self._empty(self.pairs, _PAIR), self._empty(self.pairs, _POSE, dtype=torch.float64)
        g, n = self.geometry, len(self.geometry)
        self._run_pairs(
            *(gradients_of_pairs, *self._seen(), self._flat, self._moments(upstream), amplitudes, gains),
            *(pair, pose),
        )
        gaussians = self._empty(n, 11)
        self._run(
            *(gradients_of_gaussians, n, g.log_scales, g.quaternions, amplitudes, self._sum_pairs(pair), gaussians, n),
            BLOCK=_BLOCK,
        )
        summed = self._empty(self.slices, _POSE, dtype=torch.float64)
        if self.slices:
            sum_poses[(self.slices,)](pose, self._placed.slice_start, summed, BLOCK=_BLOCK, **_OPTIONS)
        turned = g.rotation @ torch.cat([summed[:, :9].reshape(-1, 3, 3), summed[:, 9:12, None]], dim=2)
        return gaussians, torch.cat([turned[:, :, :3].flatten(1), turned[:, :, 3], summed[:, 12:13]], dim=1)

    def pose_jacobian(self, amplitudes: Values) -> Tensor:
        """Derivatives by the slices' poses and, last, images for gain 1: (7, P); see `ForwardModel.pose_jacobian`."""
        polynomials = self._empty(self.pairs, _COEFFICIENTS)
        self._run_pairs(pose_polynomials, *self._seen(), polynomials)
        out = self._empty(7, self.pixels)
        self._run_tiles(splat_poses, self._flat, self._peaks(amplitudes), polynomials, out=(out, self.pixels))
        return out

    def pose_normal_equations(
        self, amplitudes: Values, gains: Values, pixels: Values, weights: Values, scale: Values
    ) -> PoseSystems:
        """Gauss-Newton system of every slice; see `ForwardModel.pose_normal_equations`."""
        derivatives = self.pose_jacobian(amplitudes)
        given = self._observed(gains, pixels, weights, scale)
        system = self._empty(self.slices, 8, 8, dtype=torch.float64)
        if self.slices:
            normal_equations[(self.slices, 7)](derivatives, *given, system, self.pixels, BLOCK=_BLOCK, **_OPTIONS)
        return PoseSystems(system[:, :7, :7], system[:, :7, 7], *self._misfits(derivatives[6], given))

    def misfits(self, amplitudes: Values, gains: Values, pixels: Values, weights: Values, scale: Values) -> Misfits:
        """Robust misfit of every slice; see `ForwardModel.misfits`."""
        image = self.apply(amplitudes, torch.ones(self.slices))
        return self._misfits(image, self._observed(gains, pixels, weights, scale))

    def _observed(self, gains: Values, pixels: Values, weights: Values, scale: Values) -> tuple[Tensor, ...]:
        """What the image is held against, as kernels take it."""
        measured = (self._float(pixels, torch.float32), self._float(weights, torch.float32))
        return (self._float(gains), *measured, self._float(scale), self.views.shape)

    def _misfits(self, image: Tensor, observed: tuple[Tensor, ...]) -> Misfits:
        sums = self._empty(self.slices, 7, dtype=torch.float64)
        if self.slices:
            misfit[(self.slices,)](image, *observed, sums, BLOCK=_BLOCK, **_OPTIONS)
        return Misfits(sums[:, 0], sums[:, 1:])

    def _empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def _float(self, values: Values, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.as_tensor(values).detach().to(self.device, dtype).contiguous()

    def _seen(self) -> tuple[Tensor, ...]:
        """The pairs, and what of Gaussians and views gives their geometry, as kernels take them."""
        g, views, pairs = self.geometry, self.views, self._placed
        return (
            *(g.mean, g.covariance, g.rotation, g.translation, views.blur, views.plane, views.grid),
            *(pairs.view, pairs.gaussian),
        )

    def _run(self, kernel: Any, count: int, *arguments: Any, BLOCK: int) -> None:
        """One lane per item; a launch without programs is an error on a device."""
        if count:
            kernel[(triton.cdiv(count, BLOCK),)](*arguments, BLOCK=BLOCK, **_OPTIONS)

    def _run_pairs(self, kernel: Any, *arguments: Any) -> None:
        if self.pairs:
            grid = (triton.cdiv(self.pairs, _BLOCK),)
            kernel[grid](*arguments, self.pairs, COMPONENTS=self.views.components, BLOCK=_BLOCK, **_OPTIONS)

    def _run_tiles(self, kernel: Any, *arguments: Any, out: tuple[Any, ...]) -> None:
        tiles = self.views.tiles
        if len(tiles):
            lists = (tiles, self.views.shape, self._placed.entry_start, self._placed.entry)
            kernel[(len(tiles),)](*arguments, *lists, *out, TILE=TILE, num_warps=TILE * TILE // 32, **_OPTIONS)

    def _peaks(self, amplitudes: Values) -> Tensor:
        """What every pair adds at its centre: (Q,) float32."""
        return self._flat[:, 0] * self._float(amplitudes, torch.float32)[self._placed.gaussian]

    def _moments(self, upstream: Values) -> Tensor:
        """Six sums over the pixels of every pair: (Q, 6) float32."""
        out, views = self._empty(self.pairs, 6), self.views
        if self.pairs:
            moments[(triton.cdiv(self.pairs, _PAIR_BLOCK),)](
                *(self._flat, self._window, self._placed.view, views.shape, self._float(upstream, torch.float32), out),
                self.pairs,
                COMPONENTS=views.components,
                BLOCK=_PAIR_BLOCK,
                CHUNK=_PIXEL_CHUNK,
                **_OPTIONS,
            )
        return out

    def _sum_pairs(self, values: Tensor) -> Tensor:
        """Sums over the pairs of every Gaussian: (Q, columns) to (N, columns) float64."""
        n, columns = len(self.geometry), values.shape[1]
        out = self._empty(n, columns, dtype=torch.float64)
        if n:
            lists = (self._placed.gaussian_start, self._placed.pair_of)
            grid = (triton.cdiv(n, _GAUSSIAN_BLOCK), columns)
            sum_pairs[grid](values, columns, *lists, out, n, BLOCK=_GAUSSIAN_BLOCK, num_warps=1, **_OPTIONS)
        return out
