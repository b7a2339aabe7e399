"""The curvature prior's matrix times a vector, on the CPU (`fit.curvature` is its definition): two passes over a box.

Cells lie one after the other in memory, so that a neighbour is a fixed number of cells away: the second differences of
eight cells at a time are a few packed additions. Where a neighbour is missing, as at the box's faces, weights are zero.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from slicesplat.splat.cpu_kernels import _INLINE, _JIT, share
from slicesplat.splat.simd import LANES, load8, store8
from slicesplat.splat.threads import in_parts

_ROOT = np.float32(math.sqrt(2))


class LatticeProduct:
    """Room for products with the matrix of a prior on a box of cells.

    Parameters
    ----------
    shape : (3,)
        Of the box, its empty outermost layer included.
    cell : (N,) int64
        Where the Gaussians are in the box.
    """

    def __init__(self, shape: tuple[int, int, int], cell: NDArray[np.int64]) -> None:
        self.plane, self.line = shape[1] * shape[2], shape[2]
        self.cell = cell
        size = box_size(shape)
        self.box, self.sums = np.zeros(size, np.float32), np.empty(size, np.float32)
        self.levels = np.zeros((6, size), np.float32)

    def __call__(self, weights: NDArray[np.float32], amplitudes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product (N,), for weights (6, `box_size`) of the second differences, the mixed ones last."""
        in_parts(_spread, amplitudes, self.cell, self.box)
        in_parts(_weigh, self.box, weights, self.plane, self.line, self.levels)
        in_parts(_transpose, self.levels, self.plane, self.line, self.sums)
        out = np.empty_like(amplitudes)
        in_parts(_collect, self.sums, self.cell, out)
        return out


def box_size(shape: tuple[int, int, int]) -> int:
    """Floats that a box takes, with room for a vector that begins at its last cell."""
    return math.prod(shape) + LANES


@nb.njit(**_JIT)
def _spread(amplitudes, cell, box, part, parts):
    begin, end = share(len(cell), part, parts)
    for j in range(begin, end):
        box[cell[j]] = amplitudes[j]


@nb.njit(**_JIT)
def _collect(sums, cell, out, part, parts):
    begin, end = share(len(cell), part, parts)
    for j in range(begin, end):
        out[j] = sums[cell[j]]


@nb.njit(**_INLINE)
def _vectors(size, margin, part, parts):
    """First cell of a part's first vector, and of the first one after it; `margin` cells at both ends have none."""
    vectors = (size - 2 * margin - 1) // LANES
    begin, end = share(vectors, part, parts)
    return margin + begin * LANES, margin + end * LANES


@nb.njit(**_JIT)
def _weigh(box, weights, plane, line, levels, part, parts):
    """Second differences times their weights."""
    size = len(box)
    begin, end = _vectors(size, plane + line, part, parts)
    for c in range(begin, end, LANES):
        here = load8(box, c)
        x, y, z = load8(box, c + plane), load8(box, c + line), load8(box, c + 1)
        twice = here + here
        store8(levels, c, (x + load8(box, c - plane) - twice) * load8(weights, c))
        store8(levels, size + c, (y + load8(box, c - line) - twice) * load8(weights, size + c))
        store8(levels, 2 * size + c, (z + load8(box, c - 1) - twice) * load8(weights, 2 * size + c))
        xy = (load8(box, c + plane + line) - x) - (y - here)
        xz = (load8(box, c + plane + 1) - x) - (z - here)
        yz = (load8(box, c + line + 1) - y) - (z - here)
        store8(levels, 3 * size + c, xy * _ROOT * load8(weights, 3 * size + c))
        store8(levels, 4 * size + c, xz * _ROOT * load8(weights, 4 * size + c))
        store8(levels, 5 * size + c, yz * _ROOT * load8(weights, 5 * size + c))


@nb.njit(**_INLINE)
def _straight(levels, c, step):
    here = load8(levels, c)
    return load8(levels, c - step) + load8(levels, c + step) - (here + here)


@nb.njit(**_INLINE)
def _mixed(levels, c, one, other):
    return (load8(levels, c - one - other) - load8(levels, c - one)) - (load8(levels, c - other) - load8(levels, c))


@nb.njit(**_JIT)
def _transpose(levels, plane, line, out, part, parts):
    """The transpose of the second differences, summed up."""
    size = len(out)
    begin, end = _vectors(size, plane + line, part, parts)
    for c in range(begin, end, LANES):
        total = _straight(levels, c, plane)
        total = total + _straight(levels, size + c, line)
        total = total + _straight(levels, 2 * size + c, 1)
        mixed = _mixed(levels, 3 * size + c, plane, line)
        mixed = mixed + _mixed(levels, 4 * size + c, plane, 1)
        mixed = mixed + _mixed(levels, 5 * size + c, line, 1)
        store8(out, c, total + mixed * _ROOT)
