"""The CPU kernels: pairs of slices and Gaussians, their projection, the forward model, its adjoint and its gradient.

What is 3-D is done once per (slice, Gaussian) pair, eight pairs at a time; per pixel a 2-D quadratic and one exp are
left, two rows by eight columns at a time, in packed float32 (`simd.py`). With z = o - m_z fixed, o the offset of
the PSF's component, the exponent d' P d of
docs/method.md is least at the conditional mean of the blurred Gaussian in the slice plane, so every pair is an
ordinary 2-D Gaussian about that centre:

    y(rho) = A exp(-z^2 / 2 S'_zz) exp(-1/2 rho' C^-1 rho),   C = S'_uv,uv - S'_uv,z S'_z,uv / S'_zz

Forward and backward both go slice by slice, each pair belonging to one slice; what pairs owe their Gaussian is summed
afterwards Gaussian by Gaussian, in the pairs' order. No atomics: the same bits for any number of threads.

A kernel that runs in parallel takes `part` and `parts` last and does its share of the slices or of the Gaussians;
`cpu.py` gives the parts to threads. That compiles in a fraction of the time of numba's own parallel loops.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numpy.polynomial import Chebyshev

from slicesplat.jit import jit
from slicesplat.splat.cpu.simd import (
    LANES,
    TILE_ROWS,
    add8,
    at_least,
    at_most,
    ceil,
    double,
    floor,
    gather8,
    item,
    keep_from,
    load8,
    load_tile,
    root,
    single,
    store8,
    store_tile,
    sum_lanes,
    sum_tiles,
    tile_columns,
    tile_rows,
    tile_zero,
    transpose8,
)
from slicesplat.splat.model import MAX_CUTOFF

F32 = np.float32
# So many Gaussians, neighbours on a lattice, are told to be far from a slice by one test.
BLOCK = 16

# exp(x) for -MAX_CUTOFF^2 / 2 <= x <= 0 as p(x / 16)^16, p of degree 5: within 3e-6 of the largest value, no branch.
EXP_POWER = 16
_P = Chebyshev.interpolate(np.exp, 5, domain=[-(MAX_CUTOFF**2) / 2 / EXP_POWER, 0.0])
_P0, _P1, _P2, _P3, _P4, _P5 = (F32(c) for c in _P.convert(kind=np.polynomial.Polynomial).coef)

# Columns of the table of Gaussians: mean (3), covariance (xx, xy, xz, yy, yz, zz), sqrt of its determinant.
GAUSSIAN_COLUMNS = 10
# What `project` keeps of a pair, and how far each field of eight pairs lies from the first one.
PAIR_FIELDS = 11
PEAK, DOWN, ACROSS, ROW_ROW, ROW_COLUMN, COLUMN_COLUMN, CUT, TOP, BOTTOM, LEFT, RIGHT = range(
    0, PAIR_FIELDS * LANES, LANES
)
PAIR_GRADIENTS = 10
POSE_GRADIENTS = 13
_FAR = 1e6  # mm

_JIT = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc"},
    "no_cfunc_wrapper": True,
}
# A call would pass vectors through memory and count references to arrays.
_INLINE = {**_JIT, "forceinline": True, "no_cpython_wrapper": True}


@jit(**_INLINE)
def exp_of_sixteen_times(x):
    """exp(16 x): the polynomial, raised to the 16th power by squaring."""
    p = x * _P5 + _P4
    p = p * x + _P3
    p = p * x + _P2
    p = p * x + _P1
    p = p * x + _P0
    p = p * p
    p = p * p
    p = p * p
    return p * p


@jit(**_INLINE)
def share(n, part, parts):
    """First and last + 1 of the things that belong to a part: neighbours, which find each other's data in the cache."""
    return n * part // parts, n * (part + 1) // parts


