"""One slice of a known volume: the volume, a cubic B-spline, integrated against the point-spread function.

By quadrature in the moved slice's frame. Nothing here is shared with the Gaussian forward model, so that it can test
it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import prange
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates, spline_filter

from slicesplat.jit import jit

Float = NDArray[np.float64]
Profile = Literal["gauss", "box"]

_FWHM_TO_SIGMA = 1.0 / math.sqrt(8.0 * math.log(2.0))
_IN_PLANE_FWHM = 1.2


@dataclass(frozen=True)
class Quadrature:
    """How finely the point-spread function is sampled."""

    subdivisions: int = 2
    """In-plane nodes per pixel spacing."""
    nodes: int = 13
    """Nodes through the slice."""
    reach: float = 3.5
    """Where a Gaussian is cut off, in standard deviations."""


@jit()
def _cubic_weights(t: float) -> tuple[float, float, float, float]:
    """Cubic B-spline weights of the four knots around a point a fraction `t` past the second."""
    s = 1.0 - t
    return s * s * s / 6.0, 2.0 / 3.0 - t * t * (1.0 - 0.5 * t), 2.0 / 3.0 - s * s * (1.0 - 0.5 * s), t * t * t / 6.0


@jit()
def _evaluate_spline(coefficients: NDArray[np.float32], x: float, y: float, z: float) -> float:
    """Value at voxel position (x, y, z) of the cubic B-spline; zero outside its knots."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    nx, ny, nz = coefficients.shape
    if i < 1 or j < 1 or k < 1 or i + 2 >= nx or j + 2 >= ny or k + 2 >= nz:
        return 0.0
    wx, wy, wz = _cubic_weights(x - i), _cubic_weights(y - j), _cubic_weights(z - k)
    total = 0.0
    for a in range(4):
        for b in range(4):
            # Unsigned, so that the compiler need not look for indices that count from the end.
            p, q, r = np.uint64(i - 1 + a), np.uint64(j - 1 + b), np.uint64(k - 1)
            line = (
                wz[0] * coefficients[p, q, r]
                + wz[1] * coefficients[p, q, r + np.uint64(1)]
                + wz[2] * coefficients[p, q, r + np.uint64(2)]
                + wz[3] * coefficients[p, q, r + np.uint64(3)]
            )
            total += wx[a] * wy[b] * line
    return total


@jit(parallel=True)
def _sample_slab(
    coefficients: NDArray[np.float32],
    origin: Float,
    step_u: Float,
    step_v: Float,
    normals: Float,
    weights: Float,
    shape: tuple[int, int],
) -> Float:
    """Integrate through the plane at every point of a fine in-plane grid.

    Point (u, v) lies at voxel position ``origin + u * step_u + v * step_v``; the quadrature nodes are ``normals``
    (n, 3) away from it. Every point belongs to one thread, so the result is the same for any number of threads.
    """
    out = np.zeros(shape)
    for u in prange(shape[0]):
        for v in range(shape[1]):
            total = 0.0
            for n in range(len(weights)):
                x = origin[0] + u * step_u[0] + v * step_v[0] + normals[n, 0]
                y = origin[1] + u * step_u[1] + v * step_v[1] + normals[n, 1]
                z = origin[2] + u * step_u[2] + v * step_v[2] + normals[n, 2]
                total += weights[n] * _evaluate_spline(coefficients, x, y, z)
            out[u, v] = total
    return out


def _gaussian_nodes(sigma: float, step: float, reach: float) -> tuple[Float, Float]:
    """Nodes (n,) mm and weights, sum 1, of the trapezoidal rule, which converges exponentially for a Gaussian."""
    count = math.ceil(reach * sigma / step)
    nodes = np.arange(-count, count + 1, dtype=np.float64) * step
    weights = np.exp(-0.5 * (nodes / sigma) ** 2)
    return nodes, weights / weights.sum()


