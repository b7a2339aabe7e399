"""Slices that move as one while their poses are still coarse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import WHOLE_STACK
from slicesplat.geometry.slices import Slices


def runs_in_time(slices: Slices, length: int) -> NDArray[np.int64]:
    """Numbers (S,) of the groups: runs of about `length` slices that follow each other in time in their package.

    Parameters
    ----------
    slices : Slices
    length : int
        `WHOLE_STACK`, or the number of slices in a run.
    """
    if length == WHOLE_STACK:
        return np.unique(slices.stack, return_inverse=True)[1]
    if length == 1:
        return np.arange(len(slices))
    group = np.zeros(len(slices), np.int64)
    number = 0
    for stack in np.unique(slices.stack):
        order = slices.in_time(stack)
        for package in np.unique(slices.package[order]):
            members = order[slices.package[order] == package]
            for part in np.array_split(members, max(1, round(len(members) / length))):
                group[part] = number
                number += len(part) > 0
    return group