@jit(**_INLINE)
def rotation_matrix(w, x, y, z):
    """Rotation matrix, row by row, of a quaternion of any length."""
    s = 2.0 / (w * w + x * x + y * y + z * z)
    return (
        1 - s * (y * y + z * z),
        s * (x * y - w * z),
        s * (x * z + w * y),
        s * (x * y + w * z),
        1 - s * (x * x + z * z),
        s * (y * z - w * x),
        s * (x * z - w * y),
        s * (y * z + w * x),
        1 - s * (x * x + y * y),
    )


@jit(**_JIT)
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
        table[n, :3] = _FAR
        table[n, 3:] = 0.0
        coarse[:3, n] = _FAR
        coarse[3, n] = 0.0


@jit(**_INLINE)
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


@jit(**_INLINE)
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


@jit(**_INLINE)
def inverse(c, blur):
    """Inverse (xx, xy, xz, yy, yz, zz) of eight covariances, blurred."""
    xx, xy, xz, yy, yz, zz = c[0] + blur[0], c[1], c[2], c[3] + blur[1], c[4], c[5] + blur[2]
    pxx = yy * zz - yz * yz
    pxy = xz * yz - xy * zz
    pxz = xy * yz - xz * yy
    scale = 1.0 / (xx * pxx + xy * pxy + xz * pxz)
    pyy = xx * zz - xz * xz
    pyz = xy * xz - xx * yz
    pzz = xx * yy - xy * xy
    return scale * pxx, scale * pxy, scale * pxz, scale * pyy, scale * pyz, scale * pzz


@jit(**_JIT)
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


@jit(**_JIT)
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


@jit(**_JIT)
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


@jit(**_JIT)
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


@jit(**_INLINE)
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


@jit(**_JIT)
def project(table, rotation, shift, weight, blur, origin, step, shape, start, gaussian, cutoff, flat, part, parts):
    """Every pair's 2-D Gaussian on its slice's pixel grid: eight pairs' fields together, (Q / 8, 11, 8) float32.

    PEAK for amplitude 1; how far DOWN and ACROSS the box's first pixel lies from the centre; a sixteenth of the
    quadratic exponent (ROW_ROW, ROW_COLUMN, COLUMN_COLUMN) and of its value at the CUT-off; first and last + 1 row and
    column of the box, which is what the image has of the ellipse.
    """
    begin, end = share(len(blur), part, parts)
    for v in range(begin, end):
        frame = (rotation[v], shift[v], weight[v], blur[v], origin[v], step[v, 0], step[v, 1], shape[v, 0], shape[v, 1])
        for first in range(start[v], start[v + 1], LANES):
            project_eight(table, gaussian, first, *frame, cutoff, flat, first * PAIR_FIELDS)


@jit(**_INLINE)
def place_of(q):
    """Where the fields of pair q are."""
    return q // LANES * (PAIR_FIELDS * LANES) + q % LANES


@jit(**_INLINE)
def window(flat, place):
    """First and last + 1 row and column of a pair's box inside the image."""
    return (
        int(item(flat, place + TOP)),
        int(item(flat, place + BOTTOM)),
        int(item(flat, place + LEFT)),
        int(item(flat, place + RIGHT)),
    )


@jit(**_INLINE)
def quadratic(flat, place):
    """A pair's exponent: at the cut-off, and by rows^2, rows x columns, columns^2."""
    return (
        item(flat, place + CUT),
        item(flat, place + ROW_ROW),
        item(flat, place + ROW_COLUMN),
        item(flat, place + COLUMN_COLUMN),
    )


@jit(**_INLINE)
def gaussian_tile(constant, slope, curvature, row, cut):
    """Exp on a tile at distance `row` from the pair's centre, pixels; zero beyond the cut-off.

    A tile's second row and last columns may lie outside the pair's box: then they lie beyond the cut-off too.
    """
    x = constant + (slope + row * curvature) * row
    return keep_from(exp_of_sixteen_times(x), x, cut)


