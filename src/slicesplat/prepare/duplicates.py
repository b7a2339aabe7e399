"""One acquisition given twice: the same file, or what a scanner or converter made of it besides.

A copy has the noise of its original: with and without distortion correction, resampled to other slice distances,
cropped, scaled or rounded. A scan repeated on the same geometry has noise of its own. Both show the same anatomy, so
the noise is compared where there is least of anything else: the response to the outer product of (1, -2, 1) with itself
(Immerkaer, Computer Vision and Image Understanding 64, 1996, 300-302), in the evenest part of the image.

Measured (`benchmarks/bench_duplicates.py`): 0.97 to 1.00 for exact, scaled, rounded, cropped, padded and flipped copies
and on pixels of another size, 0.93 and more for other slice distances and after smoothing, 0.98 and 0.56 at the least
after distortion correction of up to 0.3 and 1 pixels, 0.58 at the least after interpolation in plane by half a pixel.
Scans of a subject that holds still, repeated on the same geometry with 0.3 to 3 % of noise, come to 0.18, the parallel
stacks of the shared cases to 0.11. Not always recognised: distortions of 2 pixels (0.22 at the least) and what a
denoiser left (0.20 after non-local means, 0.03 after a median filter), since it took away what is looked for.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, map_coordinates, uniform_filter

from slicesplat.geometry.stack import Stack, values_where
from slicesplat.likelihood.noise import noise_response

Float = NDArray[np.float64]

log = logging.getLogger("slicesplat")

COPY = 0.35  # noise correlation: twice what repeated scans reach, and two thirds of what interpolated copies have
_PARALLEL = np.cos(np.deg2rad(1.0))  # over a head, slices tilted by more lie in each other's neighbours
_SHARED = 0.5  # of the slices of the shorter stack that have to be in the other one
_SLICES = 7  # compared, of each pair of stacks
_WINDOW = 160  # pixels along each side of what is compared of a slice: enough, and quick in a large field of view
_TILE, _LEAST_PIXELS = 32, 60  # pixels: side of what is judged at a time, and how many it takes
# Pixels: side of the square over which a place counts as even; and the share that is the evenest: in half of the image
# repeated scans with 0.3 % of noise would reach 0.5 by their anatomy.
_EVEN, _EVENEST = 5, 0.25
_NOTHING = 1e-9  # of the largest activity: rounding, where an image was set to zero
# What was interpolated has less noise than the original, and a crop less of the region, by more than this share.
_LESS_NOISE, _LESS_REGION = 0.97, 0.9


def find_copies(stacks: Sequence[Stack]) -> dict[int, int]:
    """Stacks that show the acquisition of another one, each with the stack that is to stay in their place.

    Of the copies of an acquisition that one stays which has a mask of its own, was not interpolated (it has the most
    noise), and shows the most of the region; of equals the first.

    Parameters
    ----------
    stacks : sequence of Stack

    Returns
    -------
    dict
        Index of each stack to leave out: index of the one that stays.
    """
    same = np.eye(len(stacks), dtype=bool)
    for i, j in itertools.combinations(range(len(stacks)), 2):
        same[i, j] = _is_copy(stacks[i], stacks[j])
    copies: dict[int, int] = {}
    if same.sum() == len(stacks):
        return copies
    from scipy.sparse.csgraph import connected_components  # slow to import, and hardly ever needed

    _, group = connected_components(same, directed=False)
    for number in np.unique(group):
        members = np.flatnonzero(group == number).tolist()
        if len(members) > 1:
            best = _original([stacks[member] for member in members])
            copies |= {member: members[best] for member in members if member != members[best]}
    return dict(sorted(copies.items()))


def warn_of_copies(stacks: Sequence[Stack], copies: Mapping[int, int], consequence: str) -> None:
    """One warning for each copy that `find_copies` found, and what becomes of it."""
    for copy, original in copies.items():
        log.warning(
            "%s, stack %d: shows the same acquisition as %s, stack %d, with the same noise; %s",
            stacks[copy].name,
            copy + 1,
            stacks[original].name,
            original + 1,
            consequence,
        )


def noise_correlation(one: Stack, other: Stack) -> float:
    """How well the noise of two stacks agrees where both have slices, between -1 and 1.

    The upper quartile over tiles of slices at about the same place, so that it is enough for a copy that its grid meets
    that of the original here and there. 0 for stacks that are not parallel, share too few slices or show too little.
    """
    # On the coarser grid: a finer one has no noise of its own between the pixels.
    a, b = (one, other) if one.spacing[:2].prod() >= other.spacing[:2].prod() else (other, one)
    found = [value for pair in _paired(a, b) for value in _tile_correlations(*pair)]
    return float(np.quantile(found, 0.75)) if found else 0.0


def _is_copy(one: Stack, other: Stack) -> bool:
    # Without noise to compare, as in a simulation, equal voxels at an equal place still say it.
    if np.allclose(one.affine, other.affine, atol=1e-3) and np.array_equal(one.data, other.data):
        return True
    return noise_correlation(one, other) > COPY


def _original(members: Sequence[Stack]) -> int:
    """Which of an acquisition's copies is to stay."""
    noise = np.array([_relative_noise(stack) for stack in members])
    volume = np.array([stack.mask.sum() * stack.spacing.prod() for stack in members])

    def rank(index: int) -> tuple[bool, bool, bool, int]:
        interpolated = noise[index] < _LESS_NOISE * noise.max()
        cropped = volume[index] < _LESS_REGION * volume.max()
        return members[index].carried, bool(interpolated), bool(cropped), index

    return min(range(len(members)), key=rank)


