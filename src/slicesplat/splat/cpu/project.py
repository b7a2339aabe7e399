"""A pair of a view and a Gaussian on the slice's pixel grid: a 2-D Gaussian, and the box of pixels that it reaches."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from slicesplat.jit import jit
from slicesplat.splat.cpu.exponential import EXP_POWER, exp_of_sixteen_times
from slicesplat.splat.cpu.kernel import F32, INLINE, JIT, share
from slicesplat.splat.cpu.simd import (
    LANES,
    at_least,
    at_most,
    ceil,
    floor,
    gather8,
    item,
    keep_from,
    root,
    single,
    store8,
)
from slicesplat.splat.cpu.tabulate import in_slice
from slicesplat.splat.model import MAX_CUTOFF

# What `project` keeps of a pair, and how far each field of eight pairs lies from the first one.
PAIR_FIELDS = 11
PEAK, DOWN, ACROSS, ROW_ROW, COLUMN_COLUMN, CUT, ROW_COLUMN, TOP, BOTTOM, LEFT, RIGHT = range(
    0, PAIR_FIELDS * LANES, LANES
)


@jit(**INLINE)
def project_eight(table, numbers, first, r, shift, weight, blur, level, su, sv, rows, columns, cutoff, flat, place):
    """The fields of eight pairs (see `project`), into `flat`; their means and covariances in the slice frame."""
    scale = 1.0 / EXP_POWER
    m, c = in_slice(table, numbers, first, r, shift)
    per_szz = 1.0 / (c[5] + blur[2])
    above = m[2] - level[2]
    z = above * per_szz
    square = above * z
    room = cutoff * cutoff - square
    tilt_u, tilt_v = c[2] * per_szz, c[4] * per_szz
    cuu = c[0] + blur[0] - c[2] * tilt_u
    cuv = c[1] - c[2] * tilt_v
    cvv = c[3] + blur[1] - c[4] * tilt_v
    per_det = 1.0 / (cuu * cvv - cuv * cuv)
    row = single((m[0] - c[2] * z - level[0]) / su)
    column = single((m[1] - c[4] * z - level[1]) / sv)
    reach = root(at_least(room, 0.0))
    tall, wide = single(reach * root(cuu) / su), single(reach * root(cvv) / sv)
    # Beyond the cut-off through the plane there is no such exp, and no pixel.
    peak = weight * gather8(table, 9, numbers, first) * root(per_det * per_szz)
    peak = peak * exp_of_sixteen_times(at_least(square * (-0.5 * scale), -0.5 * scale * MAX_CUTOFF**2))
    store8(flat, place + PEAK, single(peak))
    store8(flat, place + ROW_ROW, single(cvv * per_det * (-0.5 * scale * su * su)))
    store8(flat, place + ROW_COLUMN, single(cuv * per_det * (scale * su * sv)))
    store8(flat, place + COLUMN_COLUMN, single(cuu * per_det * (-0.5 * scale * sv * sv)))
    store8(flat, place + CUT, single(room * (-0.5 * scale)))
    touches = single(room)
    top, left = at_least(ceil(row - tall), 0.0), at_least(ceil(column - wide), 0.0)
    store8(flat, place + DOWN, top - row)
    store8(flat, place + ACROSS, left - column)
    store8(flat, place + TOP, top)
    bottom = at_most(floor(row + tall) + 1.0, rows)
    store8(flat, place + BOTTOM, keep_from(bottom, touches, 0.0))
    store8(flat, place + LEFT, left)
    store8(flat, place + RIGHT, at_most(floor(column + wide) + 1.0, columns))
    return m, c


@jit(**JIT)
def project(table, rotation, shift, weight, blur, origin, step, shape, start, gaussian, cutoff, flat, part, parts):
    """Every pair's 2-D Gaussian on its slice's pixel grid: eight pairs' fields together, (Q / 8, 11, 8) float32.

    PEAK for amplitude 1; how far DOWN and ACROSS the box's first pixel lies from the centre; a sixteenth of the
    quadratic exponent (ROW_ROW, COLUMN_COLUMN, ROW_COLUMN) and of its value at the CUT-off; first and last + 1 row and
    column of the box, which is what the image has of the ellipse.
    """
    begin, end = share(len(blur), part, parts)
    for v in range(begin, end):
        frame = (rotation[v], shift[v], weight[v], blur[v], origin[v], step[v, 0], step[v, 1], shape[v, 0], shape[v, 1])
        for first in range(start[v], start[v + 1], LANES):
            project_eight(table, gaussian, first, *frame, cutoff, flat, first * PAIR_FIELDS)


@jit(**INLINE)
def place_of(q):
    """Where the fields of pair q are."""
    return q // LANES * (PAIR_FIELDS * LANES) + q % LANES


@jit(**INLINE)
def window(flat, place):
    """First and last + 1 row and column of a pair's box inside the image."""
    return (
        int(item(flat, place + TOP)),
        int(item(flat, place + BOTTOM)),
        int(item(flat, place + LEFT)),
        int(item(flat, place + RIGHT)),
    )


@jit(**INLINE)
def quadratic(flat, place):
    """A pair's exponent: at the cut-off, and by rows^2, rows x columns, columns^2."""
    return (
        item(flat, place + CUT),
        item(flat, place + ROW_ROW),
        item(flat, place + ROW_COLUMN),
        item(flat, place + COLUMN_COLUMN),
    )


@jit(**JIT)
def count_pixels(flat, view_start, start, counts, part, parts):
    """Pixels inside the cut-off and the image over all pairs of every slice (S,): the work that there is to do."""
    begin, end = share(len(counts), part, parts)
    for s in range(begin, end):
        total = 0
        for q in range(start[view_start[s]], start[view_start[s + 1]]):
            place = place_of(q)
            top, bottom, left, right = window(flat, place)
            for i in range(top, bottom):
                di = F32(i - top) + item(flat, place + DOWN)
                for k in range(left, right):
                    dj = F32(k - left) + item(flat, place + ACROSS)
                    x = (
                        dj * dj * item(flat, place + COLUMN_COLUMN)
                        + (dj * item(flat, place + ROW_COLUMN) + di * item(flat, place + ROW_ROW)) * di
                    )
                    total += x >= item(flat, place + CUT)
        counts[s] = total