@jit(**_INLINE)
def padded(shape):
    """Floats that the largest slice takes with room for a tile that begins at its last pixel."""
    largest = 0
    for s in range(len(shape)):
        largest = max(largest, (shape[s, 0] + TILE_ROWS) * (shape[s, 1] + LANES))
    return largest


@jit(**_INLINE)
def lay_out(values, canvas, first, rows, columns):
    """Copy a slice into `canvas`, every row followed by a vector of zeros, the last one by another row."""
    stride = columns + LANES
    canvas[: (rows + TILE_ROWS) * stride] = F32(0)
    for i in range(rows):
        for k in range(columns):
            canvas[i * stride + k] = values[first + i * columns + k]


@jit(**_JIT)
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


@jit(**_JIT)
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


@jit(**_INLINE)
def _moments(flat, q, lane, canvas, stride, out):
    """Sums of h e (1, di, dj, di^2, di dj, dj^2) about a pair's centre, in pixels, into row `lane` of `out`."""
    place = place_of(q)
    top, bottom, left, right = window(flat, place)
    cut, down, mixed, wide = quadratic(flat, place)
    m0, mi, mii = tile_zero(), tile_zero(), tile_zero()
    mj, mij, mjj = tile_zero(), tile_zero(), tile_zero()
    across = tile_columns() + item(flat, place + ACROSS)
    for block in range(left, right, LANES):
        slope, constant = across * mixed, across * across * wide
        row = tile_rows() + item(flat, place + DOWN)
        c0, c1, c2 = tile_zero(), tile_zero(), tile_zero()
        for i in range(top, bottom, TILE_ROWS):
            he = gaussian_tile(constant, slope, down, row, cut) * load_tile(canvas, i * stride + block, stride)
            her = he * row
            c0 = c0 + he
            c1 = c1 + her
            c2 = c2 + her * row
            row = row + F32(TILE_ROWS)
        m0 = m0 + c0
        mi = mi + c1
        mii = mii + c2
        c0 = c0 * across
        mj = mj + c0
        mij = mij + c1 * across
        mjj = mjj + c0 * across
        across = across + F32(LANES)
    store8(out, lane * LANES, sum_tiles((m0, mi, mj, mii, mij, mjj)))


