"""From amplitudes to pixels: every tile of pixels the sum of its pairs."""

# Triton finds the types of what it compiles.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from slicesplat.splat.gpu.algebra import load3
from slicesplat.splat.gpu.project import gaussian_at


@triton.jit
def tile_pixels(tiles, shape, t, TILE: tl.constexpr):
    """The slice of a tile, the rows and columns of its pixels, their places among all pixels, and which exist."""
    s = tl.load(tiles + 3 * t)
    lane = tl.arange(0, TILE * TILE)
    i = tl.load(tiles + 3 * t + 1) + lane // TILE
    k = tl.load(tiles + 3 * t + 2) + lane % TILE
    rows, columns, first = load3(shape + 3 * s)
    return s, i.to(tl.float32), k.to(tl.float32), first + i * columns + k, (i < rows) & (k < columns)


@triton.jit
def splat(flat, peaks, gains, tiles, shape, entry_start, entries, out, TILE: tl.constexpr):
    """Simulated pixels of one tile: the sum of its pairs, in their order, times the slice's gain."""
    t = tl.program_id(0)
    s, i, k, pixel, inside = tile_pixels(tiles, shape, t, TILE)
    total = tl.zeros([TILE * TILE], tl.float32)
    for entry in range(tl.load(entry_start + t), tl.load(entry_start + t + 1)):
        q = tl.load(entries + entry)
        f = flat + 8 * q
        total += tl.load(peaks + q) * gaussian_at(i - tl.load(f + 1), k - tl.load(f + 2), f)
    tl.store(out + pixel, total * tl.load(gains + s), mask=inside)
