"""The yardstick: least squares on a voxel grid that is given the true pose of every slice.

    minimise over x   sum_p (g_s (A x)_p - y_p)^2  +  strength * sum |difference of neighbouring voxels|^2

A integrates the trilinear volume against the true slice profile by quadrature; x lives on the truth's voxels in and
around its mask; slice gains g are fitted. Of several strengths the truth chooses the best. No method that has to find
poses and strength itself is owed as much.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from cases import Case, Float, Row, Rows, chosen_cases, image_quality, parser, true_motion
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.geometry.psf import FWHM_TO_SIGMA, IN_PLANE_FWHM_IN_PIXELS, SliceProfile, profile_function
from slicesplat.geometry.slices import Slices, cut_slices

Values = NDArray[np.float32]
Operator = Callable[[Values], Values]

STRENGTHS = (0.1, 0.03, 0.01, 0.003)
MARGIN = 4.0  # mm around the truth's mask that the slices at its rim still see
# Twice as many change the PSNR by 0.03 dB.
GAIN_ROUNDS, GAIN_ITERATIONS = 3, 6
ITERATIONS = 15

SUBDIVISIONS = 2  # in-plane quadrature nodes per pixel
THROUGH_NODES = 13
REACH = 3.0  # standard deviations of the in-plane blur
PROFILE_REACH: dict[SliceProfile, float] = {"gaussian": 1.3, "box": 0.5, "sinc": 2.0}  # slice thicknesses
# The adjoint adds up so many partial volumes, whatever the number of threads: so the result does not depend on it.
CHUNKS = 4


@njit(inline="always", cache=True)
def _cell(
    corner: Float, axes: Float, u: int, v: int, d: float, shape: tuple[int, int, int]
) -> tuple[int, int, int, np.float32, np.float32, np.float32]:
    """Lower corner of a quadrature node's voxel cell and the position in it; a negative corner outside the grid."""
    x = corner[0] + u * axes[0, 0] + v * axes[0, 1] + d * axes[0, 2]
    y = corner[1] + u * axes[1, 0] + v * axes[1, 1] + d * axes[1, 2]
    z = corner[2] + u * axes[2, 0] + v * axes[2, 1] + d * axes[2, 2]
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    if i < 0 or j < 0 or k < 0 or i >= shape[0] - 1 or j >= shape[1] - 1 or k >= shape[2] - 1:
        i = -1
    return i, j, k, np.float32(x - i), np.float32(y - j), np.float32(z - k)


@njit(parallel=True, fastmath=True, cache=True)
def _project(
    volume: Values,
    corner: Float,  # (S, 3) voxels: first node of each slice's fine grid
    axes: Float,  # (S, 3, 3) voxels: columns are a step along rows, along columns, and 1 mm through plane
    sizes: NDArray[np.int64],  # (S, 2)
    offset: NDArray[np.int64],  # (S + 1,)
    depth: Float,  # (n,) mm
    depth_weights: Values,
    plane_weights: Values,
    sub: int,
) -> Values:
    """Pixels of all slices: trilinear sums through each slice on a fine in-plane grid, blurred and thinned."""
    out = np.zeros(offset[-1], np.float32)
    taps = len(plane_weights)
    for s in prange(len(sizes)):
        rows, columns = sizes[s]
        fine = np.zeros((sub * (rows - 1) + taps, sub * (columns - 1) + taps), np.float32)
        for u in range(fine.shape[0]):
            for v in range(fine.shape[1]):
                total = np.float32(0)
                for n in range(len(depth)):
                    i, j, k, a, b, c = _cell(corner[s], axes[s], u, v, depth[n], volume.shape)
                    if i >= 0:
                        low = (1 - b) * ((1 - c) * volume[i, j, k] + c * volume[i, j, k + 1])
                        low += b * ((1 - c) * volume[i, j + 1, k] + c * volume[i, j + 1, k + 1])
                        high = (1 - b) * ((1 - c) * volume[i + 1, j, k] + c * volume[i + 1, j, k + 1])
                        high += b * ((1 - c) * volume[i + 1, j + 1, k] + c * volume[i + 1, j + 1, k + 1])
                        total += depth_weights[n] * ((1 - a) * low + a * high)
                fine[u, v] = total
        for row in range(rows):
            blurred = np.zeros(fine.shape[1], np.float32)
            for t in range(taps):
                blurred += plane_weights[t] * fine[sub * row + t]
            for column in range(columns):
                total = np.float32(0)
                for t in range(taps):
                    total += plane_weights[t] * blurred[sub * column + t]
                out[offset[s] + row * columns + column] = total
    return out