@jit(**_INLINE)
def _chain(table, amplitude, gain, r, shift, blur, level, su, sv, gaussian, first, flat, moment, last, pair, sums):
    """From six moments to gradients, eight pairs at a time (docs/method.md).

    Returns
    -------
    gradient : (10, 8) float32
        d/d mean (3), d/d covariance (xx, xy, xz, yy, yz, zz, the off-diagonal ones counted once), d/d amplitude.
    sums : (13, 8)
        Added to, in the slice frame: of m gm' + 2 M gS' (9), of -gm (3), and of y h / gain.
    """
    m, c = in_slice(table, gaussian, first, r, shift)
    pxx, pxy, pxz, pyy, pyz, pzz = inverse(c, blur)
    a = gather8(amplitude, 0, gaussian, first)
    # The moments are about the conditional mean; those of docs/method.md are about the mean itself.
    peak = load8(flat, first * PAIR_FIELDS + PEAK)
    h, hi, hj, hii, hij, hjj, _, _ = transpose8(
        (
            load8(moment, 0),
            load8(moment, LANES),
            load8(moment, 2 * LANES),
            load8(moment, 3 * LANES),
            load8(moment, 4 * LANES),
            load8(moment, 5 * LANES),
            load8(moment, 6 * LANES),
            load8(moment, 7 * LANES),
        )
    )
    # The plane is not where the frame turns: m, which is, stays the lever of the rotation.
    z = level - m[2]
    per_szz = 1.0 / (c[5] + blur[2])
    du, dv = c[2] * per_szz * z, c[4] * per_szz * z
    m0 = double(peak * h)
    ru = double(peak * hi) * su
    rv = double(peak * hj) * sv
    muu = double(peak * hii) * (su * su) + 2.0 * du * ru + du * du * m0
    muv = double(peak * hij) * (su * sv) + du * rv + dv * ru + du * dv * m0
    mvv = double(peak * hjj) * (sv * sv) + 2.0 * dv * rv + dv * dv * m0
    mu, mv, mz = ru + du * m0, rv + dv * m0, z * m0
    muz, mvz, mzz = z * mu, z * mv, z * mz
    add8(sums, 12 * LANES, a * m0)
    a = a * gain
    gx = a * (pxx * mu + pxy * mv + pxz * mz)
    gy = a * (pxy * mu + pyy * mv + pyz * mz)
    gz = a * (pxz * mu + pyz * mv + pzz * mz)
    # dL/dS' = a/2 (P M2 P - M0 P), with H = P M2
    hxx = pxx * muu + pxy * muv + pxz * muz
    hxy = pxx * muv + pxy * mvv + pxz * mvz
    hxz = pxx * muz + pxy * mvz + pxz * mzz
    hyx = pxy * muu + pyy * muv + pyz * muz
    hyy = pxy * muv + pyy * mvv + pyz * mvz
    hyz = pxy * muz + pyy * mvz + pyz * mzz
    hzx = pxz * muu + pyz * muv + pzz * muz
    hzy = pxz * muv + pyz * mvv + pzz * mvz
    hzz = pxz * muz + pyz * mvz + pzz * mzz
    half = a * 0.5
    gxx = half * (hxx * pxx + hxy * pxy + hxz * pxz - m0 * pxx)
    gxy = half * (hxx * pxy + hxy * pyy + hxz * pyz - m0 * pxy)
    gxz = half * (hxx * pxz + hxy * pyz + hxz * pzz - m0 * pxz)
    gyy = half * (hyx * pxy + hyy * pyy + hyz * pyz - m0 * pyy)
    gyz = half * (hyx * pxz + hyy * pyz + hyz * pzz - m0 * pyz)
    gzz = half * (hzx * pxz + hzy * pyz + hzz * pzz - m0 * pzz)
    add8(sums, 0 * LANES, m[0] * gx + 2.0 * (c[0] * gxx + c[1] * gxy + c[2] * gxz))
    add8(sums, 1 * LANES, m[0] * gy + 2.0 * (c[0] * gxy + c[1] * gyy + c[2] * gyz))
    add8(sums, 2 * LANES, m[0] * gz + 2.0 * (c[0] * gxz + c[1] * gyz + c[2] * gzz))
    add8(sums, 3 * LANES, m[1] * gx + 2.0 * (c[1] * gxx + c[3] * gxy + c[4] * gxz))
    add8(sums, 4 * LANES, m[1] * gy + 2.0 * (c[1] * gxy + c[3] * gyy + c[4] * gyz))
    add8(sums, 5 * LANES, m[1] * gz + 2.0 * (c[1] * gxz + c[3] * gyz + c[4] * gzz))
    add8(sums, 6 * LANES, m[2] * gx + 2.0 * (c[2] * gxx + c[4] * gxy + c[5] * gxz))
    add8(sums, 7 * LANES, m[2] * gy + 2.0 * (c[2] * gxy + c[4] * gyy + c[5] * gyz))
    add8(sums, 8 * LANES, m[2] * gz + 2.0 * (c[2] * gxz + c[4] * gyz + c[5] * gzz))
    add8(sums, 9 * LANES, -gx)
    add8(sums, 10 * LANES, -gy)
    add8(sums, 11 * LANES, -gz)
    x = (gxx * r[0, 0] + gxy * r[0, 1] + gxz * r[0, 2], gxx * r[1, 0] + gxy * r[1, 1] + gxz * r[1, 2])
    y = (gxy * r[0, 0] + gyy * r[0, 1] + gyz * r[0, 2], gxy * r[1, 0] + gyy * r[1, 1] + gyz * r[1, 2])
    z = (gxz * r[0, 0] + gyz * r[0, 1] + gzz * r[0, 2], gxz * r[1, 0] + gyz * r[1, 1] + gzz * r[1, 2])
    x2 = gxx * r[2, 0] + gxy * r[2, 1] + gxz * r[2, 2]
    y2 = gxy * r[2, 0] + gyy * r[2, 1] + gyz * r[2, 2]
    z2 = gxz * r[2, 0] + gyz * r[2, 1] + gzz * r[2, 2]
    rows = transpose8(
        (
            single(gx * r[0, 0] + gy * r[0, 1] + gz * r[0, 2]),
            single(gx * r[1, 0] + gy * r[1, 1] + gz * r[1, 2]),
            single(gx * r[2, 0] + gy * r[2, 1] + gz * r[2, 2]),
            single(x[0] * r[0, 0] + y[0] * r[0, 1] + z[0] * r[0, 2]),
            single(x[0] * r[1, 0] + y[0] * r[1, 1] + z[0] * r[1, 2]),
            single(x[0] * r[2, 0] + y[0] * r[2, 1] + z[0] * r[2, 2]),
            single(x[1] * r[1, 0] + y[1] * r[1, 1] + z[1] * r[1, 2]),
            single(x[1] * r[2, 0] + y[1] * r[2, 1] + z[1] * r[2, 2]),
        )
    )
    store8(last, 0, single(x2 * r[2, 0] + y2 * r[2, 1] + z2 * r[2, 2]))
    store8(last, LANES, single(gain * m0))
    for lane in range(LANES):
        store8(pair, (first + lane) * PAIR_GRADIENTS, rows[lane])
        pair[first + lane, 8] = last[0, lane]
        pair[first + lane, 9] = last[1, lane]


