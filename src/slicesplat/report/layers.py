"""Images for the viewer of a page: cropped, in 8 bits, as compressed NIfTI in text."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.geometry.stack import Stack

Float = NDArray[np.float64]

MARGIN = 12.0
"""mm around the region that stacks are shown in, and the volume's grid is widened by to have room for them."""
OVER = "Laid over it"
"""Heading of what is shown over another image."""
_LEVELS = 255
_COMPRESSION = 6  # gzip; 9 takes three times as long for 1 % less
_WINDOW = (0.5, 99.5)  # percentiles of what is shown that become black and white
_BRIGHTEST = 99.95  # percentile that the largest of the 8-bit values stands for


@dataclass(frozen=True, eq=False)
class Layer:
    """An image that can be switched on.

    Attributes
    ----------
    key : str
        What the page calls it; unlike that of any other.
    label : str
        What people read.
    group : str
        The heading that it stands under.
    values : (nx, ny, nz)
        NaN counts as 0.
    affine : (4, 4)
        Voxel index to world, mm RAS+.
    colormap : str
        NiiVue's name of it.
    overlay : bool
        Whether it is laid over another image or shown instead of it.
    window : (2,) or None
        What the ends of the colour map stand for; None: by what is shown.
    signed : bool
        Whether values below zero mean as much as those above: a difference.
    unit : str
        Of the values, where it is not the input's scale.
    """

    key: str
    label: str
    group: str
    values: NDArray[np.generic]
    affine: Float
    colormap: str = "gray"
    overlay: bool = False
    window: tuple[float, float] | None = None
    signed: bool = False
    unit: str = ""

    def json(self) -> dict[str, Any]:
        """What the page is told; the image is in `nifti`."""
        values = np.nan_to_num(np.asarray(self.values, dtype=np.float32))
        low, high = self.window or shown_window(values)
        return {
            "key": self.key,
            "label": self.label,
            "group": self.group,
            "colormap": self.colormap,
            "overlay": self.overlay,
            "signed": self.signed,
            "unit": self.unit,
            "window": [round(low, 6), round(high, 6)],
            "nifti": base64.b64encode(_nifti(values, self.affine, high)).decode(),
        }


def shown_window(values: NDArray[np.generic]) -> tuple[float, float]:
    """The values that are shown black and white: percentiles of what is not zero.

    Examples
    --------
    >>> shown_window(np.array([0.0, 0.0, 2.0, 2.0]))
    (0.0, 2.0)
    """
    shown = values[values != 0]
    if not shown.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(shown, _WINDOW))
    low = min(low, 0.0)
    return low, high if high > low else low + 1.0


def padded(values: NDArray[np.generic], affine: Float, margin: float = MARGIN) -> tuple[NDArray[np.generic], Float]:
    """An image (nx, ny, nz) with so many mm of zeros around it, and its affine (4, 4)."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    around = np.ceil(margin / spacing).astype(int)
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3] @ around
    return np.pad(values, [(n, n) for n in around]), moved


def cropped(stack: Stack, margin: float = MARGIN) -> tuple[tuple[slice, slice, slice], Float]:
    """Where a stack's region is in its array, with so many mm around it, and the affine (4, 4) of that part."""
    inside = np.argwhere(stack.mask)
    if not len(inside):
        return (slice(None), slice(None), slice(None)), stack.affine
    around = np.ceil(margin / stack.spacing).astype(int)
    low = np.maximum(inside.min(axis=0) - around, 0)
    high = np.minimum(inside.max(axis=0) + 1 + around, stack.data.shape)
    affine = stack.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (x, y, z), affine


def _nifti(values: NDArray[np.float32], affine: Float, high: float) -> bytes:
    """A compressed 8-bit NIfTI-1 file; the header's scaling gives the values back, but for the rounding."""
    low, top = min(float(values.min()), 0.0), max(float(np.percentile(values, _BRIGHTEST)), high)
    step = (top - low) / _LEVELS if top > low else 1.0
    codes = np.clip(np.rint((values - low) / step), 0, _LEVELS).astype(np.uint8)
    image = nib.Nifti1Image(codes, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header["scl_slope"], image.header["scl_inter"] = step, low
    image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
    content = image.header.binaryblock + b"\0\0\0\0" + codes.tobytes(order="F")
    return gzip.compress(content, _COMPRESSION, mtime=0)
