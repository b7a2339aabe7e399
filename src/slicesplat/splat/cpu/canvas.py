"""A slice as the kernels walk it, with room beside it for what begins at its last pixel, and a pair's Gaussian there.

The walk goes in tiles of two rows by eight columns, or, `splat.cpu.separable`, in windows of up to eight by eight.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from slicesplat.jit import jit
from slicesplat.splat.cpu.exponential import exp_of_sixteen_times
from slicesplat.splat.cpu.kernel import F32, INLINE
from slicesplat.splat.cpu.simd import LANES, keep_from


@jit(**INLINE)
def gaussian_tile(constant, slope, curvature, row, cut):
    """Exp on a tile at distance `row` from the pair's centre, pixels; zero beyond the cut-off.

    A tile's second row and last columns may lie outside the pair's box: then they lie beyond the cut-off too.
    """
    x = constant + (slope + row * curvature) * row
    return keep_from(exp_of_sixteen_times(x), x, cut)


@jit(**INLINE)
def padded(shape):
    """Floats that the largest slice takes with room for a window that begins at its last pixel."""
    largest = 0
    for s in range(len(shape)):
        largest = max(largest, (shape[s, 0] + LANES) * (shape[s, 1] + LANES))
    return largest


@jit(**INLINE)
def lay_out(values, canvas, first, rows, columns):
    """Copy a slice into `canvas`, every row followed by a vector of zeros, the last one by rows of them."""
    stride = columns + LANES
    canvas[: (rows + LANES) * stride] = F32(0)
    for i in range(rows):
        for k in range(columns):
            canvas[i * stride + k] = values[first + i * columns + k]