@njit(parallel=True, fastmath=True, cache=True)
def _back_project(
    pixels: Values,
    partial: Values,
    corner: Float,
    axes: Float,
    sizes: NDArray[np.int64],
    offset: NDArray[np.int64],
    depth: Float,
    depth_weights: Values,
    plane_weights: Values,
    sub: int,
) -> None:
    """Adjoint of `_project`, added to `partial`: (chunks, nx, ny, nz), one volume for each share of the slices."""
    taps = len(plane_weights)
    for chunk in prange(len(partial)):
        volume = partial[chunk]
        for s in range(chunk, len(sizes), len(partial)):
            rows, columns = sizes[s]
            fine = np.zeros((sub * (rows - 1) + taps, sub * (columns - 1) + taps), np.float32)
            for row in range(rows):
                spread = np.zeros(fine.shape[1], np.float32)
                for column in range(columns):
                    value = pixels[offset[s] + row * columns + column]
                    for t in range(taps):
                        spread[sub * column + t] += plane_weights[t] * value
                for t in range(taps):
                    fine[sub * row + t] += plane_weights[t] * spread
            for u in range(fine.shape[0]):
                for v in range(fine.shape[1]):
                    if fine[u, v] == 0:
                        continue
                    for n in range(len(depth)):
                        i, j, k, a, b, c = _cell(corner[s], axes[s], u, v, depth[n], volume.shape)
                        if i >= 0:
                            value = depth_weights[n] * fine[u, v]
                            low, high = (1 - a) * value, a * value
                            volume[i, j, k] += low * (1 - b) * (1 - c)
                            volume[i, j, k + 1] += low * (1 - b) * c
                            volume[i, j + 1, k] += low * b * (1 - c)
                            volume[i, j + 1, k + 1] += low * b * c
                            volume[i + 1, j, k] += high * (1 - b) * (1 - c)
                            volume[i + 1, j, k + 1] += high * (1 - b) * c
                            volume[i + 1, j + 1, k] += high * b * (1 - c)
                            volume[i + 1, j + 1, k + 1] += high * b * c


@dataclass(frozen=True, eq=False)
class Projector:
    """A of the problem above: voxels to pixels of slices that have one pixel spacing and thickness, and its adjoint."""

    shape: tuple[int, int, int]
    geometry: tuple[NDArray[Any], ...]

    @classmethod
    def of(
        cls, slices: Slices, thickness: float, profile: SliceProfile, affine: Float, shape: tuple[int, int, int]
    ) -> Projector:
        """The projector of slices at their poses, from the voxels of `affine` and `shape`."""
        pixel = float(slices.step[0, 0])
        sigma = IN_PLANE_FWHM_IN_PIXELS * pixel * FWHM_TO_SIGMA
        step = pixel / SUBDIVISIONS
        count = math.ceil(REACH * sigma / step)
        plane = np.exp(-0.5 * (np.arange(-count, count + 1) * step / sigma) ** 2)
        depth = ((np.arange(THROUGH_NODES) + 0.5) / THROUGH_NODES * 2 - 1) * PROFILE_REACH[profile]
        through = profile_function(profile, depth)
        to_voxel = np.linalg.inv(affine) @ slices.pose.matrix
        first = np.concatenate([slices.origin - count * step, np.zeros((len(slices), 1)), np.ones((len(slices), 1))], 1)
        geometry = (
            np.einsum("sij,sj->si", to_voxel, first)[:, :3],
            to_voxel[:, :3, :3] * np.array([step, step, 1.0]),
            slices.shape.astype(np.int64),
            slices.offset,
            depth * thickness,
            (through / through.sum()).astype(np.float32),
            (plane / plane.sum()).astype(np.float32),
        )
        return cls(shape, tuple(np.ascontiguousarray(part) for part in geometry))

    def forward(self, volume: Values) -> Values:
        """(P,) pixels."""
        return np.asarray(_project(volume, *self.geometry, SUBDIVISIONS))

    def adjoint(self, pixels: Values) -> Values:
        """A volume."""
        partial = np.zeros((CHUNKS, *self.shape), np.float32)
        _back_project(pixels, partial, *self.geometry, SUBDIVISIONS)
        return np.asarray(partial.sum(axis=0))


def roughness(volume: Values, inside: NDArray[np.bool_]) -> Values:
    """Half the gradient of the squared differences between neighbours that are both inside."""
    out = np.zeros_like(volume)
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        before, after = tuple(low), tuple(high)
        step = (volume[after] - volume[before]) * (inside[before] & inside[after])
        out[after] += step
        out[before] -= step
    return out