@jit(**_JIT)
def gradients_of_pairs(
    table,
    amplitude,
    gain,
    rotation,
    shift,
    blur,
    origin,
    step,
    shape,
    offset,
    view_start,
    start,
    gaussian,
    flat,
    upstream,
    pair,
    pose,
    part,
    parts,
):
    """The adjoint of the forward model up to the sum over pairs, slice by slice.

    Returns
    -------
    pair : (Q, 10) float32
        As `_chain`.
    pose : (S, 13)
        d/d rotation (9, row by row), d/d translation (3), d/d gain.
    """
    canvas = np.empty(padded(shape), np.float32)
    moment = np.empty((LANES, LANES), np.float32)
    last = np.empty((PAIR_GRADIENTS - LANES, LANES), np.float32)
    sums = np.empty((POSE_GRADIENTS, LANES))
    total = np.empty(POSE_GRADIENTS)
    begin, end = share(len(shape), part, parts)
    for s in range(begin, end):
        rows, columns = shape[s, 0], shape[s, 1]
        lay_out(upstream, canvas, offset[s], rows, columns)
        sums[:] = 0.0
        for v in range(view_start[s], view_start[s + 1]):
            frame = (rotation[v], shift[v], blur[v], origin[v, 2], step[v, 0], step[v, 1])
            for first in range(start[v], start[v + 1], LANES):
                for lane in range(LANES):
                    _moments(flat, first + lane, lane, canvas, columns + LANES, moment)
                _chain(table, amplitude, gain[s], *frame, gaussian, first, flat, moment, last, pair, sums)
        for k in range(POSE_GRADIENTS):
            total[k] = sum_lanes(load8(sums, k * LANES))
        r = rotation[view_start[s]]
        for i in range(3):
            for k in range(3):
                pose[s, 3 * i + k] = r[i, 0] * total[k] + r[i, 1] * total[3 + k] + r[i, 2] * total[6 + k]
            pose[s, 9 + i] = r[i, 0] * total[9] + r[i, 1] * total[10] + r[i, 2] * total[11]
        pose[s, 12] = total[12]


