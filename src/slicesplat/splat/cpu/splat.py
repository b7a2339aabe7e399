"""From amplitudes to pixels: every slice the sum of its pairs."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit
from slicesplat.splat.cpu.canvas import gaussian_tile, padded
from slicesplat.splat.cpu.kernel import F32, INLINE, JIT, share
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
    gather8,
    item,
    load8,
    load_tile,
    store8,
    store_tile,
    tile_columns,
    tile_rows,
)


@jit(**JIT)
def splat(flat, amplitude, gain, shape, offset, view_start, start, gaussian, out, part, parts):
    """Simulated pixels (P,): every slice the sum of its pairs, times its gain."""
    canvas = np.empty(padded(shape), np.float32)
    begin, end = share(len(shape), part, parts)
    for s in range(begin, end):
        rows, columns = shape[s, 0], shape[s, 1]
        stride = columns + LANES
        canvas[: (rows + LANES) * stride] = F32(0)
        for q in range(start[view_start[s]], start[view_start[s + 1]]):
            place = place_of(q)
            top, bottom, left, right = window(flat, place)
            cut, down, mixed, wide = quadratic(flat, place)
            peak = item(flat, place + PEAK) * amplitude[gaussian[q], 0]
            across = tile_columns() + item(flat, place + ACROSS)
            for block in range(left, right, LANES):
                slope, constant = across * mixed, across * across * wide
                row = tile_rows() + item(flat, place + DOWN)
                for i in range(top, bottom, TILE_ROWS):
                    here = i * stride + block
                    e = gaussian_tile(constant, slope, down, row, cut)
                    store_tile(canvas, here, stride, load_tile(canvas, here, stride) + e * peak)
                    row = row + F32(TILE_ROWS)
                across = across + F32(LANES)
        _take_up(canvas, gain[s], rows, columns, out, offset[s])


@jit(**JIT)
def splat_separable(flat, amplitude, gain, shape, offset, view_start, start, gaussian, height, out, part, parts):
    """The same of pairs as `project_separable` has them; `height` (V,) is how many rows those of a view go over."""
    canvas = np.empty(padded(shape), np.float32)
    tables = np.empty(TABLES, np.float32)
    begin, end = share(len(shape), part, parts)
    for s in range(begin, end):
        rows, columns = shape[s, 0], shape[s, 1]
        stride = columns + LANES
        canvas[: (rows + LANES) * stride] = F32(0)
        for v in range(view_start[s], view_start[s + 1]):
            for first in range(start[v], start[v + 1], LANES):
                place = first * SEPARABLE_FIELDS
                tabulate_windows(
                    flat, place, load8(flat, place + PEAK) * gather8(amplitude, 0, gaussian, first), height[v], tables
                )
                for lane in range(LANES):
                    exponents, column = load8(tables, EXPONENTS + lane * LANES), load8(tables, COLUMNS + lane * LANES)
                    here = int(item(flat, place + CORNER + lane))
                    for i in range(height[v]):
                        e = row_of_window(tables, i, lane, exponents)
                        store8(canvas, here, load8(canvas, here) + column * e)
                        here += stride
        _take_up(canvas, gain[s], rows, columns, out, offset[s])


@jit(**INLINE)
def _take_up(canvas, gain, rows, columns, out, first):
    """A slice's pixels from the canvas, times its gain."""
    for i in range(rows):
        for k in range(columns):
            out[first + i * columns + k] = canvas[i * (columns + LANES) + k] * gain
