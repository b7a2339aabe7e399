"""What was cut out of a stack, and where nothing was measured therefore.

Most preprocessing hands over stacks that hold one value, zero or NaN, outside the brain. That value is no measurement:
fitted as one, it pulls field and poses at the rim of the mask (31.6 dB fell to 24.7 on a fetal case).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.geometry.stack import Stack, values_where

log = logging.getLogger("slicesplat")

FILLED = 0.5
"""Share of the pixels right beside the mask that hold one and the same value where a stack is cut out. It is 1 there
but where the mask is smaller than what was cut, and next to 0 in a stack as scanned, air included: noise differs."""
EMPTY = 0.2
"""Share of a whole image that one value fills at least where it is what cutting out left: a brain fills less than half
of a field of view. A few voxels that are not finite are a fault of the file."""
CUT_OUT = 0.45
"""Share of a whole image that cutting out leaves empty at least. Of scans with a mother in them up to 0.21 was."""
MOST_LEFT = 2000.0
"""cm^3 that cutting out leaves at most: a head. A mother in air that was set to zero holds more."""


def without_fill(stack: Stack) -> Stack:
    """The stack with `measured` set, and a mask that holds no pixel that was cut away.

    Slices of which nothing is left inside the mask lose their mask at the ends of the stack, where there is no tissue;
    between others they keep it, since their signal was lost, and carry no weight.

    Examples
    --------
    >>> data = np.zeros((9, 9, 3), np.float32); data[2:7, 2:7] = 5 + np.arange(3)
    >>> stack = Stack(data, np.pad(np.ones((7, 7, 3), bool), ((1, 1), (1, 1), (0, 0))), np.eye(4), 1.0)
    >>> cut = without_fill(stack)
    >>> int(cut.mask[:, :, 0].sum()), int(cut.measured[:, :, 0].sum())
    (25, 25)
    """
    value = _fill_value(stack)
    if value is None:
        return stack
    measured = measured_beside(stack.data == value, stack.mask)
    if measured is None:
        return stack
    if stack.measured is not None:
        measured &= stack.measured
    mask: NDArray[np.bool_] = stack.mask & measured
    left = np.flatnonzero(mask.any(axis=(0, 1)))
    if not len(left):
        return stack
    between = range(left[0], left[-1] + 1)
    lost = [k for k in between if stack.mask[:, :, k].any() and not mask[:, :, k].any()]
    mask[:, :, lost] = stack.mask[:, :, lost]
    trimmed = int((stack.mask & ~mask).sum())
    log.info(
        "%s: is cut out; pixels of exactly %g beside its mask count as not measured%s",
        stack.name,
        value,
        f", {trimmed} inside it too" if trimmed else "",
    )
    # Whatever mask was carried over, what is left is the region that was cut out of this stack itself.
    return replace(stack, mask=mask, measured=measured, carried=False)


def measured_beside(empty: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Where a stack that is cut out was measured: (nx, ny, nz) bool; None for a stack that is not.

    Parameters
    ----------
    empty : (nx, ny, nz) bool
        Voxels that hold the value of what was cut away. Those that measured pixels of their slice enclose count as
        measured: signal may be zero.
    mask : (nx, ny, nz) bool
    """
    beside = _beside(mask)
    if not beside.any() or values_where(empty, beside).mean() < FILLED:
        return None
    measured: NDArray[np.bool_] = ~empty
    for k in range(measured.shape[2]):
        measured[:, :, k] = ndimage.binary_fill_holes(measured[:, :, k])
    return measured


def not_cut_away(data: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Where an image holds something, without a mask: (nx, ny, nz) bool.

    Not zero; nor NaN or infinite, nor its least value if that is negative, where these fill a fifth of it and more.

    Examples
    --------
    >>> not_cut_away(np.array([[[-1024.0, -1024.0, -3.0, 0.0, 7.0]]]))[0, 0].tolist()
    [False, False, True, False, True]
    """
    finite = np.isfinite(data)
    kept = data != 0
    if (~finite).mean() >= EMPTY:
        kept &= finite
    least = data == np.min(data, where=finite, initial=np.inf)
    if least.mean() >= EMPTY and (data[least] < 0).all():
        kept &= ~least
    return kept


def is_cut_out(data: NDArray[np.floating], spacing: NDArray[np.floating]) -> bool:
    """Whether an image (nx, ny, nz) of that voxel size (3,), mm, holds nothing but a brain or a head, cut out.

    Examples
    --------
    >>> is_cut_out(np.pad(np.ones((9, 9, 9)), 9), np.ones(3)), is_cut_out(np.ones((9, 9, 9)), np.ones(3))
    (True, False)
    """
    kept = not_cut_away(data)
    return bool(kept.mean() <= 1 - CUT_OUT and kept.sum() * np.prod(spacing) / 1000 <= MOST_LEFT)


def without_what_is_not_finite(data: NDArray[np.floating], region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region without what was cut away around it and is NaN or infinite; as it is where nothing was."""
    finite = np.isfinite(data)
    if finite.all():
        return region
    measured = measured_beside(~finite, region)
    return region if measured is None else region & measured


def _fill_value(stack: Stack) -> float | None:
    """The most common value right beside the mask; None where the mask leaves nothing beside it."""
    beside = _beside(stack.mask)
    if not beside.any():
        return None
    values, counts = np.unique(values_where(stack.data, beside), return_counts=True)
    return float(values[np.argmax(counts)])


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels (nx, ny, nz) that touch the mask in the plane of their slice and are not in it."""
    # Four shifts: a twentieth of the time of a dilation of the whole volume by a cross.
    near: NDArray[np.bool_] = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    return near & ~mask
