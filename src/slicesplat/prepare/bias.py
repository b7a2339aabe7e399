"""Bias fields: the smooth change of intensity over the field of view that receive coils leave.

N4 (Tustison et al., IEEE Transactions on Medical Imaging 29, 2010, 1310-1320), as SimpleITK implements it: the field's
logarithm is a cubic B-spline, fitted to what sharpens the histogram inside the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from slicesplat.geometry.stack import Stack, values_where

# mm between the spline's knots on the first level; each further level halves it. Coils vary over the size of a head. A
# finer field (25 mm was tried) takes the difference between regions of white and grey matter for one.
COARSEST_KNOTS = 100.0
LEVELS = 2
ITERATIONS = 50  # on each level, at most
STEADY = 3e-4  # relative change of the field at which a level ends; N4's own 1e-3 leaves half as much again behind
# mm: voxels are thinned out to about this distance for the fit, far below the knots' distance. Slices stay as they are.
FIT_SPACING = 4.0
# Share of the median below which a voxel says nothing about the field: dropouts, air, and the logarithm's abyss.
DARK = 0.05
_LEVEL = 1000.0  # median that N4 works at: it takes logarithms, and intensities below 1 for background


def log_bias_field(stack: Stack) -> NDArray[np.float64]:
    """Natural logarithm of the bias field at every voxel of a stack, of mean 0 inside the mask.

    Only voxels inside the mask are looked at. Outside the field goes smoothly to its value where nothing is known, and
    beyond the mask's bounding box stays what it is at the box's faces. The same bytes for any number of threads.

    Returns
    -------
    (nx, ny, nz) float64
        All zeros for a stack without signal, or without contrast: a histogram of one value cannot be sharpened.
    """
    values = values_where(stack.data, stack.mask)
    median = float(np.median(values)) if len(values) else 0.0
    if not median > 0 or values.min() == values.max():
        return np.zeros(stack.data.shape)
    seen = stack.mask & (stack.data > DARK * median)
    inside = np.argwhere(seen)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    extent = (high - low) * stack.spacing
    # The spline spans the whole image: filled up to a multiple of the knots' distance, so that it means millimetres.
    spans = np.ceil(extent / COARSEST_KNOTS).astype(int)
    fill = np.ceil((spans * COARSEST_KNOTS - extent) / stack.spacing).astype(int)
    before, after = fill // 2, fill - fill // 2
    box = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    filled = list(zip(before, after, strict=True))
    image = _image(np.pad(stack.data[box] * np.float32(_LEVEL / median), filled), stack.spacing)
    mask = _image(np.pad(seen[box], filled).astype(np.uint8), stack.spacing)
    thin = [int(max(1, FIT_SPACING // step)) for step in stack.spacing]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([ITERATIONS] * LEVELS)
    n4.SetNumberOfControlPoints([int(n) + n4.GetSplineOrder() for n in spans])
    n4.SetConvergenceThreshold(STEADY)
    # Python gets to handle signals in between; by itself ITK keeps it waiting to the end.
    n4.AddCommand(sitk.sitkIterationEvent, lambda: None)
    with _one_thread():
        n4.Execute(sitk.Shrink(image, thin), sitk.Shrink(mask, thin))
    found = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T.astype(np.float64)
    kept = found[tuple(slice(b, b + n) for b, n in zip(before, high - low, strict=True))]
    around = [(first, size - last) for first, last, size in zip(low, high, stack.data.shape, strict=True)]
    field = np.pad(kept, around, mode="edge")
    return field - field[stack.mask].mean()


def correct_bias_field(stack: Stack) -> Stack:
    """The stack divided by its bias field; the geometric mean of what it is divided by, inside the mask, is 1.

    Examples
    --------
    >>> flat = Stack(np.ones((9, 9, 5), np.float32), np.ones((9, 9, 5), bool), np.diag([2.0, 2.0, 4.0, 1.0]), 4.0)
    >>> bool(np.all(correct_bias_field(flat).data == 1.0))
    True
    """
    return replace(stack, data=(stack.data * np.exp(-log_bias_field(stack))).astype(np.float32))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run ITK in one thread: sums over the threads' shares depend on their number.

    A filter hands its own number of threads to none of the filters inside it; they take the global one.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _image(values: NDArray[np.generic], spacing: NDArray[np.float64]) -> sitk.Image:
    """An array (x, y, z) as ITK has it, without its place in the world."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing(spacing.tolist())
    return image
