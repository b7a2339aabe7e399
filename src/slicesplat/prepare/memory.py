"""What a reconstruction will take of memory: known before the work starts.

The peak is that of the fit on its finest lattice, or of the output grid. Both follow from the geometry alone: how many
pixels the masks hold, how many pairs of slices and Gaussians there are, how many cells the lattice's box has.

Measured (`benchmarks/bench_memory.py`): from 16 % below the peak to 20 % above it over all shared cases and settings.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.geometry.psf import slice_psf
from slicesplat.geometry.reach import FIT_CUTOFF, LATTICE_SIGMA, LIST_MARGIN, PADDING, RIM_MM
from slicesplat.geometry.slices import FIT_MARGIN
from slicesplat.geometry.stack import Stack
from slicesplat.machine import available_memory, resident_memory

Float = NDArray[np.float64]

log = logging.getLogger("slicesplat")

GB = 1e9

# What numpy, PyTorch and the C library say when an allocation fails.
_EXHAUSTED = re.compile(r"(can't|cannot|unable to|could not) allocate|not enough memory|out of memory", re.IGNORECASE)

# Bytes. A pair has its projection, the number of its Gaussian, its place among the Gaussian's pairs, and one value.
_PAIR_FIELDS = 7
_PER_PAIR = 4 * (_PAIR_FIELDS + 3)
# The next five are fitted to the peaks of the shared cases; each stands for a dozen arrays. Cells are those of the box
# around the finest lattice, its Gaussians and those of the next coarser one included; pixels those of the crops.
_PER_CELL = 445.0
_PER_PIXEL = 240.0
_PER_PIXEL_REGISTERING = 200.0
# Whether the finest lattice is tried is up to the data: with masks it was in all cases, without in one of two. With
# half of what it takes more than the next coarser one the estimate is near enough for both.
_FINEST_TRIED = 0.5
_PER_VOXEL_READ = 4.0  # a stack's scaled copy
# Fitted to the peaks at 0.2 to 0.3 mm of fetal-mild, infant-still and mial-sub01. Planes are sampled a few at a time:
# their pairs do not count.
PER_OUTPUT_VOXEL = 27.0  # while it is sampled, finished and written
_AFTER_THE_FIT = 0.15  # of what the fit took is still there when the volume is sampled
_KERNELS = 50e6  # the compiled ones
RESIDENT = 450e6
"""Bytes of Python and the libraries, where the system does not say, or another process is to do the work."""

_RIM = 1.12  # pairs with the Gaussians around the mask's edge, over those inside it
_BOX_CELLS = 4  # of the lattice's box beyond the region: its empty faces, and rounding


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that the parts of the work take; the parts in the order of their time.

    Attributes
    ----------
    resident : float
        What is there before the work: Python, the libraries, the stacks.
    prepare : float
        Copies of the stacks, kept to the end.
    register, fit, sample : float
        At the peak of each part; a registration has no fit and no sampling.
    """

    resident: float
    prepare: float
    register: float
    fit: float = 0.0
    sample: float = 0.0

    @property
    def peak(self) -> float:
        """Bytes in use when most is."""
        return self.resident + self.prepare + max(self.register, self.fit, self.sample)


@dataclass(frozen=True)
class _Region:
    """What of the stacks' geometry the memory follows from.

    Attributes
    ----------
    inside, crops : (n,) floats
        Pixels of each stack: inside its masks, and in the crops around them.
    extent : (3,) mm
        Of the box around all masks.
    """

    inside: Float
    crops: Float
    extent: Float


@contextmanager
def within_memory(
    stacks: Sequence[Stack], config: Config, spacings: Sequence[float], volume: bool = True
) -> Iterator[None]:
    """Refuse work that takes more memory than there is, and say what was expected where memory runs out anyway.

    On a CUDA device nothing is estimated: it has a memory of its own.

    Parameters
    ----------
    stacks, config, spacings, volume
        As for `estimate_memory`.

    Raises
    ------
    InputError
        The work would take more than `config.max_memory`, or than is available where that is not given.
    MemoryError
        There was not enough in spite of the estimate.
    """
    from slicesplat.splat import available_backends  # PyTorch: whoever only asks for an estimate does not wait for it

    on_gpu = config.device != "cpu" and available_backends()[0] != "cpu"
    if on_gpu or not any(stack.mask.any() for stack in stacks):
        # Empty masks are refused by the work itself, as other stacks that nothing can be made of.
        yield
        return
    estimate = estimate_memory(stacks, config, spacings, volume)
    _check(estimate, stacks, config)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _EXHAUSTED.search(str(error))):
            raise
        raise MemoryError(f"{error}; {in_gb(estimate.peak)} was expected; {_remedy(estimate)}") from error


def _check(estimate: MemoryEstimate, stacks: Sequence[Stack], config: Config) -> None:
    available = available_memory()
    limit = config.max_memory * GB or (math.inf if available is None else estimate.resident + available)
    if estimate.peak > limit:
        largest = max(stacks, key=lambda stack: stack.mask.sum())
        others = " and the other stacks" if len(stacks) > 1 else ""
        bound = "--max-memory allows" if config.max_memory else "there are"
        raise InputError(
            f"{largest.name}{others}: would take about {in_gb(estimate.peak)} of memory, and {bound} {in_gb(limit)}; "
            f"{_remedy(estimate)}, or allow more with --max-memory"
        )
    there = "" if math.isinf(limit) else f", of {in_gb(limit)}"
    log.info("memory: about %s at the peak%s", in_gb(estimate.peak), there)


