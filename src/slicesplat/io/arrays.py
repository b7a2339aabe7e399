"""Images that are in memory already: nibabel's of any kind, or arrays with an affine; checked as those in files are.

Nothing that the caller gave is changed.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike, NDArray

from slicesplat.errors import InputError
from slicesplat.io.header import check_intensities, check_shape, in_millimetres, stated_axis
from slicesplat.io.nifti import Image

Float = NDArray[np.float64]


def image_in_memory(image: SpatialImage | ArrayLike, name: str, affine: ArrayLike | None = None) -> Image:
    """An image in memory, checked as a file is.

    Parameters
    ----------
    image : nibabel image or array (nx, ny, nz)
        Further axes of length one are dropped.
    name : str
        What to call it in messages.
    affine : (4, 4), optional
        Of an array: voxel index to world, mm RAS+. An image has its own, in the unit that its header names.

    Raises
    ------
    InputError
        Values, shape or geometry are none of a scan, or it does not say how it lies.
    """
    if isinstance(image, SpatialImage):
        if affine is not None:
            raise InputError(f"{name}: is an image with an affine of its own; leave out the one given besides")
        values, affine = image.dataobj, image.affine
        units, axis = _stated_by(image, name)
    else:
        values, units, axis = np.asarray(image), 0, None
    check_shape(name, values.shape)
    if 0 in values.shape:
        raise InputError(f"{name}: has no voxels, its shape is {tuple(values.shape)}; give a 3-D image")
    shape = tuple(values.shape[:3])
    # The first voxel has the kind of numbers of all of them, and of a file the scaling is applied to it.
    check_intensities(name, np.asanyarray(values[(slice(1),) * len(values.shape)]).dtype)
    world, notes = in_millimetres(name, _affine_matrix(affine, name), shape, units)
    with np.errstate(all="ignore"):
        # As of a file: what is not finite is found where it matters.
        data = np.asarray(values, dtype=np.float32).reshape(shape)
    return Image(None, data, world, stated_axis=axis, notes=tuple(notes), label=name)


def mask_in_memory(mask: SpatialImage | ArrayLike, image: Image) -> Image:
    """A mask of an image in memory, checked as one in a file is; an array has the grid of the image as it was given.

    Raises
    ------
    InputError
        As `image_in_memory`.
    """
    name = f"mask of {image.name}"
    return image_in_memory(mask, name, None if isinstance(mask, SpatialImage) else image.affine)


def _affine_matrix(affine: ArrayLike | None, name: str) -> Float:
    """An affine as a matrix (4, 4), refused where it is none."""
    if affine is None:
        raise InputError(f"{name}: has no affine; give one, (4, 4), voxel index to world in mm")
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or (matrix[3] != (0, 0, 0, 1)).any():
        raise InputError(f"{name}: its affine is no (4, 4) that ends in 0 0 0 1; give voxel index to world in mm")
    return matrix


def _stated_by(image: SpatialImage, name: str) -> tuple[int, int | None]:
    """Units of length (xyzt_units) and the axis of the slices, as the header of a nibabel image has them."""
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        return 0, None
    if not (header["sform_code"] > 0 or header["qform_code"] > 0):
        # What nibabel takes for the affine then is made up.
        raise InputError(f"{name}: its header does not say how the image lies (sform and qform code 0); set an affine")
    return int(header["xyzt_units"]), stated_axis(header)
