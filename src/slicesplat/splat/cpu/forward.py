"""The forward model and its adjoint on the CPU: numba, float32 pixels, as many threads as numba is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from slicesplat.geometry.reach import FIT_CUTOFF, LIST_MARGIN
from slicesplat.geometry.slices import Slices
from slicesplat.splat.cpu.gather import gather, gather_separable, sum_pairs
from slicesplat.splat.cpu.gradients import PAIR_GRADIENTS, POSE_GRADIENTS, gradients_of_gaussians, gradients_of_pairs
from slicesplat.splat.cpu.misfit import slice_misfits
from slicesplat.splat.cpu.pairs import BLOCK, bound_blocks, list_pairs, moves, pairs_of_gaussians
from slicesplat.splat.cpu.pose import UNKNOWNS, pose_derivatives, pose_systems
from slicesplat.splat.cpu.project import PAIR_FIELDS, count_pixels, project
from slicesplat.splat.cpu.separable import SEPARABLE_FIELDS, project_separable, rows_of_windows
from slicesplat.splat.cpu.simd import LANES
from slicesplat.splat.cpu.splat import splat, splat_separable
from slicesplat.splat.cpu.tabulate import GAUSSIAN_COLUMNS, tabulate
from slicesplat.splat.cpu.threads import in_parts
from slicesplat.splat.model import MAX_CUTOFF, Misfits, PoseSystems

Float = NDArray[np.float64]

_LISTED = 1 << 26  # numbers of Gaussians that there is room for while pairs are listed: 256 MB, most of it never used
_NONE = np.empty(0, np.int32)
_ROUNDING = 1e-5  # relative
_LEAST_VIEWS = 64  # that are listed at a time: enough for all threads


def _array(values: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
    """Contiguous and writeable, so that a kernel is compiled for one type of arguments only."""
    return np.require(values, dtype, ["C", "W"])


class _Room:
    """Memory that is kept for what is as long as the list of pairs: fresh memory costs as much as filling it."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[Any]] = {}

    def of(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with whatever is in it; the next one of that name has the same memory."""
        size = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < size:
            self._kept.pop(name, None)
            # With a little more, so that not every list that is longer than the last one needs new memory.
            self._kept[name] = np.empty(size + size // 8, dtype)
        return self._kept[name][:size].reshape(shape)

    def clear(self, but: str) -> None:
        """Give back all of it but the array of that name."""
        self._kept = {name: kept for name, kept in self._kept.items() if name == but}


@dataclass(eq=False)
class _Pairs:
    """Which Gaussians touch which views, and where all were when that was found out.

    The pairs of view v are `start[v]:start[v + 1]`: whole vectors, filled up with the Gaussian that touches nothing;
    `counts[v]` of them are not.
    """

    counts: NDArray[np.int64]
    start: NDArray[np.int64]
    gaussian: NDArray[np.int32]
    table: Float
    rotation: Float
    translation: Float

    def of(self, view: int) -> NDArray[np.int32]:
        """The Gaussians that touch a view."""
        return self.gaussian[self.start[view] : self.start[view] + self.counts[view]]

    def outdated(
        self, table: Float, rotation: Float, translation: Float, forward_model: CpuForwardModel
    ) -> NDArray[np.bool_]:
        """Slices (S,) for which something has moved by more than the margin that the list was made with.

        Where Gaussians have moved, one slice that is outdated makes all outdated.
        """
        moved = np.zeros(len(table) - 1)
        narrowest = float(forward_model.blur.min(initial=np.inf))
        in_parts(moves, table, self.table, narrowest, forward_model.cutoff, moved)
        turn = np.linalg.norm(rotation - self.rotation, axis=(1, 2))
        slices = np.linalg.norm(translation - self.translation, axis=1) + turn * (
            forward_model.radius + forward_model.cutoff**2
        )
        farthest = moved.max(initial=0.0)
        outdated = farthest + slices > LIST_MARGIN
        return np.asarray(outdated if farthest == 0 else outdated | outdated.any())


class CpuForwardModel:
    """`slicesplat.splat.ForwardModel` of a set of slices on the CPU.

    Takes tensors and arrays, gives tensors; neither way is anything copied that has the right type.

    Parameters
    ----------
    slices : Slices
        Geometry of the images; poses are given with every call of `set_geometry`.
    cutoff : float
        Mahalanobis distance beyond which a Gaussian does not reach a pixel; at most 5.
    views_at_once : int, optional
        How many views' pairs are found at a time, which takes room for all Gaussians each. By default as many as fit
        into 256 MB, but enough for all threads.
    """

    def __init__(self, slices: Slices, cutoff: float = FIT_CUTOFF, views_at_once: int | None = None) -> None:
        if not 0 < cutoff <= MAX_CUTOFF:
            raise ValueError(f"cutoff {cutoff} is not in (0, {MAX_CUTOFF}]")
        components = slices.psf_weights.shape[1]
        self.backend = "cpu"
        self.slices = len(slices)
        self.device = torch.device("cpu")
        self.cutoff = float(cutoff)
        self.views_at_once = views_at_once
        self.shape = _array(slices.shape, np.int64)
        self.offset = _array(slices.offset, np.int64)
        self.view_start = np.arange(len(slices) + 1, dtype=np.int64) * components
        self.components = components
        self.weight = _array(slices.psf_weights.reshape(-1), np.float64)
        self.blur = _array(slices.psf_covariances.reshape(-1, 3), np.float64)
        # A view's plane lies where its component of the PSF has its centre, not where the slice's frame has its origin.
        planes = _array(slices.psf_offsets.reshape(-1, 1), np.float64)
        self.origin = np.concatenate([np.repeat(slices.origin, components, axis=0), planes], axis=1)
        self.step = np.repeat(_array(slices.step, np.float64), components, axis=0)
        self.view_shape = np.repeat(self.shape, components, axis=0)
        self.far = self.origin.copy()
        self.far[:, :2] += (self.view_shape - 1) * self.step
        self.radius = float(np.linalg.norm(self.far, axis=1).max(initial=0.0))
        self.placements = 0
        self._pairs: _Pairs | None = None
        self._of_gaussians: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None
        self._projected: NDArray[np.float32] | None = None
        self._separated: NDArray[np.float32] | None = None
        self._height: NDArray[np.int64] | None = None
        self._room = _Room()

    @property
    def pixels(self) -> int:
        """Number of pixels of all slices."""
        return int(self.offset[-1])

    @property
    def pairs(self) -> int:
        """Number of (view, Gaussian) pairs that are listed."""
        return 0 if self._pairs is None else int(self._pairs.counts.sum())

    @property
    def _placed(self) -> _Pairs:
        if self._pairs is None:
            raise RuntimeError("no Gaussians are in place: call set_geometry first")
        return self._pairs

    def pixel_pairs(self) -> int:
        """Number of (pixel, view, Gaussian) triples inside the cut-off: the work in `apply`, counted one by one."""
        counts = np.zeros(len(self.shape), np.int64)
        in_parts(count_pixels, self._flat(), self.view_start, self._placed.start, counts)
        return int(counts.sum())

    def set_geometry(
        self,
        means: ArrayLike,  # (N, 3) mm
        log_scales: ArrayLike,  # (N, 3)
        quaternions: ArrayLike,  # (N, 4)
        rotations: ArrayLike,  # (S, 3, 3)
        translations: ArrayLike,  # (S, 3) mm
        rebuild: bool | None = None,
    ) -> None:
        """Set the Gaussians' shapes and the slices' poses; see `ForwardModel.set_geometry`."""
        self.placements += 1
        self._projected = self._separated = None
        # Copies: an optimiser changes its parameters in place.
        self._quaternions = _array(quaternions, np.float64).copy()
        rotation, translation = _array(rotations, np.float64).copy(), _array(translations, np.float64).copy()
        self._rotation = np.repeat(rotation, self.components, axis=0)
        # The world's origin in the slice's frame, with the opposite sign.
        self._shift = np.repeat(np.einsum("sik,si->sk", rotation, translation), self.components, axis=0)
        n = len(self._quaternions)
        self._variance = np.empty((n, 3))
        self._table = np.empty((n + 1, GAUSSIAN_COLUMNS))
        coarse = np.empty((4, n + 1), np.float32)
        scales = _array(log_scales, np.float64)
        # Lattices are, and most scanners' pixels square: poses take less work then. The two widths of a pixel come from
        # an affine in single precision, and differ by its rounding.
        square = np.allclose(self.blur[:, 0], self.blur[:, 1], rtol=_ROUNDING, atol=0.0)
        balls = bool((scales == scales[:, :1]).all())
        self._round = square and balls
        in_parts(
            tabulate,
            *(_array(means, np.float64), scales, self._quaternions),
            *(self._variance, self._table, coarse),
        )
        views = (self.blur, self.step, self.view_shape, self.cutoff)
        self._height = rows_of_windows(self._variance, *views) if balls else None
        listed = self._pairs is not None and len(self._pairs.table) == n + 1
        if rebuild is False and not listed:
            raise ValueError(f"no list of pairs for {n} Gaussians to keep: place them with rebuild=True")
        if rebuild or not listed:
            self._list(coarse, rotation, translation, np.ones(self.slices, bool))
        elif rebuild is None:
            outdated = self._placed.outdated(self._table, rotation, translation, self)
            if outdated.any():
                self._list(coarse, rotation, translation, outdated)

    def free_scratch(self) -> None:
        """Give back the memory of what can be found again, and is when it is needed next: all but the list of pairs."""
        self._projected = self._separated = self._of_gaussians = None
        self._room.clear(but="gaussian")

    def _list(self, coarse: NDArray[np.float32], rotation: Float, translation: Float, anew: NDArray[np.bool_]) -> None:
        """Find the pairs of the Gaussians that are being placed with slices `anew` (S,); the others keep theirs."""
        kept, n = None if anew.all() else self._pairs, len(self._table) - 1
        self._pairs = self._of_gaussians = None
        # Copies: the list that is to be has the memory of the one that was.
        found = [_NONE if kept is None else kept.of(v).copy() for v in range(len(self.blur))]
        blocks = np.empty((7, -(-n // BLOCK)), np.float32)
        in_parts(bound_blocks, coarse, blocks)
        views = np.flatnonzero(np.repeat(anew, self.components))
        # A view's list may be as long as that of all Gaussians: room for those of a few views at a time, since a
        # search for lost slices has thousands of views.
        batch = self.views_at_once or max(_LEAST_VIEWS, _LISTED // (n + LANES))
        listed = self._room.of("listed", (min(batch, len(views)), n + LANES), np.int32)
        for first in range(0, len(views), batch):
            some = views[first : first + batch]
            counts = np.zeros(len(some), np.int64)
            in_parts(
                list_pairs,
                *(self._table, coarse, blocks, self._rotation[some], self._shift[some], self.blur[some]),
                *(self.origin[some], self.far[some], self.cutoff, LIST_MARGIN, listed, counts),
            )
            for v, row, count in zip(some.tolist(), listed, counts, strict=False):
                found[v] = row[:count].copy()
        counts = np.array([len(own) for own in found], np.int64)
        start = np.concatenate([[0], np.cumsum(-(-counts // LANES) * LANES)]).astype(np.int64)
        gaussian = self._room.of("gaussian", (int(start[-1]),), np.int32)
        for v, own in enumerate(found):
            filled = start[v] + len(own)
            gaussian[start[v] : filled] = own
            gaussian[filled : start[v + 1]] = n
        if kept is not None:
            rotation = np.where(anew[:, None, None], rotation, kept.rotation)
            translation = np.where(anew[:, None], translation, kept.translation)
        self._pairs = _Pairs(counts, start, gaussian, self._table, rotation, translation)

    def _flat(self) -> NDArray[np.float32]:
        """The pairs' projections; found when they are first needed."""
        if self._projected is None:
            self._projected = self._project(project, "flat", PAIR_FIELDS)
        return self._projected

    def _separable(self) -> NDArray[np.float32]:
        """The same as products of rows' and columns' Gaussians, where `_height` says that they are."""
        if self._separated is None:
            self._separated = self._project(project_separable, "separable", SEPARABLE_FIELDS)
        return self._separated

    def _project(self, kernel: Any, name: str, fields: int) -> NDArray[np.float32]:
        pairs = self._placed
        out = self._room.of(name, (len(pairs.gaussian) // LANES, fields, LANES), np.float32)
        in_parts(
            kernel,
            *(self._table, self._rotation, self._shift, self.weight, self.blur, self.origin, self.step),
            *(self.view_shape, pairs.start, pairs.gaussian, self.cutoff, out),
        )
        return out

    def _pairs_of_gaussians(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Where the pairs of every Gaussian start, and their numbers; found when they are first needed."""
        if self._of_gaussians is None:
            pairs = self._placed
            start = np.empty(len(self._table), np.int64)
            pair_of = self._room.of("pair_of", pairs.gaussian.shape, np.int32)
            in_parts(pairs_of_gaussians, pairs.gaussian, pairs.start, start, pair_of)
            self._of_gaussians = start, pair_of
        return self._of_gaussians

    def apply(self, amplitudes: ArrayLike, gains: ArrayLike) -> Tensor:
        """Simulated pixels (P,) float32 for amplitudes (N,) and gains (S,)."""
        out, pairs = np.empty(self.pixels, np.float32), self._placed
        amplitude = np.append(_array(amplitudes, np.float32), np.float32(0))[:, None]
        given = (amplitude, _array(gains, np.float32), self.shape, self.offset, self.view_start)
        if self._height is None:
            in_parts(splat, self._flat(), *given, pairs.start, pairs.gaussian, out)
        else:
            in_parts(splat_separable, self._separable(), *given, pairs.start, pairs.gaussian, self._height, out)
        return torch.from_numpy(out)

    def adjoint(self, upstream: ArrayLike, gains: ArrayLike) -> Tensor:
        """The transpose of `apply` as a linear map of the amplitudes: (P,) to (N,) float32."""
        pairs = self._placed
        pair = self._room.of("pair", pairs.gaussian.shape, np.float32)
        given = (_array(upstream, np.float32), _array(gains, np.float32), self.shape, self.offset, self.view_start)
        if self._height is None:
            in_parts(gather, self._flat(), *given, pairs.start, pair)
        else:
            in_parts(gather_separable, self._separable(), *given, pairs.start, self._height, pair)
        out = np.empty(len(self._variance), np.float32)
        in_parts(sum_pairs, pair, *self._pairs_of_gaussians(), out)
        return torch.from_numpy(out)

    def vjp(self, upstream: ArrayLike, amplitudes: ArrayLike, gains: ArrayLike) -> tuple[Tensor, Tensor]:
        """Gradients (N, 11) by the Gaussians, (S, 13) by the poses and gains; see `ForwardModel.vjp`."""
        pairs = self._placed
        amplitude = np.append(_array(amplitudes, np.float64), 0.0)[:, None]
        poses = np.empty((len(self.shape), POSE_GRADIENTS))
        gradient = self._room.of("gradient", (len(pairs.gaussian), PAIR_GRADIENTS), np.float32)
        in_parts(
            gradients_of_pairs,
            *(self._table, amplitude, _array(gains, np.float64), self._rotation, self._shift, self.blur, self.origin),
            *(self.step, self.shape, self.offset, self.view_start, pairs.start, pairs.gaussian, self._flat()),
            *(_array(upstream, np.float32), gradient, poses),
        )
        gaussians = np.empty((len(self._variance), 11), np.float32)
        in_parts(
            gradients_of_gaussians,
            *(self._variance, self._quaternions, amplitude, gradient, *self._pairs_of_gaussians(), gaussians),
        )
        return torch.from_numpy(gaussians), torch.from_numpy(poses)

    def _rendered(self, amplitudes: ArrayLike) -> tuple[Any, ...]:
        """Gaussians, views and pairs, as the kernels of `splat.cpu.pose` take them."""
        pairs = self._placed
        amplitude = np.append(_array(amplitudes, np.float32), np.float32(0))[:, None]
        height = np.zeros(len(self.blur), np.int64) if self._height is None else self._height
        return (
            *(self._table, amplitude, self._rotation, self._shift, self.weight, self.blur, self.origin, self.step),
            *(self.cutoff, self.view_start, pairs.start, pairs.gaussian, self._round, height),
        )

    def pose_jacobian(self, amplitudes: ArrayLike) -> Tensor:
        """Derivatives by the slices' poses and, last, images for gain 1: (7, P); see `ForwardModel.pose_jacobian`."""
        out = np.empty((UNKNOWNS, self.pixels), np.float32)
        in_parts(pose_derivatives, self._rendered(amplitudes), self.shape, self.offset, out)
        return torch.from_numpy(out)

    def pose_normal_equations(
        self, amplitudes: ArrayLike, gains: ArrayLike, pixels: ArrayLike, weights: ArrayLike, scale: ArrayLike
    ) -> PoseSystems:
        """Gauss-Newton system of every slice; see `ForwardModel.pose_normal_equations`."""
        slices, unknowns = len(self.shape), UNKNOWNS
        systems = (np.empty((slices, unknowns, unknowns)), np.empty((slices, unknowns)), np.empty(slices))
        sums = np.empty((slices, 6))
        in_parts(
            pose_systems,
            *(self._rendered(amplitudes), self.shape, self.offset, _array(gains, np.float64)),
            *(_array(pixels, np.float32), _array(weights, np.float32), _array(scale, np.float64), *systems, sums),
        )
        return PoseSystems(*map(torch.from_numpy, (*systems, sums)))

    def misfits(
        self, amplitudes: ArrayLike, gains: ArrayLike, pixels: ArrayLike, weights: ArrayLike, scale: ArrayLike
    ) -> Misfits:
        """Robust misfit of every slice; see `ForwardModel.misfits`."""
        slices = len(self.shape)
        image, found = self.apply(amplitudes, np.ones(slices)).numpy(), (np.empty(slices), np.empty((slices, 6)))
        in_parts(
            slice_misfits,
            *(image, self.offset, _array(gains, np.float64), _array(pixels, np.float32)),
            *(_array(weights, np.float32), _array(scale, np.float64), *found),
        )
        return Misfits(*map(torch.from_numpy, found))
