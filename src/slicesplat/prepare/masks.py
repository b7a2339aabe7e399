"""Which voxels of every stack belong to the region: masks as drawn, carried over from one stack, or none at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.errors import InputError
from slicesplat.io.masks import as_region, mask_on
from slicesplat.io.nifti import Image
from slicesplat.prepare.cutout import not_cut_away
from slicesplat.prepare.mask_faults import mended

TEMPLATE_MARGIN = 10.0
"""mm: how far the region may have moved between the stack that has the mask and the others."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Which voxels of every stack belong to the region.

    Attributes
    ----------
    masks : list of (nx, ny, nz) bool
        One for each stack.
    template : int or None
        The stack that the others have theirs from; None if each has its own.
    confidence : list of (nz,) or None
        Of each slice of a mask that the network found; nothing where masks were given.
    notes, warnings : list of str
        What was assumed, and what may have to be put right: to tell once everything is accepted.
    """

    masks: list[NDArray[np.bool_]]
    template: int | None
    notes: list[str]
    warnings: list[str]
    confidence: list[NDArray[np.float64] | None] | None = None


def regions(
    images: Sequence[Image],
    given: Sequence[Image],
    mask_of: int | None = None,
    segmentation: SegmentationSettings | None = None,
) -> Regions:
    """Find the region of every stack.

    Parameters
    ----------
    images : sequence of Image
        The stacks.
    given : sequence of Image
        Masks as drawn or predicted: none, one per stack, or one for all.
    mask_of : int, optional
        Which stack the one for all is drawn on, counted from 1. Not given: the first that has its grid.
    segmentation : SegmentationSettings, optional
        How brains are found where there are no masks. Not given: the region is what is not zero.

    Raises
    ------
    InputError
        As `as_region`, `mask_on` and `mended`; masks are of the wrong number or on another grid, or a stack is empty.
    """
    if mask_of is not None:
        _check_mask_of(mask_of, given, images)
    if not given and segmentation is not None:
        from slicesplat.prepare.segmentation import segmented  # torch and a network, where they are needed

        seen = segmented(images, segmentation)
        return Regions(seen.masks, None, seen.notes, seen.warnings, seen.confidence)
    if not given:
        nonzero = [not_cut_away(image.data) for image in images]
        for image, region in zip(images, nonzero, strict=True):
            if not region.any():
                raise InputError(f"{image.source}: every voxel is zero; check the file")
        told = [f"{image.name}: no mask given, using its non-zero voxels" for image in images]
        return Regions(nonzero, None, told, [])
    read = [as_region(mask) for mask in given]
    masks, notes = [mask for mask, _ in read], [note for _, told in read for note in told]
    if len(masks) == len(images):
        drawn_on = list(range(len(images)))
    elif len(masks) == 1:
        template, told = _template(masks[0], images, mask_of)
        drawn_on, notes = [template], notes + told
    else:
        raise InputError(
            f"{given[-1].source}: wrong number of masks, {len(masks)} for {len(images)} stacks; "
            "give one per stack in the same order, or a single one drawn on one of them"
        )
    drawn: list[NDArray[np.bool_]] = []
    warnings: list[str] = []
    for mask, index in zip(masks, drawn_on, strict=True):
        region, found, faults = mended(mask_on(mask, images[index]), mask, images[index])
        drawn.append(region)
        notes += found
        warnings += faults
    if len(drawn) == len(images):
        return Regions(drawn, None, notes, warnings)
    carried, told = _transfer(drawn[0], masks[0], images, drawn_on[0])
    return Regions(carried, drawn_on[0], notes + told, warnings)


def _check_mask_of(mask_of: int, masks: Sequence[Image], images: Sequence[Image]) -> None:
    if not masks:
        raise InputError(f"{images[0].source}: --mask-of names a stack, but there is no mask; give --stack-masks")
    if len(masks) > 1:
        raise InputError(f"{masks[-1].source}: --mask-of is for a single mask; leave it out, or give one mask")
    if not 1 <= mask_of <= len(images):
        raise InputError(
            f"{masks[0].source}: there is no stack {mask_of} (--mask-of); name one from 1 to {len(images)}"
        )


def _template(mask: Image, images: Sequence[Image], mask_of: int | None) -> tuple[int, list[str]]:
    """Which stack the only mask is drawn on, as named, else the first on its grid; and what to tell."""
    fitting = [index for index, image in enumerate(images) if mask.with_axis_last(image.slice_axis).same_grid(image)]
    if not fitting:
        raise InputError(f"{mask.source}: is on the grid of none of the stacks; resample it to one")
    if mask_of is None:
        names = ", ".join(images[index].name for index in fitting)
        told = f"{mask.name}: fits {names}, taken as drawn on the first of them; --mask-of names another"
        return fitting[0], [told] if len(fitting) > 1 else []
    if mask_of - 1 not in fitting:
        numbers = ", ".join(str(1 + index) for index in fitting)
        raise InputError(
            f"{mask.source}: is not on the grid of stack {mask_of} (--mask-of); name one that it fits: {numbers}"
        )
    return mask_of - 1, []


def _transfer(
    inside: NDArray[np.bool_], mask: Image, images: Sequence[Image], template: int
) -> tuple[list[NDArray[np.bool_]], list[str]]:
    """The template stack's region on every stack: nearest in world space, widened where it was not drawn."""
    mask = mask.with_axis_last(images[template].slice_axis)
    # The widened region may reach beyond the template's grid.
    pad = np.ceil(TEMPLATE_MARGIN / mask.spacing).astype(int) + 1
    outside = np.pad(~inside, [(p, p) for p in pad], constant_values=True)
    wide = (ndimage.distance_transform_edt(outside, sampling=mask.spacing) <= TEMPLATE_MARGIN).astype(np.uint8)
    regions, notes = [], []
    for index, image in enumerate(images):
        if index == template:
            regions.append(inside)
            continue
        to_mask = np.linalg.inv(mask.affine) @ image.affine
        region = ndimage.affine_transform(
            wide,
            to_mask[:3, :3],
            to_mask[:3, 3] + pad,
            output_shape=image.data.shape,
            order=0,
            prefilter=False,
        ).astype(bool)
        if not region.any():
            raise InputError(f"{mask.source}: the mask does not reach {image.name}; give one mask per stack")
        regions.append(region)
        notes.append(f"{image.name}: mask carried over from {images[template].name}, {TEMPLATE_MARGIN:g} mm wider")
    return regions, notes