def _relative_noise(stack: Stack) -> float:
    """Noise of the slices on their own grid over the intensity in the mask, up to a factor."""
    shown = np.flatnonzero(stack.mask.any(axis=(0, 1)))
    levels = []
    for k in _some(shown):
        response = np.abs(_noise(stack.data[:, :, k].astype(np.float64)))[stack.mask[:, :, k]]
        levels.append(np.median(response[response > 0]) if response.any() else 0.0)
    # The mean: of slices at other distances some are where the original's were, and as noisy.
    return float(np.mean(levels) / max(np.median(values_where(stack.data, stack.mask)), 1e-30)) if levels else 0.0


def _paired(a: Stack, b: Stack) -> Iterator[tuple[Float, Float, NDArray[np.bool_]]]:
    """Slices of `a` and those of `b` at their places, on the grid of `a`, around its mask, and where both have data."""
    if abs(a.axes[:, 2] @ b.axes[:, 2]) < _PARALLEL or not a.mask.any():
        return
    to_b = np.linalg.inv(b.affine) @ a.affine
    rows, columns = _window(a.mask, (1, 2)), _window(a.mask, (0, 2))
    i, j = np.mgrid[rows, columns].astype(np.float64)
    shown = np.flatnonzero(a.mask.any(axis=(0, 1)))
    nearest = np.rint(to_b[2] @ [np.full(len(shown), i.mean()), np.full(len(shown), j.mean()), shown, 1.0 + 0 * shown])
    there = (nearest >= 0) & (nearest < b.n_slices)
    shorter = min(len(shown) * a.spacing[2], b.mask.any(axis=(0, 1)).sum() * b.spacing[2])
    if there.sum() * a.spacing[2] < _SHARED * shorter:
        return
    for k, near in _some(np.stack([shown[there], nearest[there].astype(int)], axis=1)):
        place = [row[0] * i + row[1] * j + row[2] * k + row[3] for row in to_b[:2]]
        inside = np.all([(x >= 0) & (x <= n - 1) for x, n in zip(place, b.data.shape[:2], strict=True)], axis=0)
        found = map_coordinates(b.data[:, :, near].astype(np.float64), place, order=3, mode="nearest")
        yield a.data[rows, columns, k].astype(np.float64), found, inside


def _window(mask: NDArray[np.bool_], across: tuple[int, int]) -> slice:
    """The middle part of what the mask covers along one axis, across the two others."""
    used = np.flatnonzero(mask.any(axis=across))
    middle = (used[0] + used[-1] + 1) // 2
    return slice(max(used[0], middle - _WINDOW // 2), min(used[-1] + 1, middle + _WINDOW // 2))


def _some(items: NDArray[np.integer]) -> NDArray[np.integer]:
    """A few, evenly chosen."""
    return items[np.unique(np.linspace(0, len(items) - 1, _SLICES).astype(int))] if len(items) else items


def _tile_correlations(a: Float, b: Float, inside: NDArray[np.bool_]) -> list[float]:
    """Correlation of two images' noise, tile by tile, in the evenest part of the pixels."""
    x, y = _noise(a), _noise(b)
    activity = [uniform_filter(values**2, _EVEN) for values in (x, y)]
    # Not along the rim, where the stencil has seen no more than one of the images, nor where an image was set to zero.
    judged = binary_erosion(inside, iterations=2, border_value=1)
    for level in activity:
        judged &= level > _NOTHING * level.max()
    if not judged.any():
        return []
    most = np.maximum(*(level / np.median(level[judged]) for level in activity))
    even = judged & (most <= np.quantile(most[judged], _EVENEST))
    xx, yy, xy, count = (_tile_sums(even * values) for values in (x * x, y * y, x * y, np.ones_like(x)))
    enough = (count >= _LEAST_PIXELS) & (xx > 0) & (yy > 0)
    values: list[float] = (xy[enough] / np.sqrt(xx[enough] * yy[enough])).tolist()
    return values


def _noise(image: Float) -> Float:
    """What anatomy leaves of an image almost alone."""
    return noise_response(torch.from_numpy(np.ascontiguousarray(image))).numpy()


def _tile_sums(values: Float) -> Float:
    rows, columns = (np.arange(0, size, _TILE) for size in values.shape)
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
