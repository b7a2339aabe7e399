"""When slices were acquired: as a header says, else as the interleave does."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEAST_IN_PACKAGE = 3
"""Slices that a package has on average at least: of fewer, how they follow each other in space tells nothing."""


def acquisition_times(n_slices: int, interleave: int = 1) -> NDArray[np.float64]:
    """When each slice of a stack was acquired, in slices since it was begun: package after package.

    Parameters
    ----------
    n_slices : int
    interleave : int
        Packages: slice k belongs to package k modulo that number.

    Examples
    --------
    >>> acquisition_times(5, 2).tolist()
    [0.0, 3.0, 1.0, 4.0, 2.0]
    """
    return ranks(np.arange(n_slices) % interleave)


def acquisition_order(n_slices: int, interleave: int = 1) -> NDArray[np.int64]:
    """(n_slices,) the slices in the order in which they are acquired: package after package.

    Examples
    --------
    >>> acquisition_order(5, 2).tolist()
    [0, 2, 4, 1, 3]
    """
    return np.argsort(np.arange(n_slices) % interleave, kind="stable")


def ranks(times: ArrayLike) -> NDArray[np.float64]:
    """(nz,) places in time of slices, from 0; of slices acquired at once the one of lower index comes first.

    Examples
    --------
    >>> ranks([3.1, 0.0, 4.6, 1.5]).tolist()
    [2.0, 0.0, 3.0, 1.0]
    """
    out = np.empty(np.shape(times))
    out[np.argsort(times, kind="stable")] = np.arange(len(out))
    return out


def packages(times: ArrayLike) -> NDArray[np.int32]:
    """(nz,) the package that each slice was acquired in: a new one begins where the scanner goes back.

    One package for all where there would be too many of them to mean anything. A slice that was not acquired, of time
    NaN, is in the first.

    Examples
    --------
    >>> packages([0, 4, 1, 5, 2, 6, 3, 7]).tolist(), packages([4, 3, 2, 1, 0]).tolist()
    ([0, 1, 0, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0])
    """
    order = np.argsort(times, kind="stable")  # NaN last
    out = np.zeros(len(order), np.int32)
    order = order[: int(np.isfinite(times).sum())]
    steps = np.diff(order)
    back = steps * np.sign(np.median(steps)) < 0 if len(steps) else np.zeros(0, bool)
    if len(steps) and _LEAST_IN_PACKAGE * (back.sum() + 1) <= len(order):
        out[order[1:]] = np.cumsum(back)
    return out