def conjugate_gradients(normal: Operator, right: Values, start: Values, iterations: int) -> Values:
    """Solve normal(x) = right from `start` (Hestenes and Stiefel 1952)."""
    x, residual = start, right - normal(start)
    direction, square = residual, np.vdot(residual, residual)
    for _ in range(iterations):
        curved = normal(direction)
        length = square / np.vdot(direction, curved)
        x, residual = x + length * direction, residual - length * curved
        previous, square = square, np.vdot(residual, residual)
        direction = residual + (square / previous) * direction
    return x


@dataclass(eq=False)
class Problem:
    """The least-squares problem of a case, with intensities near 1."""

    projector: Projector
    slices: Slices
    inside: NDArray[np.bool_]
    pixels: Values
    gain: Values  # (S,)

    def solve(self, strength: float, start: Values, iterations: int) -> Values:
        """The volume for the present gains."""
        factor = self.gain[self.slices.slice_of_pixel()] * self.slices.mask

        def normal(volume: Values) -> Values:
            data = self.projector.adjoint(factor**2 * self.projector.forward(volume))
            return np.asarray(data * self.inside + np.float32(strength) * roughness(volume, self.inside))

        right = self.projector.adjoint(factor * self.pixels) * self.inside
        return conjugate_gradients(normal, right, start, iterations)

    def fit_gains(self, volume: Values) -> None:
        """Gains that are best for a volume, their median 1."""
        expected = self.projector.forward(volume) * self.slices.mask
        starts = self.slices.offset[:-1]
        products = np.add.reduceat(expected * self.pixels, starts)
        squares = np.add.reduceat(expected**2, starts)
        gain = np.where(squares > 0, products / np.maximum(squares, 1e-12), 1.0)
        self.gain = (gain / np.median(gain)).astype(np.float32)


def pose_problem(case: Case) -> tuple[Problem, Float]:
    """The problem of a case with all slices where they really were, and its grid's affine."""
    assert case.truth is not None and case.truth_mask is not None and case.motion is not None
    profile: SliceProfile = "box" if case.motion["args"]["profile"] == "box" else "gaussian"
    mask = np.asarray(case.truth_mask.dataobj) > 0
    affine = np.asarray(case.truth.affine, dtype=np.float64)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    inside = ndimage.distance_transform_edt(~np.pad(mask, 8), sampling=spacing) <= MARGIN
    (window,) = ndimage.find_objects(inside.astype(np.uint8))
    window = tuple(slice(part.start - 1, part.stop + 1) for part in window)
    inside = np.ascontiguousarray(inside[window])
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([part.start - 8.0 for part in window])
    slices = cut_slices(case.stacks, profile, margin=0)
    slices = slices.moved(true_motion(case, slices))
    pixels = slices.pixels / np.float32(np.percentile(slices.pixels[slices.mask], 99))
    shape = (inside.shape[0], inside.shape[1], inside.shape[2])
    projector = Projector.of(slices, case.stacks[0].thickness, profile, affine, shape)
    return Problem(projector, slices, inside, pixels, np.ones(len(slices), np.float32)), affine


def least_squares(case: Case, strengths: tuple[float, ...] = STRENGTHS) -> Row:
    """PSNR and SSIM of the best strength, which that is, and the seconds that all took."""
    start = time.perf_counter()
    problem, affine = pose_problem(case)
    volume = np.zeros(problem.inside.shape, np.float32)
    ordered = sorted(strengths, reverse=True)
    for _ in range(GAIN_ROUNDS):
        volume = problem.solve(ordered[0], volume, GAIN_ITERATIONS)
        problem.fit_gains(volume)
    tried: list[Row] = []
    for strength in ordered:
        volume = problem.solve(strength, volume, ITERATIONS)
        quality = image_quality(nib.Nifti1Image(volume, affine), case, register=False)
        tried.append({**quality, "strength": strength})
    best = max(tried, key=lambda row: row["psnr"])
    return {**best, "tried": [row["psnr"] for row in tried], "wall_s": round(time.perf_counter() - start, 1)}


def main() -> None:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS, help="of the roughness penalty")
    args = options.parse_args()
    rows = Rows("Least squares, true poses given", args.json)
    for case in chosen_cases(args):
        rows.add(case=case.name, **least_squares(case, tuple(args.strengths)))
    rows.show()


if __name__ == "__main__":
    main()
