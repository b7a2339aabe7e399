"""The table of Gaussians, and eight of them seen from a slice."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit
from slicesplat.splat.cpu.algebra import rotation_matrix
from slicesplat.splat.cpu.kernel import INLINE, JIT, share
from slicesplat.splat.cpu.simd import gather8, item, load8, transpose8

# Columns of the table of Gaussians: mean (3), covariance (xx, xy, xz, yy, yz, zz), sqrt of its determinant.
GAUSSIAN_COLUMNS = 10
FAR = 1e6  # mm


@jit(**JIT)
def tabulate(mean, log_scales, rotations, variance, table, coarse, part, parts):
    """Fill in variances (N, 3), the table of Gaussians (N + 1, 10) and, for `list_pairs`, means and traces (4, N + 1).

    The row after the last one is a Gaussian so far away that it touches nothing: it fills up vectors of pairs.
    """
    n = len(mean)
    begin, end = share(n, part, parts)
    for j in range(begin, end):
        r = rotation_matrix(rotations[j, 0], rotations[j, 1], rotations[j, 2], rotations[j, 3])
        for k in range(3):
            variance[j, k] = np.exp(2.0 * log_scales[j, k])
        a, b, c = variance[j, 0], variance[j, 1], variance[j, 2]
        k = 3
        for p in range(3):
            table[j, p] = coarse[p, j] = mean[j, p]
            for q in range(p, 3):
                table[j, k] = (
                    a * r[3 * p] * r[3 * q] + b * r[3 * p + 1] * r[3 * q + 1] + c * r[3 * p + 2] * r[3 * q + 2]
                )
                k += 1
        table[j, 9] = np.sqrt(a * b * c)
        coarse[3, j] = a + b + c
    if part == 0:
        table[n, :3] = FAR
        table[n, 3:] = 0.0
        coarse[:3, n] = FAR
        coarse[3, n] = 0.0


@jit(**INLINE)
def eight_gaussians(table, numbers, first):
    """Means (x, y, z) and covariances (xx, xy, xz, yy, yz, zz) of the Gaussians `numbers`, eight from `first` on."""
    x, y, z, xx, xy, xz, yy, yz = transpose8(
        (
            load8(table, GAUSSIAN_COLUMNS * item(numbers, first)),
            load8(table, GAUSSIAN_COLUMNS * item(numbers, first + 1)),
            load8(table, GAUSSIAN_COLUMNS * item(numbers, first + 2)),
            load8(table, GAUSSIAN_COLUMNS * item(numbers, first + 3)),
            load8(table, GAUSSIAN_COLUMNS * item(numbers, first + 4)),
            load8(table, GAUSSIAN_COLUMNS * item(numbers, first + 5)),
            load8(table, GAUSSIAN_COLUMNS * item(numbers, first + 6)),
            load8(table, GAUSSIAN_COLUMNS * item(numbers, first + 7)),
        )
    )
    return (x, y, z), (xx, xy, xz, yy, yz, gather8(table, 8, numbers, first))


@jit(**INLINE)
def in_slice(table, numbers, first, r, shift):
    """Means and covariances (xx, xy, xz, yy, yz, zz) of eight Gaussians in the slice frame."""
    (x, y, z), (xx, xy, xz, yy, yz, zz) = eight_gaussians(table, numbers, first)
    m = (
        x * r[0, 0] + y * r[1, 0] + z * r[2, 0] - shift[0],
        x * r[0, 1] + y * r[1, 1] + z * r[2, 1] - shift[1],
        x * r[0, 2] + y * r[1, 2] + z * r[2, 2] - shift[2],
    )
    x0 = xx * r[0, 0] + xy * r[1, 0] + xz * r[2, 0]
    y0 = xy * r[0, 0] + yy * r[1, 0] + yz * r[2, 0]
    z0 = xz * r[0, 0] + yz * r[1, 0] + zz * r[2, 0]
    x1 = xx * r[0, 1] + xy * r[1, 1] + xz * r[2, 1]
    y1 = xy * r[0, 1] + yy * r[1, 1] + yz * r[2, 1]
    z1 = xz * r[0, 1] + yz * r[1, 1] + zz * r[2, 1]
    x2 = xx * r[0, 2] + xy * r[1, 2] + xz * r[2, 2]
    y2 = xy * r[0, 2] + yy * r[1, 2] + yz * r[2, 2]
    z2 = xz * r[0, 2] + yz * r[1, 2] + zz * r[2, 2]
    c = (
        x0 * r[0, 0] + y0 * r[1, 0] + z0 * r[2, 0],
        x1 * r[0, 0] + y1 * r[1, 0] + z1 * r[2, 0],
        x2 * r[0, 0] + y2 * r[1, 0] + z2 * r[2, 0],
        x1 * r[0, 1] + y1 * r[1, 1] + z1 * r[2, 1],
        x2 * r[0, 1] + y2 * r[1, 1] + z2 * r[2, 1],
        x2 * r[0, 2] + y2 * r[1, 2] + z2 * r[2, 2],
    )
    return m, c
