"""From amplitudes to pixels: every slice the sum of its pairs."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit
from slicesplat.splat.cpu.canvas import gaussian_tile, padded
from slicesplat.splat.cpu.kernel import F32, JIT, share
from slicesplat.splat.cpu.project import ACROSS, DOWN, PEAK, place_of, quadratic, window
from slicesplat.splat.cpu.simd import LANES, TILE_ROWS, item, load_tile, store_tile, tile_columns, tile_rows


@jit(**JIT)
def splat(flat, amplitude, gain, shape, offset, view_start, start, gaussian, out, part, parts):
    """Simulated pixels (P,): every slice the sum of its pairs, times its gain."""
    canvas = np.empty(padded(shape), np.float32)
    begin, end = share(len(shape), part, parts)
    for s in range(begin, end):
        rows, columns = shape[s, 0], shape[s, 1]
        stride = columns + LANES
        canvas[: (rows + TILE_ROWS) * stride] = F32(0)
        for q in range(start[view_start[s]], start[view_start[s + 1]]):
            place = place_of(q)
            top, bottom, left, right = window(flat, place)
            cut, down, mixed, wide = quadratic(flat, place)
            peak = item(flat, place + PEAK) * amplitude[gaussian[q]]
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
        for i in range(rows):
            for k in range(columns):
                out[offset[s] + i * columns + k] = canvas[i * stride + k] * gain[s]
