"""From pixels to pairs, and from pairs to Gaussians: the adjoint of `splat`, and the moments for all gradients."""

# Triton finds the types of what it compiles.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from slicesplat.splat.gpu.project import gaussian_at


@triton.jit
def moments(
    flat,
    window,
    view_of,
    shape,
    upstream,
    out,
    pairs,
    COMPONENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Per pair, sums of h e (1, di, dj, di^2, di dj, dj^2) about its centre, in pixels: (Q, 6)."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < pairs
    q = tl.minimum(lane, pairs - 1)[:, None]
    s = tl.load(view_of + q) // COMPONENTS
    columns, first = tl.load(shape + 3 * s + 1), tl.load(shape + 3 * s + 2)
    top, bottom = tl.load(window + 4 * q), tl.load(window + 4 * q + 1)
    left, right = tl.load(window + 4 * q + 2), tl.load(window + 4 * q + 3)
    width = tl.maximum(right - left, 1)
    area = (bottom - top) * (right - left)
    f = flat + 8 * q
    row, column = tl.load(f + 1), tl.load(f + 2)
    m0 = tl.zeros([BLOCK, CHUNK], tl.float32)
    mi = tl.zeros([BLOCK, CHUNK], tl.float32)
    mj = tl.zeros([BLOCK, CHUNK], tl.float32)
    mii = tl.zeros([BLOCK, CHUNK], tl.float32)
    mij = tl.zeros([BLOCK, CHUNK], tl.float32)
    mjj = tl.zeros([BLOCK, CHUNK], tl.float32)
    for begin in range(0, tl.max(area), CHUNK):
        n = begin + tl.arange(0, CHUNK)[None, :]
        i = top + n // width
        k = left + n % width
        h = tl.load(upstream + first + i * columns + k, mask=n < area, other=0.0)
        di, dj = i.to(tl.float32) - row, k.to(tl.float32) - column
        he = h * gaussian_at(di, dj, f)
        m0 += he
        mi += he * di
        mj += he * dj
        mii += he * di * di
        mij += he * di * dj
        mjj += he * dj * dj
    o = out + 6 * tl.minimum(lane, pairs - 1)
    tl.store(o, tl.sum(m0, axis=1), mask=keep)
    tl.store(o + 1, tl.sum(mi, axis=1), mask=keep)
    tl.store(o + 2, tl.sum(mj, axis=1), mask=keep)
    tl.store(o + 3, tl.sum(mii, axis=1), mask=keep)
    tl.store(o + 4, tl.sum(mij, axis=1), mask=keep)
    tl.store(o + 5, tl.sum(mjj, axis=1), mask=keep)


@triton.jit
def sum_pairs(values, stride, start, pair_of, out, count, BLOCK: tl.constexpr):
    """Sum over the pairs of every Gaussian, in their order: (N, columns), one column per program of the second axis."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1)
    keep = lane < count
    begin = tl.load(start + lane, mask=keep, other=0)
    pairs = tl.load(start + lane + 1, mask=keep, other=0) - begin
    total = tl.zeros([BLOCK], tl.float64)
    for step in range(0, tl.max(pairs)):
        present = step < pairs
        q = tl.load(pair_of + begin + step, mask=present, other=0)
        total += tl.load(values + stride * q + column, mask=present, other=0.0).to(tl.float64)
    tl.store(out + stride * lane + column, total, mask=keep)
