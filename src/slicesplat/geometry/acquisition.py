"""When slices were acquired: interleave is one source of their times, a header or a tracker may be another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
    out = np.empty(n_slices)
    out[acquisition_order(n_slices, interleave)] = np.arange(n_slices)
    return out


def acquisition_order(n_slices: int, interleave: int = 1) -> NDArray[np.int64]:
    """(n_slices,) the slices in the order in which they are acquired: package after package.

    Examples
    --------
    >>> acquisition_order(5, 2).tolist()
    [0, 2, 4, 1, 3]
    """
    index = np.arange(n_slices)
    return np.lexsort((index, index % interleave))
