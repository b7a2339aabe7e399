"""A pair of a view and a Gaussian on the slice's pixel grid: a 2-D Gaussian, and the box of pixels that it reaches."""

# Triton finds the types of what it compiles.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from slicesplat.splat.gpu.algebra import load3
from slicesplat.splat.gpu.tabulate import in_slice


@triton.jit
def project(
    means,
    covariances,
    rotations,
    translations,
    weights,
    blurs,
    planes,
    grid,
    shape,
    view_of,
    gaussian_of,
    flat,
    window,
    square_cutoff,
    pairs,
    COMPONENTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Every pair's 2-D Gaussian on its slice's pixel grid, and the box of pixels that it reaches.

    `flat`: peak for amplitude 1; centre row and column; quadratic exponent (rows^2, rows x columns, columns^2);
    exponent at the cut-off. `window`: first and last + 1 row, first and last + 1 column.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < pairs
    q = tl.minimum(lane, pairs - 1)
    v = tl.load(view_of + q)
    j = tl.load(gaussian_of + q)
    s = v // COMPONENTS
    m, c, _x, _y, _z = in_slice(means, covariances, rotations, translations, j, s)
    bx, by, bz = load3(blurs + 3 * v)
    su, sv = tl.load(grid + 4 * s + 2), tl.load(grid + 4 * s + 3)
    szz = c[5] + bz
    above = m[2] - tl.load(planes + v)
    square = above * above / szz
    room = square_cutoff - square
    cuu = c[0] + bx - c[2] * c[2] / szz
    cuv = c[1] - c[2] * c[4] / szz
    cvv = c[3] + by - c[4] * c[4] / szz
    det2 = cuu * cvv - cuv * cuv
    peak = tl.load(weights + v) * tl.sqrt(tl.load(covariances + 7 * j + 6) / (det2 * szz)) * tl.exp(-0.5 * square)
    row = (m[0] - c[2] * above / szz - tl.load(grid + 4 * s)) / su
    column = (m[1] - c[4] * above / szz - tl.load(grid + 4 * s + 1)) / sv
    f = flat + 8 * q
    tl.store(f, peak.to(tl.float32), mask=keep)
    tl.store(f + 1, row.to(tl.float32), mask=keep)
    tl.store(f + 2, column.to(tl.float32), mask=keep)
    tl.store(f + 3, (-0.5 * cvv / det2 * su * su).to(tl.float32), mask=keep)
    tl.store(f + 4, (cuv / det2 * su * sv).to(tl.float32), mask=keep)
    tl.store(f + 5, (-0.5 * cuu / det2 * sv * sv).to(tl.float32), mask=keep)
    tl.store(f + 6, (-0.5 * room).to(tl.float32), mask=keep)
    # A box without pixels where the plane lies beyond the cut-off. Bounds first: a far centre may exceed an integer.
    reach = tl.sqrt(tl.maximum(room, 0.0))
    rows, columns = tl.load(shape + 3 * s), tl.load(shape + 3 * s + 1)
    high, wide = reach * tl.sqrt(cuu) / su, reach * tl.sqrt(cvv) / sv
    top = tl.minimum(tl.maximum(tl.ceil(row - high), 0.0), rows.to(tl.float64)).to(tl.int32)
    left = tl.minimum(tl.maximum(tl.ceil(column - wide), 0.0), columns.to(tl.float64)).to(tl.int32)
    bottom = tl.minimum(tl.maximum(tl.floor(row + high) + 1, 0.0), rows.to(tl.float64)).to(tl.int32)
    right = tl.minimum(tl.maximum(tl.floor(column + wide) + 1, 0.0), columns.to(tl.float64)).to(tl.int32)
    bottom = tl.where(room > 0, bottom, top)
    tl.store(window + 4 * q, top, mask=keep)
    tl.store(window + 4 * q + 1, tl.maximum(bottom, top), mask=keep)
    tl.store(window + 4 * q + 2, left, mask=keep)
    tl.store(window + 4 * q + 3, tl.maximum(right, left), mask=keep)


@triton.jit
def gaussian_at(row, column, f):
    """Exponential of the quadratic at distances (row, column) from the centre, in pixels; zero beyond the cut-off."""
    x = tl.load(f + 3) * row * row + tl.load(f + 4) * row * column + tl.load(f + 5) * column * column
    return tl.where(x >= tl.load(f + 6), tl.exp(x), 0.0)
