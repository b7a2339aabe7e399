"""Regions without drawing: what a mask of the volume, the stacks together or their intensities leave of each region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.errors import InputError
from slicesplat.io.masks import as_region
from slicesplat.io.nifti import Image
from slicesplat.prepare.masks import Regions

Mask = NDArray[np.bool_]

_ALL_NEIGHBOURS = np.ones((3, 3, 3), bool)
_PART = 0.1
"""Of the largest bright piece: a smaller one is noise in the air; larger ones are cut off by slices without signal."""


@dataclass(frozen=True)
class Narrowing:
    """What the regions of all stacks are cut to, in this order; nothing by default.

    Attributes
    ----------
    volume : Image or None
        A mask on any grid: what lies outside of it is left out.
    intersection : bool
        Leave out what another stack does not show. Not where there is a mask of the volume.
    threshold : float or None
        Leave out pixels up to this value.
    otsu : bool
        Leave out the air around the bright tissue, by a threshold for each stack (Otsu, IEEE Transactions on Systems,
        Man, and Cybernetics 9, 1979, 62-66).
    """

    volume: Image | None = None
    intersection: bool = False
    threshold: float | None = None
    otsu: bool = False


def narrowed(regions: Regions, images: Sequence[Image], narrowing: Narrowing) -> Regions:
    """The regions, as far as all that was asked for leaves them.

    Parameters
    ----------
    regions : Regions
    images : sequence of Image
        The stacks.
    narrowing : Narrowing

    Raises
    ------
    InputError
        Nothing is left of the region of a stack, or the mask of the volume is none.
    """
    masks, notes, warnings = list(regions.masks), list(regions.notes), list(regions.warnings)
    if narrowing.volume is not None:
        volume, told = as_region(narrowing.volume)
        notes += told
        masks = [mask & on_grid(volume.data > 0, volume, image) for mask, image in zip(masks, images, strict=True)]
        _refuse_nothing(
            masks, images, f"{volume.name} leaves nothing of its region; check that it was drawn in its space"
        )
        if narrowing.intersection:
            warnings.append(
                f"{volume.name}: says what the region is; that of the stacks together is not asked for then"
            )
    elif narrowing.intersection:
        masks = _shared(masks, images)
        _refuse_nothing(masks, images, "shows nothing that all others show too; leave it out, or give masks")
    if narrowing.threshold is not None:
        level = narrowing.threshold
        masks = [mask & (image.data > level) for mask, image in zip(masks, images, strict=True)]
        _refuse_nothing(masks, images, f"nothing in its region is above {level:g}; give a lower threshold")
    if narrowing.otsu:
        masks = [_without_air(mask, image) for mask, image in zip(masks, images, strict=True)]
        _refuse_nothing(masks, images, "its intensities do not tell air from tissue; give masks")
    notes += [
        f"{image.name}: {mask.sum() / before.sum():.0%} of its region is left"
        for image, mask, before in zip(images, masks, regions.masks, strict=True)
        if mask is not before
    ]
    return replace(regions, masks=masks, notes=notes, warnings=warnings)


def on_grid(inside: Mask, mask: Image, image: Image) -> Mask:
    """A region that was drawn on one grid on that of another image, nearest in world space."""
    to_mask = np.linalg.inv(mask.affine) @ image.affine
    found: Mask = ndimage.affine_transform(
        inside.astype(np.uint8),
        to_mask[:3, :3],
        to_mask[:3, 3],
        output_shape=image.data.shape,
        order=0,
        mode="grid-constant",
        prefilter=False,
    ).astype(bool)
    return found


def _shared(masks: Sequence[Mask], images: Sequence[Image]) -> list[Mask]:
    """What lies in the regions of all stacks; a dark pixel inside one of them is no hole."""
    whole = [ndimage.binary_fill_holes(mask) for mask in masks]
    shared = []
    for number, (mask, image) in enumerate(zip(masks, images, strict=True)):
        kept = mask.copy()
        for other in range(len(masks)):
            if other != number:
                kept &= on_grid(whole[other], images[other], image)
        shared.append(kept)
    return shared


def _without_air(mask: Mask, image: Image) -> Mask:
    """The large bright pieces inside a mask, without holes in their slices: dark tissue is no air."""
    values = image.data[mask & np.isfinite(image.data)]
    if not len(values) or values.min() == values.max():
        return np.zeros_like(mask)
    from skimage.filters import threshold_otsu  # slow to import, and for this flag only

    bright = mask & (image.data > threshold_otsu(values))
    pieces, _ = ndimage.label(bright, _ALL_NEIGHBOURS)
    sizes = np.bincount(pieces.ravel())[1:]
    tissue = np.isin(pieces, 1 + np.flatnonzero(sizes >= _PART * sizes.max()))
    filled = np.stack([ndimage.binary_fill_holes(tissue[:, :, k]) for k in range(tissue.shape[2])], axis=2)
    return np.asarray(filled & mask)


def _refuse_nothing(masks: Sequence[Mask], images: Sequence[Image], problem: str) -> None:
    for mask, image in zip(masks, images, strict=True):
        if not mask.any():
            raise InputError(f"{image.source}: {problem}")
