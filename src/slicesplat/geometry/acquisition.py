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
    index = np.arange(n_slices)
    out = np.empty(n_slices)
    out[np.lexsort((index, index % interleave))] = index
    return out