def _profile_nodes(profile: Profile, thickness: float, quadrature: Quadrature) -> tuple[Float, Float]:
    """Through-plane nodes (n,) mm and weights, sum 1."""
    if profile == "box":
        nodes, weights = np.polynomial.legendre.leggauss(quadrature.nodes)
        return nodes * thickness / 2, weights / 2
    sigma = thickness * _FWHM_TO_SIGMA
    return _gaussian_nodes(sigma, 2 * quadrature.reach * sigma / (quadrature.nodes - 1), quadrature.reach)


def _blur_first_axis(fine: Float, weights: Float, subdivisions: int) -> Float:
    """Weighted sums over the fine grid's first axis, one for each pixel.

    Added up one node after the other: a matrix product would round differently with another number of threads.
    """
    last = len(fine) - len(weights)
    out = np.zeros((last // subdivisions + 1, *fine.shape[1:]))
    for first, weight in enumerate(weights):
        out += weight * fine[first : first + last + 1 : subdivisions]
    return out


@dataclass(frozen=True, eq=False)
class Subject:
    """What is scanned: a volume as a cubic B-spline, and the region of interest in it.

    Attributes
    ----------
    coefficients : (nx, ny, nz) float32
        B-spline coefficients that interpolate the voxels.
    mask : (nx, ny, nz) float32
        1 inside the region.
    affine : (4, 4)
        Voxel index of both to world, mm RAS+.
    """

    coefficients: NDArray[np.float32]
    mask: NDArray[np.float32]
    affine: Float

    @classmethod
    def from_volume(cls, volume: ArrayLike, affine: ArrayLike, mask: ArrayLike) -> Subject:
        """Prefilter `volume`, padded so that the spline ends in zeros."""
        padded = np.pad(np.asarray(volume, dtype=np.float64), 3)
        matrix = np.array(affine, dtype=np.float64)
        matrix[:3, 3] -= matrix[:3, :3] @ [3.0, 3.0, 3.0]
        coefficients = spline_filter(padded, order=3, output=np.float64).astype(np.float32)
        return cls(coefficients, np.pad(np.asarray(mask) > 0, 3).astype(np.float32), matrix)

    def acquire(
        self,
        pose: Float,
        shape: tuple[int, int],
        pixel: float,
        thickness: float,
        profile: Profile = "gauss",
        quadrature: Quadrature | None = None,
    ) -> Float:
        """One slice: the volume integrated against the point-spread function at every pixel.

        Parameters
        ----------
        pose : (4, 4)
            Slice frame, with its origin at pixel (0, 0), to world, mm.
        shape : (rows, columns)
        pixel, thickness : float
            Pixel spacing and slice thickness, mm.
        profile : {"gauss", "box"}
        quadrature : Quadrature, optional

        Returns
        -------
        (rows, columns) float64
        """
        quadrature = quadrature or Quadrature()
        sub = quadrature.subdivisions
        plane, plane_weights = _gaussian_nodes(_IN_PLANE_FWHM * pixel * _FWHM_TO_SIGMA, pixel / sub, quadrature.reach)
        through, through_weights = _profile_nodes(profile, thickness, quadrature)
        to_voxel = np.linalg.inv(self.affine) @ pose
        axes = to_voxel[:3, :3]
        fine = _sample_slab(
            self.coefficients,
            to_voxel[:3, 3] + axes[:, :2] @ [plane[0], plane[0]],
            axes[:, 0] * pixel / sub,
            axes[:, 1] * pixel / sub,
            np.outer(through, axes[:, 2]),
            through_weights,
            (sub * (shape[0] - 1) + len(plane), sub * (shape[1] - 1) + len(plane)),
        )
        rows = _blur_first_axis(fine, plane_weights, sub)
        return _blur_first_axis(rows.T, plane_weights, sub).T

    def segment(self, pose: Float, shape: tuple[int, int], pixel: float) -> NDArray[np.bool_]:
        """The mask a perfect segmentation of the slice gives: the pixels whose centres lie in the region."""
        indices = np.indices(shape).reshape(2, -1) * pixel
        to_voxel = np.linalg.inv(self.affine) @ pose
        positions = to_voxel[:3, :2] @ indices + to_voxel[:3, 3:]
        return (map_coordinates(self.mask, positions, order=1) >= 0.5).reshape(shape)
