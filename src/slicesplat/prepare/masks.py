"""Which voxels of every stack belong to the region: masks as drawn, carried over from one stack, or none at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.errors import InputError
from slicesplat.io.masks import mask_on, read_mask
from slicesplat.io.nifti import Image

TEMPLATE_MARGIN = 10.0
"""mm: how far the region may have moved between the stack that has the mask and the others."""


def regions(
    images: Sequence[Image], mask_paths: Sequence[Path]
) -> tuple[list[NDArray[np.bool_]], int | None, list[str]]:
    """The region of each stack, the stack that the others have it from if there is one, and what to tell about it."""
    if not mask_paths:
        nonzero = [image.data != 0 for image in images]
        for image, region in zip(images, nonzero, strict=True):
            if not region.any():
                raise InputError(f"{image.path}: every voxel is zero; check the file")
        return nonzero, None, [f"{image.name}: no mask given, using its non-zero voxels" for image in images]
    masks = [read_mask(path) for path in mask_paths]
    if len(masks) == len(images):
        return [mask_on(mask, image) for mask, image in zip(masks, images, strict=True)], None, []
    template = _template(masks, images)
    if template is None:
        raise InputError(
            f"{mask_paths[-1]}: wrong number of masks, {len(masks)} for {len(images)} stacks; "
            "give one per stack in the same order, or a single one drawn on just one of them"
        )
    carried, notes = _transfer(masks[0], images, template)
    return carried, template, notes


def _template(masks: Sequence[Image], images: Sequence[Image]) -> int | None:
    """Which stack the only mask is drawn on; None when there is no telling."""
    if len(masks) != 1:
        return None
    drawn_on = [
        index for index, image in enumerate(images) if masks[0].with_axis_last(image.slice_axis).same_grid(image)
    ]
    return drawn_on[0] if len(drawn_on) == 1 else None


def _transfer(mask: Image, images: Sequence[Image], template: int) -> tuple[list[NDArray[np.bool_]], list[str]]:
    """The template stack's mask on every stack: nearest in world space, widened where it was not drawn."""
    mask = mask.with_axis_last(images[template].slice_axis)
    inside = mask.data > 0
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
            raise InputError(f"{mask.path}: the mask does not reach {image.name}; give one mask per stack")
        regions.append(region)
        notes.append(f"{image.name}: mask carried over from {images[template].name}, {TEMPLATE_MARGIN:g} mm wider")
    return regions, notes
