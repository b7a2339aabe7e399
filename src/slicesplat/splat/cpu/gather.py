"""From pixels to amplitudes, the adjoint of `splat`: a pair sums over its pixels, a Gaussian over its pairs."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit
from slicesplat.splat.cpu.algebra import columns_of_eight
from slicesplat.splat.cpu.canvas import gaussian_tile, lay_out, padded
from slicesplat.splat.cpu.kernel import F32, JIT, share
from slicesplat.splat.cpu.project import ACROSS, DOWN, PEAK, place_of, quadratic, window
from slicesplat.splat.cpu.separable import (
    COLUMNS,
    CORNER,
    EXPONENTS,
    SEPARABLE_FIELDS,
    TABLES,
    row_of_window,
    tabulate_windows,
)
from slicesplat.splat.cpu.simd import (
    LANES,
    TILE_ROWS,
    item,
    load8,
    load_tile,
    single,
    store8,
    sum_lanes,
    tile_columns,
    tile_rows,
    tile_zero,
)


@jit(**JIT)
def gather(flat, upstream, gain, shape, offset, view_start, start, out, part, parts):
    """Per pair (Q,), the gradient by an amplitude: the adjoint of `splat` before the sum over pairs."""
    canvas = np.empty(padded(shape), np.float32)
    begin, end = share(len(shape), part, parts)
    for s in range(begin, end):
        rows, columns = shape[s, 0], shape[s, 1]
        stride = columns + LANES
        lay_out(upstream, canvas, offset[s], rows, columns)
        for q in range(start[view_start[s]], start[view_start[s + 1]]):
            place = place_of(q)
            top, bottom, left, right = window(flat, place)
            cut, down, mixed, wide = quadratic(flat, place)
            total = tile_zero()
            across = tile_columns() + item(flat, place + ACROSS)
            for block in range(left, right, LANES):
                slope, constant = across * mixed, across * across * wide
                row = tile_rows() + item(flat, place + DOWN)
                for i in range(top, bottom, TILE_ROWS):
                    e = gaussian_tile(constant, slope, down, row, cut)
                    total = total + e * load_tile(canvas, i * stride + block, stride)
                    row = row + F32(TILE_ROWS)
                across = across + F32(LANES)
            out[q] = item(flat, place + PEAK) * gain[s] * sum_lanes(total)


@jit(**JIT)
def gather_separable(flat, upstream, gain, shape, offset, view_start, start, height, out, part, parts):
    """The same of pairs as `project_separable` has them; `height` (V,) is how many rows those of a view go over."""
    canvas = np.empty(padded(shape), np.float32)
    tables, totals = np.empty(TABLES, np.float32), np.empty(LANES * LANES, np.float32)
    begin, end = share(len(shape), part, parts)
    for s in range(begin, end):
        rows, columns = shape[s, 0], shape[s, 1]
        stride = columns + LANES
        lay_out(upstream, canvas, offset[s], rows, columns)
        for v in range(view_start[s], view_start[s + 1]):
            for first in range(start[v], start[v + 1], LANES):
                place = first * SEPARABLE_FIELDS
                tabulate_windows(flat, place, load8(flat, place + PEAK) * gain[s], height[v], tables)
                for lane in range(LANES):
                    exponents, column = load8(tables, EXPONENTS + lane * LANES), load8(tables, COLUMNS + lane * LANES)
                    here = int(item(flat, place + CORNER + lane))
                    total = single(F32(0))
                    for i in range(height[v]):
                        total = total + row_of_window(tables, i, lane, exponents) * load8(canvas, here)
                        here += stride
                    store8(totals, lane * LANES, total * column)
                # The sums of eight vectors, one in each lane.
                a, b, c, d, e, f, g, h = columns_of_eight(totals)
                store8(out, first, ((a + b) + (c + d)) + ((e + f) + (g + h)))


@jit(**JIT)
def sum_pairs(pair, start, pair_of, out, part, parts):
    """Sum over the pairs of every Gaussian, in their order: (N,) float32."""
    n = len(out)
    begin, end = share(n, part, parts)
    for j in range(begin, end):
        total = 0.0
        for index in range(start[j], start[j + 1]):
            total += pair[pair_of[index]]
        out[j] = total
