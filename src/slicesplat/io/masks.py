"""Masks from NIfTI files: which voxels belong to the region."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.io.nifti import FilePath, Image, read_image


def load_masked_volume(path: FilePath, mask: FilePath) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Read a volume and its mask.

    Parameters
    ----------
    path, mask : path
        NIfTI files on the same grid; voxels above zero belong to the region.

    Returns
    -------
    volume, mask : nibabel images
        float32 and uint8. Values that are not finite and outside the mask are set to 0.

    Raises
    ------
    InputError
        As `read_image`; the mask is empty or on another grid, or a value inside it is not finite.
    """
    volume = read_image(Path(path))
    region = mask_on(read_mask(Path(mask)), volume)
    data = finite_values(volume, region)
    return nib.Nifti1Image(data, volume.affine), nib.Nifti1Image(region.astype(np.uint8), volume.affine)


def read_mask(path: Path) -> Image:
    """Read a mask and check that it holds a region; errors as `read_image`."""
    mask = read_image(path)
    if not np.isfinite(mask.data).all():
        raise InputError(f"{path}: the mask has NaN or infinite values; save it with 0 outside and 1 inside")
    if not (mask.data > 0).any():
        raise InputError(f"{path}: the mask is empty; draw the region to reconstruct")
    return mask


def mask_on(mask: Image, image: Image) -> NDArray[np.bool_]:
    """The voxels of an image that its mask names; refuses a mask on another grid."""
    mask = mask.with_axis_last(image.slice_axis)
    if mask.data.shape != image.data.shape:
        raise InputError(
            f"{mask.path}: its shape {mask.data.shape} is not that of {image.name}, {image.data.shape}; "
            "give masks in the order of the stacks, on the same grid"
        )
    if not mask.same_grid(image):
        raise InputError(
            f"{mask.path}: its affine is not that of {image.name}; "
            "give masks in the order of the stacks, or resample it to the stack's grid"
        )
    return mask.data > 0


def finite_values(image: Image, region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The values of an image, 0 where they are not finite; refuses those inside the region."""
    finite = np.isfinite(image.data)
    bad = int((region & ~finite).sum())
    if bad:
        raise InputError(
            f"{image.path}: {bad} voxels inside its region are NaN or infinite; "
            "repair them, or give a mask that leaves them out"
        )
    return np.where(finite, image.data, np.float32(0))
