"""Measures of a stack's quality that need no network, under the names that FetMRQC gives them.

The names are those of Sanchez et al. (FetMRQC, Medical Image Analysis 97, 2024, 103282), so that figures of several
tools stand in one table; what is computed is written at each field, and is of the same kind, not equal to the digit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicesplat.geometry.stack import Stack
from slicesplat.prepare.assess import cropped, ncc, usable_slices

Float = NDArray[np.float64]

RANK_TOLERANCE = 0.2
"""Relative error below which a rank is high enough. Of 24 stacks of simulated brains the relative rank error is then
0.056 to 0.071 without motion, 0.076 to 0.080 under mild, 0.077 to 0.096 under moderate and 0.098 to 0.113 under severe
motion; with 0.1 and 0.3 stacks of different motion lie closer together or overlap."""
_FEWEST = 3  # slices that a rank says something about
_WINDOW = 3  # slices on either side that a slice is compared with


@dataclass(frozen=True)
class StackMeasures:
    """What a stack looks like, as numbers; NaN where there are too few slices to tell."""

    centroid: float
    """mm: root-mean-square shift of the mask's centre from slice to slice, in the central third of the slices."""
    mask_volume: float
    """mm^3, slice distance taken as its height."""
    ncc_intersection: float
    """Mean correlation of neighbouring slices where both have their mask."""
    ncc_median: float
    """Median of the same."""
    ncc_window: float
    """Mean correlation of slices up to three apart in the central third, where one of them has its mask."""
    nrmse_window: float
    """Root-mean-square difference of the same pairs over the root-mean-square of the first."""
    psnr_window: float
    """dB: the range of the stack's intensities inside the mask over that difference."""
    rank_error: float
    """r times the error of the best approximation of rank r to the slices, taken as columns of a matrix, where r is the
    lowest rank with an error below a fifth (after Kainz et al., IEEE Transactions on Medical Imaging 34, 2015,
    1901-1913): motion makes slices independent."""
    rank_error_relative: float
    """The same over the number of slices, so that stacks of different lengths can be compared."""


def measure(stack: Stack) -> StackMeasures:
    """Measure one stack, whose signal is zero where there is none.

    Examples
    --------
    >>> column = np.linspace(1, 2, 30)[:, None, None] * np.ones((30, 20, 9))
    >>> same = Stack(column.astype(np.float32), np.ones((30, 20, 9), bool), np.diag([1.0, 1.0, 3.0, 1.0]), 3.0)
    >>> found = measure(same)
    >>> round(found.mask_volume), round(found.ncc_intersection, 3), round(found.rank_error, 3), found.centroid
    (16200, 1.0, 0.0, 0.0)
    """
    data, mask = cropped(stack)
    usable = np.flatnonzero(usable_slices(stack.mask))
    neighbours = _neighbour_correlations(data, mask, usable)
    middle = usable[len(usable) // 3 : len(usable) - len(usable) // 3]
    correlation, difference = _windows(data, mask, middle)
    inside = data[mask]
    extent = float(np.ptp(inside)) if len(inside) else 0.0
    rank, relative = _rank_error((data * mask)[:, :, usable])
    return StackMeasures(
        centroid=_centre_shift(mask, middle, stack.spacing),
        mask_volume=float(stack.mask.sum() * np.prod(stack.spacing)),
        ncc_intersection=_mean(neighbours),
        ncc_median=float(np.median(neighbours)) if len(neighbours) else math.nan,
        ncc_window=_mean(correlation),
        nrmse_window=_mean(difference[:, 0]),
        psnr_window=_mean(20 * np.log10(extent / difference[:, 1])) if extent and difference[:, 1].all() else math.nan,
        rank_error=rank,
        rank_error_relative=relative,
    )


def _neighbour_correlations(data: Float, mask: NDArray[np.bool_], usable: NDArray[np.intp]) -> Float:
    """Correlations of neighbours that both cut through enough of the region."""
    values = [
        _correlation(data, mask[:, :, k] & mask[:, :, following], k, following)
        for k, following in itertools.pairwise(usable)
        if following == k + 1
    ]
    return np.array([value for value in values if math.isfinite(value)])


def _correlation(data: Float, where: NDArray[np.bool_], one: int, other: int) -> float:
    return ncc(data[:, :, one][where], data[:, :, other][where]) if where.any() else math.nan


def _windows(data: Float, mask: NDArray[np.bool_], middle: NDArray[np.intp]) -> tuple[Float, Float]:
    """Of pairs of slices: correlations (n), and differences (n, 2) as a share of the first slice and as they are."""
    correlations, differences = [], []
    pairs = [(k, other) for k in middle for other in middle if 0 < abs(k - other) <= _WINDOW]
    for k, other in pairs:
        where = mask[:, :, k] | mask[:, :, other]
        a, b = data[:, :, k][where], data[:, :, other][where]
        size, apart = math.sqrt(np.mean(a**2)), math.sqrt(np.mean((a - b) ** 2))
        correlation = ncc(a, b)
        if size > 0 and math.isfinite(correlation):
            correlations.append(correlation)
            differences.append((apart / size, apart))
    return np.array(correlations), np.array(differences).reshape(-1, 2)


def _centre_shift(mask: NDArray[np.bool_], middle: NDArray[np.intp], spacing: Float) -> float:
    """mm: root-mean-square shift of the mask's centre between neighbours."""
    centres = np.array([np.argwhere(mask[:, :, k]).mean(axis=0) * spacing[:2] for k in middle])
    if len(centres) < 2:
        return math.nan
    return float(np.sqrt(np.mean(np.sum(np.diff(centres, axis=0) ** 2, axis=1))))


def _rank_error(slices: Float) -> tuple[float, float]:
    """`StackMeasures.rank_error`, and the same over the number of slices."""
    columns = slices.reshape(-1, slices.shape[2])
    length = np.linalg.norm(columns, axis=0)
    # A slice's gain is no motion.
    columns = columns[:, length > 0] / length[length > 0]
    if columns.shape[1] < _FEWEST or not columns.size:
        return math.nan, math.nan
    # Squares of the singular values, from the small matrix.
    squares = np.clip(np.linalg.eigvalsh(columns.T @ columns)[::-1], 0.0, None)
    left = np.clip(1.0 - np.cumsum(squares) / squares.sum(), 0.0, None)
    # As a part of all, what is below this is rounding.
    error = np.sqrt(np.where(left < len(left) * np.finfo(float).eps, 0.0, left))
    first = int(np.argmax(error < RANK_TOLERANCE))
    value = float((first + 1) * error[first])
    return value, value / columns.shape[1]


def _mean(values: Float) -> float:
    return float(values.mean()) if len(values) else math.nan
