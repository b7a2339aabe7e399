"""From numbers per slice to numbers per pixel and back, on the device where the pixels are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation, binary_erosion
from torch import Tensor

from slicesplat.geometry.slices import Slices

# Standard deviation over median absolute deviation of normally distributed values: half of them lie within 0.6745
# standard deviations of the mean.
MAD_TO_SIGMA = 1.4826


def slice_of_pixel(slices: Slices, device: torch.device) -> Tensor:
    """(P,) int64: the slice that each pixel belongs to."""
    return over_pixels(np.arange(len(slices)), slices, device)


def broadcast_to_pixels(per_slice: ArrayLike, slices: Slices, device: torch.device) -> Tensor:
    """(P,) float32: every pixel gets the number of its slice, of (S,)."""
    return over_pixels(np.asarray(per_slice, np.float32), slices, device)


def over_pixels(per_slice: NDArray[Any], slices: Slices, device: torch.device) -> Tensor:
    """(P,) of the same type: every pixel gets what its slice has, of (S,)."""
    counts = np.diff(slices.offset)
    if device.type == "cpu":  # in a seventh of torch's time
        return torch.from_numpy(np.repeat(per_slice, counts))
    values, repeats = (torch.as_tensor(each, device=device) for each in (per_slice, counts))
    return torch.repeat_interleave(values, repeats, output_size=int(slices.offset[-1]))


def sum_over_slices(values: Tensor, slices: Slices) -> NDArray[np.float64]:
    """(S,) sums of per-pixel numbers (P,): in float64, in a fixed order, brought to the host."""
    offset = torch.as_tensor(slices.offset, device=values.device)
    # Not index_add_ or scatter_add_: they add in any order on a GPU.
    sums: Tensor = torch.segment_reduce(values.double(), "sum", offsets=offset, unsafe=True)
    return sums.cpu().numpy()


def median(values: Tensor) -> float:
    """The median, as numpy's: of an even number of values, the mean of the two in the middle.

    Examples
    --------
    >>> median(torch.tensor([4.0, 1.0, 2.0, 3.0]))
    2.5
    """
    # torch.quantile takes no more than 16 million values; of two in the middle torch.median takes the lower one.
    low = values.median()
    if len(values) % 2 or int((values <= low).sum()) > len(values) // 2:
        return float(low)
    return float((low + values[values > low].min()) / 2)


def dilate_in_plane(slices: Slices, pixels: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """(P,) pixels and their neighbours in plane, so many away; for a negative number what is left without the rim."""
    out = pixels.copy()
    for s in range(len(slices)):
        view = slices.image(out, s)
        view[:] = binary_dilation(view, iterations=by) if by > 0 else binary_erosion(view, iterations=-by)
    return out
