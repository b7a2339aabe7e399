"""Where the brain is: the ball whose inside is likeliest brain, and whose surroundings are not, in all stacks together.

What the network takes for brain in one stack and not in another, at the same place in the world, is something else. So
probabilities are averaged in the world, and looked at through balls of every size a brain can have: mean inside minus
mean in a shell around, as blobs are detected (Lindeberg, International Journal of Computer Vision 30, 1998, 79-116).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from slicesplat.config.segmentation import SegmentationSettings

Float = NDArray[np.float64]
Share = NDArray[np.float32]
Each = Callable[..., Iterable[Any]]

STEP = 5.0
"""mm between voxels of the world that places are looked for in."""


@dataclass(frozen=True, eq=False)
class ShareMap:
    """Probabilities in the world.

    Attributes
    ----------
    share : (X, Y, Z)
        Of brain; 0 where nothing was seen.
    seen : (X, Y, Z)
        1 where a stack shows something, 0 elsewhere.
    origin : (3,) mm
        Of the first voxel; axes are the world's, steps `STEP`.
    """

    share: Share
    seen: Share
    origin: Float

    def at(self, index: Sequence[int] | NDArray[np.integer]) -> Float:
        """World place of a voxel."""
        return self.origin + STEP * np.asarray(index)


@dataclass(frozen=True)
class Place:
    """A ball that may be a brain: middle in world, mm, radius, mm, and score from 0 to 1."""

    middle: Float
    radius: float
    score: float


def world_maps(shares: Sequence[Share], to_voxels: Sequence[Float], each: Each = map) -> list[ShareMap]:
    """Every stack's probabilities (nx, ny, nz) on one grid in the world.

    Parameters
    ----------
    shares : sequence of (nx, ny, nz)
    to_voxels : sequence of (4, 4)
        From world, mm, to their voxels.
    each : callable
        `map`, or that of a pool of threads.
    """
    corners = []
    for share, to_voxel in zip(shares, to_voxels, strict=True):
        ends = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in share.shape], indexing="ij"), axis=-1).reshape(-1, 3)
        corners.append(np.linalg.solve(to_voxel[:3, :3], (ends - to_voxel[:3, 3]).T).T)
    low, high = np.concatenate(corners).min(axis=0), np.concatenate(corners).max(axis=0)
    shape = np.ceil((high - low) / STEP).astype(int) + 1

    def mapped(share: Share, to_voxel: Float) -> ShareMap:
        matrix, offset = to_voxel[:3, :3] * STEP, to_voxel[:3, :3] @ low + to_voxel[:3, 3]
        options = {"output_shape": tuple(shape), "order": 1, "mode": "grid-constant", "cval": 0.0}
        values = ndimage.affine_transform(share, matrix, offset, **options)
        return ShareMap(values, _shown(share.shape, matrix, offset, shape).astype(np.float32), low)

    return list(each(mapped, shares, to_voxels))


def _shown(shape: tuple[int, ...], matrix: Float, offset: Float, grid: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Where more than half of what is interpolated linearly comes from inside an image of that shape, on a grid."""
    steps = np.meshgrid(*map(np.arange, grid), indexing="ij", sparse=True)
    share = np.ones(tuple(grid), np.float32)
    for row, start, n in zip(matrix, offset, shape, strict=True):
        at = start + sum(factor * step for factor, step in zip(row, steps, strict=True))
        share *= np.clip(np.minimum(at + 1, n - at), 0, 1)
    return share > 0.5


def together(maps: Sequence[ShareMap]) -> ShareMap:
    """The mean of all stacks."""
    count = np.sum([known.seen for known in maps], axis=0)
    total = np.sum([known.share * known.seen for known in maps], axis=0)
    # Stacks are planned to show the brain: one that does not show a place speaks against it, half as loud.
    share = total / ((count + len(maps)) / 2)
    return ShareMap(share.astype(np.float32), (count > 0).astype(np.float32), maps[0].origin)


def places(known: ShareMap, settings: SegmentationSettings, each: Each = map) -> list[Place]:
    """Balls that may be brains, the best first, none inside another; `each` as in `world_maps`."""
    radii = [r for r in settings.radii if settings.volumes[0] <= 4.19e-3 * r**3 <= settings.volumes[1]]
    scores = np.stack(list(each(_filter(known, max(radii), settings), radii)))
    best, which = scores.max(axis=0), scores.argmax(axis=0)
    peaks = (best == ndimage.maximum_filter(best, size=3)) & (best > settings.least_score)
    order = sorted(np.argwhere(peaks).tolist(), key=lambda index: -best[tuple(index)])
    found: list[Place] = []
    for index in order:
        middle, radius = known.at(index), radii[which[tuple(index)]]
        if all(np.linalg.norm(middle - other.middle) > radius + other.radius for other in found):
            found.append(Place(middle, float(radius), float(best[tuple(index)])))
        if len(found) == settings.most_candidates:
            break
    return found


def near(known: ShareMap, place: Place, settings: SegmentationSettings) -> Place:
    """Where the ball of that size fits best in one stack, not far from where it is in all of them."""
    score = _filter(known, place.radius, settings)(place.radius)
    away = sum(
        ((known.origin[a] + STEP * np.arange(n) - place.middle[a]) ** 2).reshape(np.roll([-1, 1, 1], a))
        for a, n in enumerate(score.shape)
    )
    pull = np.exp(-0.5 * away / settings.together**2)
    index = np.unravel_index(int(np.argmax(score * pull)), score.shape)
    if score[index] * pull[index] < settings.least_score:
        return Place(place.middle, place.radius, 0.0)
    return Place(known.at(np.array(index)), place.radius, float(score[index]))


def _filter(known: ShareMap, largest: float, settings: SegmentationSettings) -> Callable[[float], Share]:
    """What gives the scores (X, Y, Z) for a radius, up to the largest."""
    reach = settings.shell * largest + settings.skull
    pad = [fft.next_fast_len(int(n + reach / STEP) + 2, real=True) for n in known.share.shape]
    # Kernels and maps are float32, and so are their transforms.
    share, seen = (fft.rfftn(values, pad) for values in (known.share * known.seen, known.seen))
    axes = [np.minimum(np.arange(n), n - np.arange(n)) * STEP for n in pad]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
    cut = tuple(slice(0, n) for n in known.share.shape)

    def scores(radius: float) -> Share:
        # Soft edges: the grid is as coarse as the differences of the radii.
        ball = np.clip((radius - distance) / STEP + 0.5, 0, 1)
        outer = np.clip((settings.shell * radius + settings.skull - distance) / STEP + 0.5, 0, 1)
        shell = outer - np.clip((radius + settings.skull - distance) / STEP + 0.5, 0, 1)
        in_ball, in_shell = (fft.rfftn(kernel.astype(np.float32), pad) for kernel in (ball, shell))
        inside, around, covered, room = (
            fft.irfftn(one * other, pad)[cut]
            for one, other in ((share, in_ball), (share, in_shell), (seen, in_ball), (seen, in_shell))
        )
        whole = covered / ball.sum()
        contrast = inside / np.maximum(covered, 1e-3) - around / np.maximum(room, 0.2 * shell.sum())
        score = np.where(whole > settings.least_shown, contrast * np.sqrt(np.clip(whole, 0, 1)), 0)
        return np.asarray(score, np.float32)

    return scores
