"""Intensities of several stacks on one scale, and the way back to the input's.

Magnitude images are zero where there is no signal. What a preprocessing step shifted, to z-scores or to a background of
-1024, is not: the offset is found and taken off first, since gains and the empty space around the region mean nothing
with it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack, values_where
from slicesplat.prepare.assess import lost_slices
from slicesplat.prepare.cutout import without_fill

log = logging.getLogger("slicesplat")

DARK = 0.2  # of the brightest tissue: what is darker may be air, of which a loose mask holds a lot
SPIKE = np.float32(3.0)  # times the brightest tissue: no tissue is brighter, and one such pixel would bend a field
# Of the range of intensities: no magnitude image reaches so far below zero. Interpolation and bias correction overshoot
# by a per cent or two.
NEGATIVE = 0.05
# Largest magnitudes that need no unit: squares and sums of so many stay far from the ends of single precision.
_USUAL = (1e-12, 1e12)
LOST = 0.25  # share of lost slices from which on the median of a stack's tissue is no longer that of its sound slices
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Intensities:
    """How the intensities of the input and those that are worked with belong together.

    Attributes
    ----------
    offset : tuple of float
        For every stack, what it holds where there is no signal.
    unit : float
        A power of two that brings numbers near the ends of single precision into its middle; 1 for all others.
    factor : tuple of float
        For every stack, what its signal is multiplied with: then tissue has the same median in all stacks.
    scale : float
        Brightest tissue after that, in units of `unit`; what is worked with is in units of it.
    """

    offset: tuple[float, ...]
    unit: float = 1.0
    factor: tuple[float, ...] = ()
    scale: float = 1.0

    @property
    def common_offset(self) -> float:
        """The offset that the volume has: the one that is typical of the stacks."""
        return float(np.median(self.offset))

    @property
    def brightest(self) -> float:
        """The brightest tissue above the offset, on the scale of the input."""
        return self.scale * self.unit

    def volume(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Values of the field on the scale of the input."""
        return _single(values.astype(np.float64) * np.float32(self.scale) * self.unit + self.common_offset)

    def error(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Errors of the field's values on the scale of the input."""
        return _single(values.astype(np.float64) * np.float32(self.scale) * self.unit)

    def counted(self, numbers: Sequence[int], stacks: int) -> Intensities:
        """The same for a longer list of so many stacks, in which these here have the given numbers."""
        offset, factor = [self.common_offset] * stacks, [1.0] * stacks
        for number, own_offset, own_factor in zip(numbers, self.offset, self.factor, strict=True):
            offset[number], factor[number] = own_offset, own_factor
        return replace(self, offset=tuple(offset), factor=tuple(factor))

    def on_input_scale(self, stack: Stack, number: int) -> Stack:
        """What `signal` made of a stack, or something like it, on the scale of the input."""
        if self.unit == 1 and not self.offset[number]:
            return stack
        return replace(stack, data=_single(stack.data.astype(np.float64) * self.unit + self.offset[number]))


def signal(stacks: Sequence[Stack]) -> tuple[list[Stack], Intensities]:
    """The stacks with zero where there is no signal and numbers that can be reckoned with, and the way back.

    What was cut out of them is marked as not measured first (`prepare.cutout`).
    """
    stacks = [without_fill(stack) for stack in stacks]
    offsets = tuple(intensity_offset(stack) for stack in stacks)
    for stack, offset in zip(stacks, offsets, strict=True):
        if offset:
            log.info("%s: its intensities are taken as lying above %g, which counts as no signal", stack.name, offset)
    largest = max(max(float(stack.data.max(initial=0.0)), -float(stack.data.min(initial=0.0))) for stack in stacks)
    usual = largest == 0 or _USUAL[0] < largest < _USUAL[1]
    unit = 1.0 if usual else 2.0 ** math.floor(math.log2(largest))
    return [
        replace(stack, data=_single((stack.data.astype(np.float64) - offset) / unit)) if offset or unit != 1 else stack
        for stack, offset in zip(stacks, offsets, strict=True)
    ], Intensities(offsets, unit)


def intensity_offset(stack: Stack) -> float:
    """What a stack holds where there is no signal: 0 unless tissue is negative, or what surrounds a cut-out stack.

    Examples
    --------
    >>> values = np.linspace(300, 900, 27, dtype=np.float32).reshape(3, 3, 3)
    >>> intensity_offset(Stack(values, np.ones((3, 3, 3), bool), np.eye(4), 1.0))
    0.0
    >>> round(intensity_offset(Stack(values - 800, np.ones((3, 3, 3), bool), np.eye(4), 1.0)))
    -497
    """
    inside = stack.mask if stack.measured is None else stack.mask & stack.measured
    values = values_where(stack.data, inside).astype(np.float64)
    if not len(values):
        return 0.0
    low, high = np.percentile(values, [1, 99])
    fill = _fill(stack)
    # What surrounds a region that was cut out, if it is no mere marker: as far below the tissue as that is bright.
    background = fill if fill is not None and low - (high - low) <= fill <= low else None
    if low < -NEGATIVE * (high - low):
        everything = stack.data if stack.measured is None else values_where(stack.data, stack.measured)
        return float(np.percentile(everything, 0.5)) if background is None else background
    return background if background is not None and background > 0 else 0.0


def scale_intensities(
    stacks: Sequence[Stack], intensities: Intensities | None = None, alike: bool = True
) -> tuple[list[Stack], Intensities]:
    """Stacks with the brightest tissue at 1, equal medians and no spikes, and the way back.

    Parameters
    ----------
    stacks : sequence of Stack
        Zero where there is no signal.
    intensities : Intensities, optional
        What `signal` did to bring them there.
    alike : bool
        Whether to bring the stacks' medians together.

    Raises
    ------
    InputError
        A stack is constant or dark throughout its mask.
    """
    factors = _factors(stacks) if alike else (1.0,) * len(stacks)
    seen = [values_where(stack.data, stack.mask) for stack in stacks]
    bright = np.concatenate([values * factor for values, factor in zip(seen, factors, strict=True)])
    scale = float(np.percentile(bright, 99))
    known = intensities or Intensities((0.0,) * len(stacks))
    return [
        replace(stack, data=_scaled(stack.data, factor / scale)) for stack, factor in zip(stacks, factors, strict=True)
    ], replace(known, factor=factors, scale=scale)


def _scaled(data: NDArray[np.floating], factor: float) -> NDArray[np.float32]:
    """Data times a factor, without spikes."""
    scaled = data * np.float32(factor)
    return np.minimum(scaled, SPIKE, out=scaled).astype(np.float32, copy=False)


def _factors(stacks: Sequence[Stack]) -> tuple[float, ...]:
    """What to multiply each stack with so that its tissue has the median that is typical of all.

    Its tissue, not its mask: one mask holds next to no air, another, drawn wide, more air than tissue.
    """
    medians = []
    for stack in stacks:
        values = values_where(stack.data, _sound(stack))
        if not len(values) or not np.median(values) > 0:
            raise InputError(f"{stack.name}: more than half of its mask has no signal; check the mask")
        medians.append(float(np.median(values[values > DARK * np.percentile(values, 99)])))
    typical = float(np.median(medians))
    return tuple(typical / median for median in medians)


def _sound(stack: Stack) -> NDArray[np.bool_]:
    """The mask (nx, ny, nz), without the slices that lost their signal where they are more than a median stands."""
    lost = lost_slices(stack)
    if len(lost) < LOST * np.count_nonzero(stack.mask.any(axis=(0, 1))):
        return stack.mask
    sound = stack.mask.copy()
    sound[:, :, lost] = False
    return sound


def _fill(stack: Stack) -> float | None:
    """The value of what was cut away; None for a stack that is not cut out."""
    if stack.measured is None or stack.measured.all():
        return None
    return float(stack.data[~stack.measured][0])


def _single(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The values in single precision, its largest number where they are beyond it."""
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)
