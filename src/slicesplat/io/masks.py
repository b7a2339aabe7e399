"""Masks from NIfTI files: which voxels belong to the region."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.geometry.stack import values_where
from slicesplat.io.nifti import FilePath, Image, read_image

RINGING = 0.5
"""Part of a step by which interpolation overshoots, at most: cubic splines by 0.35 where three axes add up."""
MID_RANGE = (0.1, 0.9)
"""Parts of the maximum between which a soft mask holds nothing but its rim."""
LAST_LABEL = 32
"""Whole numbers up to here are labels: no scale of probabilities is as coarse; percent and 8 bits go to 100 and 255."""
EQUAL_NEIGHBOURS = 0.5
"""Share of neighbours in the middle of the range that are equal: 0.02 to 0.4 in rims, 0.6 to 0.95 in label maps."""
LISTED_LABELS = 10
"""A longer list of labels is a number of them."""


def load_masked_volume(path: FilePath, mask: FilePath) -> tuple[nib.Nifti1Image, nib.Nifti1Image, list[str]]:
    """Read a volume and its mask: `masked_volume` of two files.

    Raises
    ------
    InputError
        As `read_image` and `masked_volume`.
    """
    return masked_volume(read_image(Path(path)), read_image(Path(mask)))


def masked_volume(volume: Image, mask: Image) -> tuple[nib.Nifti1Image, nib.Nifti1Image, list[str]]:
    """A volume and its mask, checked.

    Parameters
    ----------
    volume, mask : Image
        On the same grid; what belongs to the region is as for `as_region`.

    Returns
    -------
    volume, mask : nibabel images
        float32 and uint8. Values that are not finite and outside the mask are set to 0.
    notes : list of str
        What to tell about the mask.

    Raises
    ------
    InputError
        The mask is empty or on another grid, or a value inside it is not finite.
    """
    drawn, notes = as_region(mask)
    region = mask_on(drawn, volume)
    data = finite_values(volume, region)
    return nib.Nifti1Image(data, volume.affine), nib.Nifti1Image(region.astype(np.uint8), volume.affine), notes


def as_region(mask: Image) -> tuple[Image, list[str]]:
    """A mask as it was drawn or predicted as 0 and 1, checked to hold a region.

    Voxels above zero belong to the region, whatever their label. A soft mask (probabilities, percent, a blurred or
    resampled mask) is cut at half its range.

    Returns
    -------
    mask : Image
        1 inside and 0 outside.
    notes : list of str
        Where it was cut, which labels it has; nothing for a plain mask.

    Raises
    ------
    InputError
        A value is not finite, or none is above zero.
    """
    if not np.isfinite(mask.data).all():
        raise InputError(f"{mask.source}: the mask has NaN or infinite values; save it with 0 outside and 1 inside")
    positive = values_where(mask.data, mask.data > 0)
    if not len(positive):
        raise InputError(f"{mask.source}: the mask is empty; draw the region to reconstruct")
    cut = _soft_cut(mask.data, positive)
    inside = mask.data >= cut if cut else mask.data > 0
    return replace(mask, data=inside.astype(np.float32)), _notes(mask.name, positive, cut)


def _notes(name: str, positive: NDArray[np.float32], cut: float | None) -> list[str]:
    if cut:
        return [f"{name}: soft mask, values up to {positive.max():.4g}, cut at {cut:.4g}"]
    values = np.unique(positive)
    if len(values) == 1:
        return []
    if not _whole(values):
        return [f"{name}: has values on both sides of zero, cut at zero"]
    if len(values) > LISTED_LABELS:
        return [f"{name}: {len(values)} labels, all inside"]
    return [f"{name}: labels {', '.join(f'{label:g}' for label in values)}, all inside"]


def _soft_cut(data: NDArray[np.float32], positive: NDArray[np.float32]) -> float | None:
    """Where to cut a soft mask; None where everything above zero is inside."""
    top = float(positive.max())
    if float(positive.min()) == top or float(data.min()) < -RINGING * top:
        # One value only; or signed, as logits and level sets are, whose outline is at zero.
        return None
    if top <= 1 + RINGING:
        return 0.5 if top > 0.5 else top / 2
    if not _has_labels(data, positive):
        return top / 2
    # Labels that were resampled have rims too, each between a label and 0 or another label.
    return None if _whole(positive) else 0.5


def _whole(values: NDArray[np.float32]) -> bool:
    return bool((values == np.rint(values)).all())


def _has_labels(data: NDArray[np.float32], positive: NDArray[np.float32]) -> bool:
    """Whether values are labels and no grey scale: small whole numbers, or regions of one number each."""
    top = positive.max()
    if top <= LAST_LABEL and _whole(positive):
        return True
    low, high = np.multiply(MID_RANGE, top)
    middle, rounded = (data > low) & (data < high), np.rint(data)
    equal = neighbours = 0
    for axis in range(3):
        inside, label = np.moveaxis(middle, axis, 0), np.moveaxis(rounded, axis, 0)
        both = inside[1:] & inside[:-1]
        equal += int((both & (label[1:] == label[:-1])).sum())
        neighbours += int(both.sum())
    return equal > EQUAL_NEIGHBOURS * neighbours


def mask_on(mask: Image, image: Image) -> NDArray[np.bool_]:
    """The voxels of an image that its mask names; refuses a mask on another grid."""
    mask = mask.with_axis_last(image.slice_axis)
    if mask.data.shape != image.data.shape:
        raise InputError(
            f"{mask.source}: its shape {mask.data.shape} is not that of {image.name}, {image.data.shape}; "
            "give masks in the order of the stacks, on the same grid"
        )
    if not mask.same_grid(image):
        raise InputError(
            f"{mask.source}: its affine is not that of {image.name}; "
            "give masks in the order of the stacks, or resample it to the stack's grid"
        )
    return mask.data > 0


def finite_values(image: Image, region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The values of an image, 0 where they are not finite; refuses those inside the region."""
    finite = np.isfinite(image.data)
    bad = int((region & ~finite).sum())
    if bad:
        raise InputError(
            f"{image.source}: {bad} voxels inside its region are NaN or infinite; "
            "repair them, or give a mask that leaves them out"
        )
    return np.where(finite, image.data, np.float32(0))