@jit(**_JIT)
def gradients_of_gaussians(variances, rotations, amplitude, pair, start, pair_of, out, part, parts):
    """Sum the pairs of every Gaussian and go on to its parameters: (N, 11), mean, log scales, quaternion, amplitude."""
    n = len(variances)
    t = np.empty(PAIR_GRADIENTS)
    d = np.empty((3, 3))  # dL/dR = 2 G R diag(exp(2 l))
    begin, end = share(n, part, parts)
    for j in range(begin, end):
        eight = double(0.0)
        t[8] = t[9] = 0.0
        for index in range(start[j], start[j + 1]):
            place = PAIR_GRADIENTS * pair_of[index]
            eight = eight + double(load8(pair, place))
            t[8] += pair[pair_of[index], 8]
            t[9] += pair[pair_of[index], 9]
        store8(t, 0, eight)
        length = np.sqrt(rotations[j, 0] ** 2 + rotations[j, 1] ** 2 + rotations[j, 2] ** 2 + rotations[j, 3] ** 2)
        w, x = rotations[j, 0] / length, rotations[j, 1] / length
        y, z = rotations[j, 2] / length, rotations[j, 3] / length
        r = rotation_matrix(w, x, y, z)
        for k in range(3):
            variance = variances[j, k]
            g0 = t[3] * r[k] + t[4] * r[3 + k] + t[5] * r[6 + k]
            g1 = t[4] * r[k] + t[6] * r[3 + k] + t[7] * r[6 + k]
            g2 = t[5] * r[k] + t[7] * r[3 + k] + t[8] * r[6 + k]
            d[0, k], d[1, k], d[2, k] = 2 * variance * g0, 2 * variance * g1, 2 * variance * g2
            # Through the covariance, and directly: |S| = exp(2 sum l) stands under the root of the amplitude.
            out[j, 3 + k] = 2 * variance * (r[k] * g0 + r[3 + k] * g1 + r[6 + k] * g2) + amplitude[j, 0] * t[9]
        qw = 2 * (-z * d[0, 1] + y * d[0, 2] + z * d[1, 0] - x * d[1, 2] - y * d[2, 0] + x * d[2, 1])
        qx = 2 * (
            y * d[0, 1]
            + z * d[0, 2]
            + y * d[1, 0]
            - 2 * x * d[1, 1]
            - w * d[1, 2]
            + z * d[2, 0]
            + w * d[2, 1]
            - 2 * x * d[2, 2]
        )
        qy = 2 * (
            -2 * y * d[0, 0]
            + x * d[0, 1]
            + w * d[0, 2]
            + x * d[1, 0]
            + z * d[1, 2]
            - w * d[2, 0]
            + z * d[2, 1]
            - 2 * y * d[2, 2]
        )
        qz = 2 * (
            -2 * z * d[0, 0]
            - w * d[0, 1]
            + x * d[0, 2]
            + w * d[1, 0]
            - 2 * z * d[1, 1]
            + y * d[1, 2]
            + x * d[2, 0]
            + y * d[2, 1]
        )
        along = w * qw + x * qx + y * qy + z * qz
        out[j, 0], out[j, 1], out[j, 2] = t[0], t[1], t[2]
        out[j, 6], out[j, 7] = (qw - w * along) / length, (qx - x * along) / length
        out[j, 8], out[j, 9] = (qy - y * along) / length, (qz - z * along) / length
        out[j, 10] = t[9]


@jit(**_JIT)
def sum_pairs(pair, start, pair_of, out, part, parts):
    """Sum over the pairs of every Gaussian, in their order: (N,) float32."""
    n = len(out)
    begin, end = share(n, part, parts)
    for j in range(begin, end):
        total = 0.0
        for index in range(start[j], start[j + 1]):
            total += pair[pair_of[index]]
        out[j] = total


@jit(**_JIT)
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
