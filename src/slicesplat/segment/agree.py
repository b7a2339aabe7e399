"""Masks of all stacks of an examination: one brain, at one place, of one size; and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.segment.look import Drawn, Finder, Seen
from slicesplat.segment.place import Place, ShareMap, near, places, together, world_maps

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FoundMask:
    """The brain in one stack.

    Attributes
    ----------
    mask : (nx, ny, nz) bool
        Empty where the stack does not show it.
    slice_confidence : (nz,)
        0 to 1 for each slice with a mask: the Dice overlap with the truth that the network's probabilities promise;
        NaN for the others.
    confidence : float
        The same of the whole stack, 0 where nothing was found.
    volume : float
        cm^3.
    others : int
        Places elsewhere in this stack that look like a brain too.
    in_air : bool
        Whether the head lies in air.
    cut : bool
        Whether the brain reaches the first or last slice, or the edge of the image.
    """

    mask: NDArray[np.bool_]
    slice_confidence: Float
    confidence: float
    volume: float = 0.0
    others: int = 0
    in_air: bool = False
    cut: bool = False


def find_masks(stacks: Sequence[Seen], settings: SegmentationSettings, threads: int | None = None) -> list[FoundMask]:
    """The brain in every stack, one and the same.

    Parameters
    ----------
    stacks : sequence of Seen
    settings : SegmentationSettings
    threads : int, optional
        Stacks that are looked at at a time, each by one thread: results do not depend on it. Not given: torch's.
    """
    finder, before = Finder.built_in(), torch.get_num_threads()
    # Sums would come out differently for another number of threads at one stack.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads or before, max(len(stacks), 1)), initializer=_alone) as pool:
            shares, to_voxels = zip(*pool.map(finder.found, stacks), strict=True)
            maps = world_maps(shares, to_voxels, pool.map)
            found = places(together(maps), settings, pool.map)
            if not found:
                return [_nothing(seen) for seen in stacks]
            best = found[0]
            others = [place for place in found[1:] if place.score > settings.another * best.score]

            def of_stack(seen: Seen, known: ShareMap) -> FoundMask:
                return _drawn(finder, seen, near(known, best, settings), others, settings)

            return list(pool.map(of_stack, stacks, maps))
    finally:
        torch.set_num_threads(before)


def _alone() -> None:
    torch.set_num_threads(1)


def _drawn(
    finder: Finder, seen: Seen, place: Place, others: Sequence[Place], settings: SegmentationSettings
) -> FoundMask:
    drawn = finder.drawn(seen, seen.from_world(place.middle), 2 * place.radius, settings)
    mask = with_rim(drawn.mask, seen.spacing, settings.rim)
    confidence, of_slices = confidences(drawn)
    volume = float(mask.sum() * seen.spacing.prod() / 1000)
    if confidence < settings.certain or volume < settings.least_volume:
        return _nothing(seen, confidence)
    cut = bool(mask[:, :, [0, -1]].any() or mask[[0, -1]].any() or mask[:, [0, -1]].any())
    air = drawn.dark > settings.air if settings.anatomy == "auto" else settings.anatomy == "neonatal"
    return FoundMask(mask, of_slices, confidence, volume, len(others), air, cut)


def with_rim(mask: NDArray[np.bool_], spacing: Float, rim: float) -> NDArray[np.bool_]:
    """A mask (nx, ny, nz) with all that lies so many mm around it, on a grid of that spacing (3,), mm."""
    if not mask.any():
        return mask
    pad = np.ceil(rim / spacing).astype(int)
    where = np.argwhere(mask)
    low, high = np.maximum(where.min(axis=0) - pad, 0), where.max(axis=0) + 1 + pad
    box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    out = mask.copy()
    out[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing) <= rim
    return out


def confidences(drawn: Drawn) -> tuple[float, Float]:
    """Dice overlaps that the probabilities promise: of the stack, and of each slice with a mask, NaN for others.

    With probabilities p that are right the expected overlap of a mask M is about 2 sum_M p / (|M| + sum p).
    """
    inside, share = drawn.mask, np.where(drawn.share > 0.02, drawn.share, 0)
    hit, size, mass = (values.sum(axis=(0, 1), dtype=np.float64) for values in (share * inside, inside, share))
    with np.errstate(invalid="ignore", divide="ignore"):
        of_slices = np.where(size > 0, 2 * hit / (size + mass), np.nan)
    whole = 2 * hit.sum() / (size.sum() + mass.sum()) if size.sum() else 0.0
    return float(whole), of_slices


def _nothing(seen: Seen, confidence: float = 0.0) -> FoundMask:
    shape = seen.data.shape
    return FoundMask(np.zeros(shape, bool), np.full(shape[2], np.nan), confidence)
