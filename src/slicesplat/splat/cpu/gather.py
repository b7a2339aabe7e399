"""From pixels to amplitudes, the adjoint of `splat`: a pair sums over its pixels, a Gaussian over its pairs."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit
from slicesplat.splat.cpu.canvas import gaussian_tile, lay_out, padded
from slicesplat.splat.cpu.kernel import F32, JIT, share
from slicesplat.splat.cpu.project import ACROSS, DOWN, PEAK, place_of, quadratic, window
from slicesplat.splat.cpu.simd import LANES, TILE_ROWS, item, load_tile, sum_lanes, tile_columns, tile_rows, tile_zero


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
def sum_pairs(pair, start, pair_of, out, part, parts):
    """Sum over the pairs of every Gaussian, in their order: (N,) float32."""
    n = len(out)
    begin, end = share(n, part, parts)
    for j in range(begin, end):
        total = 0.0
        for index in range(start[j], start[j + 1]):
            total += pair[pair_of[index]]
        out[j] = total
