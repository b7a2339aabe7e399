"""Which Gaussians touch which slices: a list that is a little too generous, and how long it holds."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit
from slicesplat.splat.cpu.kernel import F32, JIT, share
from slicesplat.splat.cpu.simd import LANES, at_least, at_most, store8
from slicesplat.splat.cpu.tabulate import in_slice

# So many Gaussians, neighbours on a lattice, are told to be far from a slice by one test.
BLOCK = 16


@jit(**JIT)
def bound_blocks(coarse, blocks, part, parts):
    """Boxes around every `BLOCK` consecutive Gaussians (7, B): centre, half the size, largest trace of a covariance."""
    n, count = coarse.shape[1] - 1, blocks.shape[1]
    begin, end = share(count, part, parts)
    for b in range(begin, end):
        for k in range(4):
            low = high = coarse[k, b * BLOCK]
            for j in range(b * BLOCK, min((b + 1) * BLOCK, n)):
                low, high = min(low, coarse[k, j]), max(high, coarse[k, j])
            if k < 3:
                blocks[k, b], blocks[3 + k, b] = F32(0.5) * (low + high), F32(0.5) * (high - low)
            else:
                blocks[6, b] = high


@jit(**JIT)
def list_pairs(table, coarse, blocks, rotation, shift, blur, low, high, reach, margin, listed, counts, part, parts):
    """The Gaussians of every view, ascending, into `listed` (V, N + LANES), and how many there are.

    A Gaussian is in the list if its blurred ellipsoid at `reach`, grown by `margin` mm, can meet a pixel of the view:
    if, along each axis of the slice frame, it comes near enough to the box of the view's pixels.
    """
    n, count = len(table) - 1, blocks.shape[1]
    x, y, z, trace = coarse[0], coarse[1], coarse[2], coarse[3]
    square, slack = F32(reach * reach), F32(margin + 1e-3)
    beyond = np.empty(max(count, BLOCK), np.float32)
    close = np.empty(count, np.int32)
    near = np.empty(n + LANES, np.int32)
    inside = np.empty(LANES, table.dtype)
    begin, end = share(len(blur), part, parts)
    for v in range(begin, end):
        # Most Gaussians are far from most slice planes: cheap tests in float32, with the largest radius there can be,
        # first of blocks and then of the Gaussians in those that are near.
        r, t = rotation[v], shift[v]
        nx, ny, nz = F32(r[0, 2]), F32(r[1, 2]), F32(r[2, 2])
        level, thick = F32(t[2] + low[v, 2]), F32(blur[v, 2])
        for b in range(count):
            away = abs(nx * blocks[0, b] + ny * blocks[1, b] + nz * blocks[2, b] - level)
            away -= abs(nx) * blocks[3, b] + abs(ny) * blocks[4, b] + abs(nz) * blocks[5, b] + slack
            away = max(away, F32(0))
            beyond[b] = away * away - square * (blocks[6, b] + thick)
        candidates = 0
        for b in range(count):
            close[candidates] = b
            candidates += beyond[b] <= 0
        blocks_close, candidates = candidates, 0
        for c in range(blocks_close):
            head = close[c] * BLOCK
            size = min(BLOCK, n - head)
            for k in range(size):
                j = head + k
                away = max(abs(nx * x[j] + ny * y[j] + nz * z[j] - level) - slack, F32(0))
                beyond[k] = away * away - square * (trace[j] + thick)
            for k in range(size):
                near[candidates] = head + k
                candidates += beyond[k] <= 0
        near[candidates : candidates + LANES] = n
        found = 0
        for first in range(0, candidates, LANES):
            m, c = in_slice(table, near, first, r, t)
            ahead = at_least(at_least(m[0] - high[v, 0], low[v, 0] - m[0]) - margin, 0.0)
            test = at_least(reach * reach * (c[0] + blur[v, 0]) - ahead * ahead, -1.0)
            ahead = at_least(at_least(m[1] - high[v, 1], low[v, 1] - m[1]) - margin, 0.0)
            test = at_most(test, reach * reach * (c[3] + blur[v, 1]) - ahead * ahead)
            ahead = at_least(at_least(m[2] - high[v, 2], low[v, 2] - m[2]) - margin, 0.0)
            test = at_most(test, reach * reach * (c[5] + blur[v, 2]) - ahead * ahead)
            store8(inside, 0, test)
            for lane in range(LANES):
                listed[v, found] = near[first + lane]
                found += inside[lane] >= 0
        counts[v] = found


@jit(**JIT)
def moves(table, table0, blur, reach, out, part, parts):
    """Bounds (N,), mm, on how far every Gaussian's blurred ellipsoid at `reach` has moved or grown between two tables.

    Growth: |sqrt(a) - sqrt(b)| <= |a - b| / (2 sqrt(blur)) for variances a, b of at least `blur`.
    """
    begin, end = share(len(out), part, parts)
    for j in range(begin, end):
        moved = 0.0
        grown = 0.0
        for k in range(3):
            moved += (table[j, k] - table0[j, k]) ** 2
        for k in range(3, 9):
            twice = 1.0 if k == 3 or k == 6 or k == 8 else 2.0
            grown += twice * (table[j, k] - table0[j, k]) ** 2
        out[j] = np.sqrt(moved) + reach * np.sqrt(grown / blur) / 2


@jit(**JIT)
def pairs_of_gaussians(gaussian, view_pairs, start, pair_of, part, parts):
    """The pairs of each Gaussian, ascending: where they start (N + 1,), and their numbers.

    Views list their Gaussians in ascending order, so that those of a part follow each other in every view.
    """
    n, views = len(start) - 1, len(view_pairs) - 1
    begin, end = share(n, part, parts)
    first, last = np.empty(views, np.int64), np.empty(views, np.int64)
    ahead = 0
    fill = np.zeros(end - begin, np.int64)
    for v in range(views):
        mine = gaussian[view_pairs[v] : view_pairs[v + 1]]
        first[v], last[v] = np.searchsorted(mine, begin), np.searchsorted(mine, end)
        ahead += first[v]
        first[v] += view_pairs[v]
        last[v] += view_pairs[v]
        for q in range(first[v], last[v]):
            fill[gaussian[q] - begin] += 1
    for j in range(begin, end):
        start[j] = ahead
        ahead += fill[j - begin]
        fill[j - begin] = start[j]
    if part == parts - 1:
        start[n] = ahead
    for v in range(views):
        for q in range(first[v], last[v]):
            pair_of[fill[gaussian[q] - begin]] = q
            fill[gaussian[q] - begin] += 1
