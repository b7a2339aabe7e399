"""The curvature prior's matrix times a vector, on the CPU: two passes over a box.

`priors.curvature` is its definition.

Cells lie one after the other in memory, so that a neighbour is a fixed number of cells away: the second differences of
eight cells at a time are a few packed additions. Where a neighbour is missing, as at the box's faces, weights are zero.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from slicesplat.jit import jit
from slicesplat.splat.cpu.kernel import INLINE, JIT, share
from slicesplat.splat.cpu.simd import LANES, load8, root, single, store8
from slicesplat.splat.cpu.threads import in_parts

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

    def reweight(
        self,
        complete: NDArray[np.float32],
        amplitudes: NDArray[np.float32],
        scale: float,
        edge: float,
        strength: float,
        weights: NDArray[np.float32],
    ) -> None:
        """Fill in `strength` / c^(3/2), c = (`scale` |H|^2 + `edge`)^(1/2), where second differences are `complete`.

        |H|^2 is the sum of the squares of those that are; `complete` and `weights` are (6, `box_size`).
        """
        in_parts(_spread, amplitudes, self.cell, self.box)
        given = np.array([scale, edge, strength], np.float32)
        in_parts(_reweigh, self.box, complete, self.plane, self.line, given, weights)

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


@jit(**JIT)
def _spread(amplitudes, cell, box, part, parts):
    begin, end = share(len(cell), part, parts)
    for j in range(begin, end):
        box[cell[j]] = amplitudes[j]


@jit(**JIT)
def _collect(sums, cell, out, part, parts):
    begin, end = share(len(cell), part, parts)
    for j in range(begin, end):
        out[j] = sums[cell[j]]


@jit(**INLINE)
def _vectors(size, margin, part, parts):
    """First cell of a part's first vector, and of the first one after it; `margin` cells at both ends have none."""
    vectors = (size - 2 * margin - 1) // LANES
    begin, end = share(vectors, part, parts)
    return margin + begin * LANES, margin + end * LANES


@jit(**INLINE)
def _differences(box, c, plane, line):
    """The six second differences at eight cells, the mixed ones last."""
    here = load8(box, c)
    x, y, z = load8(box, c + plane), load8(box, c + line), load8(box, c + 1)
    twice = here + here
    return (
        x + load8(box, c - plane) - twice,
        y + load8(box, c - line) - twice,
        z + load8(box, c - 1) - twice,
        ((load8(box, c + plane + line) - x) - (y - here)) * _ROOT,
        ((load8(box, c + plane + 1) - x) - (z - here)) * _ROOT,
        ((load8(box, c + line + 1) - y) - (z - here)) * _ROOT,
    )


@jit(**JIT)
def _weigh(box, weights, plane, line, levels, part, parts):
    """Second differences times their weights."""
    size = len(box)
    begin, end = _vectors(size, plane + line, part, parts)
    for c in range(begin, end, LANES):
        bent = _differences(box, c, plane, line)
        for k in range(6):
            store8(levels, k * size + c, bent[k] * load8(weights, k * size + c))


@jit(**JIT)
def _reweigh(box, complete, plane, line, given, weights, part, parts):
    """The weights of the second differences of a field."""
    size = len(box)
    scale, edge, strength = given[0], given[1], given[2]
    begin, end = _vectors(size, plane + line, part, parts)
    for c in range(begin, end, LANES):
        bent = _differences(box, c, plane, line)
        square = single(0.0)
        for k in range(6):
            level = bent[k] * load8(complete, k * size + c)
            square = square + level * level
        curvature = root(square * scale + edge)
        weight = strength / (curvature * root(curvature))
        for k in range(6):
            store8(weights, k * size + c, load8(complete, k * size + c) * weight)


@jit(**INLINE)
def _straight(levels, c, step):
    here = load8(levels, c)
    return load8(levels, c - step) + load8(levels, c + step) - (here + here)


@jit(**INLINE)
def _mixed(levels, c, one, other):
    return (load8(levels, c - one - other) - load8(levels, c - one)) - (load8(levels, c - other) - load8(levels, c))


@jit(**JIT)
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
