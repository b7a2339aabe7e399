"""The forward model and its adjoint on the CPU: numba, float32 pixels, as many threads as numba is given."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicesplat.splat import cpu_kernels as kernels
from slicesplat.splat import cpu_pose
from slicesplat.splat.cpu_kernels import LIST_MARGIN, MAX_CUTOFF
from slicesplat.stack import Slices

Float = NDArray[np.float64]


@dataclass(eq=False)
class _Pairs:
    """Which Gaussians touch which views, and where all were when that was found out."""

    start: NDArray[np.int64]
    gaussian: NDArray[np.int32]
    gaussian_start: NDArray[np.int64]
    pair_of: NDArray[np.int64]
    mean: Float
    cov: Float
    rotation: Float
    translation: Float

    def still_hold(self, mean: Float, cov: Float, rotation: Float, translation: Float, splatter: CpuSplatter) -> bool:
        """Whether nothing has moved by more than the margin that the list was made with."""
        now = (mean, cov, self.mean, self.cov, rotation, translation, self.rotation, self.translation)
        narrowest = splatter.blur.min(initial=np.inf)
        return bool(kernels.farthest_move(*now, splatter.radius, narrowest, splatter.cutoff) <= LIST_MARGIN)


class CpuSplatter:
    """The forward model of a set of slices, its adjoint and its derivatives.

    Parameters
    ----------
    slices : Slices
        Geometry of the images; poses are given with every call of `place`.
    cutoff : float
        Mahalanobis distance beyond which a Gaussian does not reach a pixel; at most 5.
    """

    def __init__(self, slices: Slices, cutoff: float = 3.0) -> None:
        if not 0 < cutoff <= MAX_CUTOFF:
            raise ValueError(f"cutoff {cutoff} is not in (0, {MAX_CUTOFF}]")
        components = slices.psf_weights.shape[1]
        self.cutoff = float(cutoff)
        self.shape = slices.shape.astype(np.int64)
        self.offset = slices.offset
        self.view_start = np.arange(len(slices) + 1) * components
        self.components = components
        self.weight = slices.psf_weights.reshape(-1)
        self.blur = slices.psf_covariances.reshape(-1, 3)
        self.origin = np.repeat(slices.origin, components, axis=0)
        self.step = np.repeat(slices.step, components, axis=0)
        flat = np.zeros((len(self.origin), 1))
        self.low = np.concatenate([self.origin, flat], axis=1)
        far = self.origin + (np.repeat(slices.shape, components, axis=0) - 1) * self.step
        self.high = np.concatenate([far, flat], axis=1)
        self.radius = float(np.linalg.norm(self.high, axis=1).max(initial=0.0))
        self.placements = 0
        self._pairs: _Pairs | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels of all slices."""
        return int(self.offset[-1])

    @property
    def pairs(self) -> int:
        """Number of (view, Gaussian) pairs of the last `place`."""
        return 0 if self._pairs is None else len(self._pairs.gaussian)

    @property
    def _placed(self) -> _Pairs:
        if self._pairs is None:
            raise RuntimeError("no Gaussians are in place: call place first")
        return self._pairs

    def place(
        self,
        means: ArrayLike,  # (N, 3) mm
        log_scales: ArrayLike,  # (N, 3)
        quaternions: ArrayLike,  # (N, 4)
        rotations: ArrayLike,  # (S, 3, 3)
        translations: ArrayLike,  # (S, 3) mm
        rebuild: bool | None = None,
    ) -> None:
        """Set the Gaussians' shapes and the slices' poses; everything after refers to them.

        Parameters
        ----------
        rebuild : bool, optional
            Whether to make a new list of pairs. By default when something has moved too far.

        Raises
        ------
        ValueError
            The list is to be kept, and there is none for this number of Gaussians.
        """
        self.placements += 1
        # Copies: an optimiser changes its parameters in place.
        self._mean = np.asarray(means, np.float64).copy()
        self._log_scales = np.asarray(log_scales, np.float64).copy()
        self._quaternions = np.asarray(quaternions, np.float64).copy()
        self._rotation = np.repeat(np.asarray(rotations, np.float64), self.components, axis=0)
        self._translation = np.repeat(np.asarray(translations, np.float64), self.components, axis=0)
        self._cov, self._determinant = kernels.covariances(self._log_scales, self._quaternions)
        workers = nb.get_num_threads()
        where = (self._mean, self._cov, self._rotation, self._translation)
        listed = self._pairs is not None and len(self._pairs.mean) == len(self._mean)
        if rebuild is False and not listed:
            raise ValueError(f"no list of pairs for {len(self._mean)} Gaussians to keep: place them with rebuild=True")
        if rebuild or not listed or (rebuild is None and not self._placed.still_hold(*where, self)):
            box = (self.blur, self.low, self.high, self.cutoff, LIST_MARGIN)
            start, gaussian = kernels.list_pairs(*where, *box, workers)
            gaussian_start, pair_of = kernels.pairs_of_gaussians(gaussian, len(self._mean))
            self._pairs = _Pairs(start, gaussian, gaussian_start, pair_of, *where)
        start, gaussian = self._placed.start, self._placed.gaussian
        self._flat = kernels.project(
            *(self._mean, self._cov, self._determinant, self._rotation, self._translation, self.weight, self.blur),
            *(self.origin, self.step, start, gaussian, self.cutoff, workers),
        )

    def splat(self, amplitudes: ArrayLike, gains: ArrayLike) -> NDArray[np.float32]:
        """Simulated pixels (P,) for amplitudes (N,) and gains (S,)."""
        return kernels.splat(
            *(self._flat, np.asarray(amplitudes, np.float32), np.asarray(gains, np.float32), self.shape, self.offset),
            *(self.view_start, self._placed.start, self._placed.gaussian, nb.get_num_threads()),
        )

    def adjoint(self, upstream: ArrayLike, gains: ArrayLike) -> NDArray[np.float32]:
        """The transpose of `splat` as a linear map of the amplitudes: (P,) to (N,)."""
        pair = kernels.gather(
            *(self._flat, np.asarray(upstream, np.float32), np.asarray(gains, np.float32), self.shape, self.offset),
            *(self.view_start, self._placed.start, nb.get_num_threads()),
        )
        return kernels.sum_pairs(pair, self._placed.gaussian_start, self._placed.pair_of)

    def gradients(
        self, upstream: ArrayLike, amplitudes: ArrayLike, gains: ArrayLike
    ) -> tuple[NDArray[np.float32], Float]:
        """Gradients of a loss whose gradient at the pixels is `upstream`.

        Returns
        -------
        gaussians : (N, 11) float32
            Means, log scales, quaternions, amplitudes.
        poses : (S, 13)
            Rotation matrices row by row, translations, gains.
        """
        workers = nb.get_num_threads()
        pairs = self._placed
        amplitude = np.asarray(amplitudes, np.float64)
        upstream = np.asarray(upstream, np.float32)
        moment = kernels.moments(self._flat, upstream, self.shape, self.offset, self.view_start, pairs.start, workers)
        pair, poses = kernels.chain_pairs(
            *(self._mean, self._cov, amplitude, np.asarray(gains, np.float64), self._rotation, self._translation),
            *(self.blur, self.origin, self.step, self.view_start, pairs.start, pairs.gaussian, self._flat, moment),
            workers,
        )
        gaussians = kernels.chain_gaussians(
            self._log_scales, self._quaternions, amplitude, pair, pairs.gaussian_start, pairs.pair_of
        )
        return gaussians, poses

    def pose_derivatives(self, amplitudes: ArrayLike) -> NDArray[np.float32]:
        """Images for gain 1 and their derivatives by the slices' poses: (7, P).

        The first six are by a step v (mm), w (rad) in the slice's own frame, R -> R exp([w]x), t -> t + R v; the last
        one is the image.
        """
        return cpu_pose.pose_derivatives(
            *(self._mean, self._cov, np.asarray(amplitudes, np.float64), self._rotation, self._translation, self.blur),
            *(self.step, self._flat, self.shape, self.offset, self.view_start, self._placed.start),
            *(self._placed.gaussian, nb.get_num_threads()),
        )

    def pose_systems(
        self, amplitudes: ArrayLike, gains: ArrayLike, pixels: ArrayLike, weights: ArrayLike, scale: ArrayLike
    ) -> tuple[Float, ...]:
        """Gauss-Newton system of every slice in its pose and gain; see `cpu_pose.normal_equations`."""
        return cpu_pose.normal_equations(
            *(self.pose_derivatives(amplitudes), np.asarray(gains, np.float64), np.asarray(pixels, np.float32)),
            *(np.asarray(weights, np.float32), np.asarray(scale, np.float64), self.offset, nb.get_num_threads()),
        )