def _remedy(estimate: MemoryEstimate) -> str:
    if estimate.sample > max(estimate.register, estimate.fit):
        return "choose a coarser --output-resolution"
    return "give --stack-masks that hold the region alone, or crop the stacks to it"


def in_gb(size: float) -> str:
    """So many bytes, in words."""
    return f"{size / GB:.3g} GB"


def estimate_memory(
    stacks: Sequence[Stack],
    config: Config,
    spacings: Sequence[float],
    volume: bool = True,
    resident: float | None = None,
) -> MemoryEstimate:
    """What the work on stacks takes, on the CPU.

    Parameters
    ----------
    stacks : sequence of Stack
    config : Config
    spacings : sequence of float
        Lattice constants that the fit may try, in in-plane pixels, the finest last.
    volume : bool
        Whether a volume is to be made, or poses alone.
    resident : float, optional
        Bytes that are there before the work, of the process that is to do it; those of this one when not given.
    """
    region = _region(stacks)
    pixels = region.crops.sum()
    start = {
        "resident": resident or resident_memory() or RESIDENT,
        "prepare": _KERNELS + _PER_VOXEL_READ * sum(stack.data.size for stack in stacks),
        "register": _PER_PIXEL_REGISTERING * pixels,
    }
    if not volume:
        return MemoryEstimate(**start)
    pixel = float(np.median(np.concatenate([np.repeat(s.spacing[:2], s.n_slices) for s in stacks])))
    last = [fraction * pixel for fraction in spacings[-2:]]
    lattices = [
        _PER_PAIR * _pairs(stacks, region.inside, config, spacing) + _PER_CELL * _cells(region.extent, spacing)
        for spacing in last
    ]
    fit = _PER_PIXEL * pixels + lattices[0] + _FINEST_TRIED * (lattices[-1] - lattices[0])
    shape = (region.extent + 2 * RIM_MM) / config.resolution + 2 * PADDING
    sample = _AFTER_THE_FIT * fit + PER_OUTPUT_VOXEL * float(np.prod(shape))
    return MemoryEstimate(**start, fit=fit, sample=sample)


def _region(stacks: Sequence[Stack]) -> _Region:
    """The region that the stacks' masks show.

    Masks that were carried over from another stack are wider than the region, until they are refined: those that were
    drawn say how large it is.
    """
    counts = np.array([stack.mask.sum() for stack in stacks], dtype=np.float64)
    crops = np.array([_crop_pixels(stack) for stack in stacks], dtype=np.float64)
    sizes = np.array([stack.spacing.prod() for stack in stacks])
    drawn = np.array([not stack.carried for stack in stacks]) & (counts > 0)
    if not drawn.any():
        drawn = counts > 0
    corners = np.concatenate([_corners(stack) for stack, own in zip(stacks, drawn, strict=True) if own])
    volume = float((counts * sizes)[drawn].max())
    # A carried mask shrinks to the drawn one's volume, and its crops with it.
    shrink = np.where(drawn, 1.0, np.minimum(1.0, volume / np.maximum(counts * sizes, 1e-9)))
    return _Region(counts * shrink, crops * shrink, np.ptp(corners, axis=0))


def _crop_pixels(stack: Stack) -> int:
    """Pixels of the rectangles around the mask of every slice."""
    sides = [np.asarray(stack.mask.any(axis=axis)) for axis in (1, 0)]
    total = 0
    for k in np.flatnonzero(sides[0].any(axis=0)):
        used = [np.flatnonzero(side[:, k]) for side in sides]
        total += math.prod(
            min(int(line[-1]) + 1 + FIT_MARGIN, side.shape[0]) - max(int(line[0]) - FIT_MARGIN, 0)
            for line, side in zip(used, sides, strict=True)
        )
    return total


def _corners(stack: Stack) -> Float:
    """(n, 3) mm: ends of the mask's lines along one axis, its outermost points among them, at both faces of a slice."""
    shown = stack.mask.any(axis=2)
    first, last = stack.mask.argmax(axis=2), stack.n_slices - 1 - stack.mask[:, :, ::-1].argmax(axis=2)
    lines = np.argwhere(shown)
    ends = np.concatenate([np.column_stack([lines, end[shown]]) for end in (first, last)])
    points = ends @ stack.affine[:3, :3].T + stack.affine[:3, 3]
    half = stack.thickness / 2 * stack.axes[:, 2]
    return np.concatenate([points - half, points + half])


def _pairs(stacks: Sequence[Stack], inside: Float, config: Config, spacing: float) -> float:
    """Pairs of slices and Gaussians on a lattice: how many of its layers a slice reaches, over all pixels."""
    total = 0.0
    for stack, count in zip(stacks, inside, strict=True):
        _, covariances, _ = slice_psf(stack.spacing[:2], stack.thickness, config.slice_profile)
        sigma = np.sqrt((LATTICE_SIGMA * spacing) ** 2 + np.asarray(covariances)[:, 2])
        reach = (FIT_CUTOFF * sigma + LIST_MARGIN).sum()
        total += float(_RIM * count * stack.spacing[:2].prod() * 2 * reach / spacing**3)
    return total


def _cells(extent: Float, spacing: float) -> float:
    return float(np.prod(extent / spacing + _BOX_CELLS))
