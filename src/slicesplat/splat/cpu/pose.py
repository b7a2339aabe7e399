"""Gauss-Newton systems of every slice's pose on the CPU: the rendered slice and its exact derivatives, in one pass.

A pose moves by a rigid step in its own slice frame, R -> R exp([w]x), t -> t + R v. With f one pair's pixel value,
d = x - m, P = S'^-1 and M = R' S R, which turns while the PSF stays:

    d log f / dv = -P d
    d log f / dw = -m x P d + (P d) x (M P d) - 1/2 tr(P (M E_k - E_k M)),   E_k = [e_k]x

With rho the distance from the conditional mean, P d = (0, 0, z / S'_zz) + rho_u P_u + rho_v P_v, so that both are
polynomials of degree one and two on the pixel grid (derived from the model of docs/method.md).

Round Gaussians under a PSF that is as wide along both image axes need less: M is a multiple of one, P is diagonal and

    d log f / dw = -m x P d

in which m = x - d: x multiplies the derivatives by v, once a pixel has all its pairs. What is left changes along one
axis of the pixel grid only, and is nothing about the third axis: five numbers a pair, those of `_round_coefficients`.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit
from slicesplat.splat.cpu.algebra import add, cross, inverse, turned
from slicesplat.splat.cpu.canvas import gaussian_tile, lay_out, padded
from slicesplat.splat.cpu.kernel import F32, INLINE, JIT, share
from slicesplat.splat.cpu.project import ACROSS, DOWN, PAIR_FIELDS, PEAK, project_eight, quadratic, window
from slicesplat.splat.cpu.separable import (
    COLUMNS,
    CORNER,
    EXPONENTS,
    SEPARABLE_FIELDS,
    TABLES,
    row_of_window,
    separate,
    tabulate_windows,
)
from slicesplat.splat.cpu.simd import (
    LANES,
    TILE_ROWS,
    add8,
    double,
    gather8,
    item,
    lane_numbers,
    load8,
    load_tile,
    single,
    store8,
    store_tile,
    sum_lanes,
    tile_columns,
    tile_rows,
)

UNKNOWNS = 7  # v (3, mm), w (3, rad), gain
COEFFICIENTS = 3 * 3 + 3 * 6


@jit(**INLINE)
def _polynomials(m, c, blur, level, su, sv, out):
    """Derivatives of log f of eight pairs, into `out` (27, 8): v and then w, each coefficient by coefficient.

    The coefficients are those of 1, di, dj and, for w, of di^2, di dj, dj^2, in pixels.
    """
    pxx, pxy, pxz, pyy, pyz, pzz = inverse(c, blur)
    nothing = double(0.0)
    g0 = (nothing, nothing, (level - m[2]) / (c[5] + blur[2]))
    gu = (su * pxx, su * pxy, su * pxz)
    gv = (sv * pxy, sv * pyy, sv * pyz)
    h0, hu, hv = turned(c, g0), turned(c, gu), turned(c, gv)
    one = cross(g0, h0)
    first_u = add(cross(g0, hu), cross(gu, h0))
    first_v = add(cross(g0, hv), cross(gv, h0))
    square_u, square_v = cross(gu, hu), cross(gv, hv)
    mixed = add(cross(gu, hv), cross(gv, hu))
    turn0, turn_u, turn_v = cross(m, g0), cross(m, gu), cross(m, gv)
    # 1/2 tr(P (M E_k - E_k M)) = tr(P M E_k): the antisymmetric part of P M.
    px, py, pz = turned(c, (pxx, pxy, pxz)), turned(c, (pxy, pyy, pyz)), turned(c, (pxz, pyz, pzz))
    trace = (py[2] - pz[1], pz[0] - px[2], px[1] - py[0])
    for k in range(3):
        store8(out, 3 * k * LANES, single(-g0[k]))
        store8(out, (3 * k + 1) * LANES, single(-gu[k]))
        store8(out, (3 * k + 2) * LANES, single(-gv[k]))
        place = (9 + 6 * k) * LANES
        store8(out, place, single(one[k] - turn0[k] - trace[k]))
        store8(out, place + LANES, single(first_u[k] - turn_u[k]))
        store8(out, place + 2 * LANES, single(first_v[k] - turn_v[k]))
        store8(out, place + 3 * LANES, single(square_u[k]))
        store8(out, place + 4 * LANES, single(mixed[k]))
        store8(out, place + 5 * LANES, single(square_v[k]))


@jit(**INLINE)
def _add_pair(flat, lane, amplitude, c, canvas, stride):
    """Add a pair's image and its derivatives to the canvas."""
    top, bottom, left, right = window(flat, lane)
    cut, down, mixed, wide = quadratic(flat, lane)
    peak = item(flat, lane + PEAK) * amplitude
    below = UNKNOWNS * stride
    across = tile_columns() + item(flat, lane + ACROSS)
    for block in range(left, right, LANES):
        slope, constant = across * mixed, across * across * wide
        row = tile_rows() + item(flat, lane + DOWN)
        v0 = across * c[2, lane] + c[0, lane]
        v1 = across * c[5, lane] + c[3, lane]
        v2 = across * c[8, lane] + c[6, lane]
        w0 = (across * c[14, lane] + c[11, lane]) * across + c[9, lane]
        w1 = (across * c[20, lane] + c[17, lane]) * across + c[15, lane]
        w2 = (across * c[26, lane] + c[23, lane]) * across + c[21, lane]
        x0 = across * c[13, lane] + c[10, lane]
        x1 = across * c[19, lane] + c[16, lane]
        x2 = across * c[25, lane] + c[22, lane]
        for i in range(top, bottom, TILE_ROWS):
            e = gaussian_tile(constant, slope, down, row, cut) * peak
            here = i * below + block
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e * (v0 + row * c[1, lane]))
            here += stride
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e * (v1 + row * c[4, lane]))
            here += stride
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e * (v2 + row * c[7, lane]))
            here += stride
            w = w0 + (x0 + row * c[12, lane]) * row
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e * w)
            here += stride
            w = w1 + (x1 + row * c[18, lane]) * row
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e * w)
            here += stride
            w = w2 + (x2 + row * c[24, lane]) * row
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e * w)
            here += stride
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e)
            row = row + F32(TILE_ROWS)
        across = across + F32(LANES)


@jit(**INLINE)
def _round_coefficients(m, c, blur, level, su, sv, out):
    """Coefficients of eight round pairs, into `out` (5, 8): of di, dj, 1 by v, then what is left by w, of dj and di."""
    px, py, pz = 1.0 / (c[0] + blur[0]), 1.0 / (c[3] + blur[1]), 1.0 / (c[5] + blur[2])
    above = level - m[2]
    store8(out, 0, single(-su * px))
    store8(out, LANES, single(-sv * py))
    store8(out, 2 * LANES, single(-above * pz))
    store8(out, 3 * LANES, single(sv * ((pz - py) * above + level * py)))
    store8(out, 4 * LANES, single(su * ((px - pz) * above - level * px)))


@jit(**INLINE)
def _add_round_pair(flat, lane, amplitude, c, canvas, stride):
    """Add a round pair's image, its derivatives by v and what is left of those by w to the canvas."""
    top, bottom, left, right = window(flat, lane)
    cut, down, mixed, wide = quadratic(flat, lane)
    peak = item(flat, lane + PEAK) * amplitude
    below = UNKNOWNS * stride
    across = tile_columns() + item(flat, lane + ACROSS)
    for block in range(left, right, LANES):
        slope, constant = across * mixed, across * across * wide
        row = tile_rows() + item(flat, lane + DOWN)
        for i in range(top, bottom, TILE_ROWS):
            e = gaussian_tile(constant, slope, down, row, cut) * peak
            by_row, by_column = e * row, e * across
            here = i * below + block
            store_tile(canvas, here, below, load_tile(canvas, here, below) + by_row * c[0, lane])
            here += stride
            store_tile(canvas, here, below, load_tile(canvas, here, below) + by_column * c[1, lane])
            here += stride
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e * c[2, lane])
            here += stride
            store_tile(canvas, here, below, load_tile(canvas, here, below) + by_column * c[3, lane])
            here += stride
            store_tile(canvas, here, below, load_tile(canvas, here, below) + by_row * c[4, lane])
            here += 2 * stride
            store_tile(canvas, here, below, load_tile(canvas, here, below) + e)
            row = row + F32(TILE_ROWS)
        across = across + F32(LANES)


@jit(**INLINE)
def _add_window(pairs, lane, tables, rows, c, canvas, stride):
    """The same of a pair as `splat.cpu.separable` has it."""
    below = UNKNOWNS * stride
    exponents, column = load8(tables, EXPONENTS + lane * LANES), load8(tables, COLUMNS + lane * LANES)
    across, row = lane_numbers() + item(pairs, ACROSS + lane), item(pairs, DOWN + lane)
    here = int(item(pairs, CORNER + lane))
    for i in range(rows):
        e = column * row_of_window(tables, i, lane, exponents)
        by_row, by_column = e * row, e * across
        store8(canvas, here, load8(canvas, here) + by_row * c[0, lane])
        store8(canvas, here + stride, load8(canvas, here + stride) + by_column * c[1, lane])
        store8(canvas, here + 2 * stride, load8(canvas, here + 2 * stride) + e * c[2, lane])
        store8(canvas, here + 3 * stride, load8(canvas, here + 3 * stride) + by_column * c[3, lane])
        store8(canvas, here + 4 * stride, load8(canvas, here + 4 * stride) + by_row * c[4, lane])
        store8(canvas, here + 6 * stride, load8(canvas, here + 6 * stride) + e)
        here += below
        row = row + F32(1)


@jit(**INLINE)
def _complete(canvas, rows, columns, origin, su, sv):
    """Add to what is left of the derivatives by w those by v, with x as their lever."""
    stride = columns + LANES
    for i in range(rows):
        u = F32(origin[0] + i * su)
        for n in range(columns):
            v = F32(origin[1] + n * sv)
            here = i * UNKNOWNS * stride + n
            by_u, by_v, by_z = canvas[here], canvas[here + stride], canvas[here + 2 * stride]
            canvas[here + 3 * stride] += v * by_z
            canvas[here + 4 * stride] -= u * by_z
            canvas[here + 5 * stride] = u * by_v - v * by_u


@jit(**INLINE)
def _render(rendered, shape, s, flat, c, windows, tables, canvas):
    """Slice s for gain 1 and its derivatives with respect to v and w, the image last, plane by plane in every row.

    `rendered` is what `CpuForwardModel` has in place: Gaussians, views, the pairs of them, whether all Gaussians are
    round and all PSFs too, in plane, and if so how many rows their windows have, 0 where they are no windows. Pairs are
    projected here, eight at a time: poses that are tried out do not need them again.
    """
    (table, amplitude, rotation, shift, weight, blur, origin, step, cutoff, view_start, start, gaussian) = rendered[:12]
    simple, height = rendered[12:]
    rows, columns = shape[s, 0], shape[s, 1]
    stride = columns + LANES
    canvas[: (rows + LANES) * UNKNOWNS * stride] = F32(0)
    for v in range(view_start[s], view_start[s + 1]):
        su, sv = step[v, 0], step[v, 1]
        frame = (rotation[v], shift[v], weight[v], blur[v], origin[v], su, sv, rows, columns)
        for first in range(start[v], start[v + 1], LANES):
            m, covariance = project_eight(table, gaussian, first, *frame, cutoff, flat, 0)
            if simple:
                _round_coefficients(m, covariance, blur[v], origin[v, 2], su, sv, c)
            if simple and height[v]:
                separate(flat, F32(UNKNOWNS * stride), windows, 0)
                tabulate_windows(
                    windows, 0, load8(windows, PEAK) * gather8(amplitude, 0, gaussian, first), height[v], tables
                )
                for lane in range(LANES):
                    _add_window(windows, lane, tables, height[v], c, canvas, stride)
            elif simple:
                for lane in range(LANES):
                    _add_round_pair(flat, lane, amplitude[gaussian[first + lane], 0], c, canvas, stride)
            else:
                _polynomials(m, covariance, blur[v], origin[v, 2], su, sv, c)
                for lane in range(LANES):
                    _add_pair(flat, lane, amplitude[gaussian[first + lane], 0], c, canvas, stride)
    if simple:
        first_view = view_start[s]
        _complete(canvas, rows, columns, origin[first_view], step[first_view, 0], step[first_view, 1])


@jit(**JIT)
def pose_derivatives(rendered, shape, offset, out, part, parts):
    """Rendered pixels for gain 1 and their derivatives with respect to v and w: (7, P) float32, the image last."""
    canvas = np.empty(UNKNOWNS * padded(shape), np.float32)
    flat, c = np.empty((PAIR_FIELDS, LANES), np.float32), np.empty((COEFFICIENTS, LANES), np.float32)
    windows, tables = np.empty((SEPARABLE_FIELDS, LANES), np.float32), np.empty(TABLES, np.float32)
    begin, end = share(len(shape), part, parts)
    for s in range(begin, end):
        rows, columns = shape[s, 0], shape[s, 1]
        _render(rendered, shape, s, flat, c, windows, tables, canvas)
        for i in range(rows):
            for k in range(UNKNOWNS):
                for n in range(columns):
                    out[k, offset[s] + i * columns + n] = canvas[(i * UNKNOWNS + k) * (columns + LANES) + n]


@jit(**INLINE)
def _normal_equations(canvas, pixels, weights, gain, scale, rows, columns, sums):
    """Sums over a slice's pixels, into `sums` (42, 8): those of `pose_systems`, the Hessian's lower triangle first."""
    stride = columns + LANES
    per_scale = 1.0 / scale
    sums[:] = 0.0
    for i in range(rows):
        for block in range(0, columns, LANES):
            # Beyond the last column weights are zero.
            w, p = double(load8(weights, i * stride + block)), double(load8(pixels, i * stride + block))
            here = i * UNKNOWNS * stride + block
            d0 = double(load8(canvas, here)) * gain
            d1 = double(load8(canvas, here + stride)) * gain
            d2 = double(load8(canvas, here + 2 * stride)) * gain
            d3 = double(load8(canvas, here + 3 * stride)) * gain
            d4 = double(load8(canvas, here + 4 * stride)) * gain
            d5 = double(load8(canvas, here + 5 * stride)) * gain
            y = double(load8(canvas, here + 6 * stride))
            r = y * gain - p
            share = r * per_scale
            soft = 1.0 / (share * share + 1.0)
            robust = w * soft
            add8(sums, 35 * LANES, robust * r * r)
            robust = robust * soft
            place = 0
            d = (d0, d1, d2, d3, d4, d5, y)
            for k in range(UNKNOWNS):
                weighted = robust * d[k]
                add8(sums, (28 + k) * LANES, weighted * r)
                for n in range(k + 1):
                    add8(sums, place * LANES, weighted * d[n])
                    place += 1
            wy, wp = w * y, w * p
            add8(sums, 36 * LANES, w)
            add8(sums, 37 * LANES, wy)
            add8(sums, 38 * LANES, wp)
            add8(sums, 39 * LANES, wy * y)
            add8(sums, 40 * LANES, wp * p)
            add8(sums, 41 * LANES, wy * p)


@jit(**JIT)
def pose_systems(rendered, shape, offset, gain, pixels, weights, scale, hessian, gradient, cost, sums, part, parts):
    """Gauss-Newton systems of the robust misfit sum w r^2 / (1 + (r / scale)^2), r = gain * image - pixel.

    The weight of a pixel is that of Geman and McClure, w / (1 + (r / scale)^2)^2.

    Returns
    -------
    hessian : (S, 7, 7)
    gradient : (S, 7)
    cost : (S,)
    sums : (S, 6)
        Sums of w, w y, w p, w y^2, w p^2, w y p over image y and pixels p: all that a correlation needs.
    """
    room = padded(shape)
    canvas = np.empty(UNKNOWNS * room, np.float32)
    measured, weight = np.empty(room, np.float32), np.empty(room, np.float32)
    flat, c = np.empty((PAIR_FIELDS, LANES), np.float32), np.empty((COEFFICIENTS, LANES), np.float32)
    windows, tables = np.empty((SEPARABLE_FIELDS, LANES), np.float32), np.empty(TABLES, np.float32)
    lanes = np.empty((42, LANES))
    begin, end = share(len(shape), part, parts)
    for s in range(begin, end):
        rows, columns = shape[s, 0], shape[s, 1]
        _render(rendered, shape, s, flat, c, windows, tables, canvas)
        lay_out(pixels, measured, offset[s], rows, columns)
        lay_out(weights, weight, offset[s], rows, columns)
        _normal_equations(canvas, measured, weight, gain[s], scale[s], rows, columns, lanes)
        place = 0
        for k in range(UNKNOWNS):
            gradient[s, k] = sum_lanes(load8(lanes, (28 + k) * LANES))
            for n in range(k + 1):
                hessian[s, k, n] = hessian[s, n, k] = sum_lanes(load8(lanes, place * LANES))
                place += 1
        cost[s] = sum_lanes(load8(lanes, 35 * LANES))
        for k in range(6):
            sums[s, k] = sum_lanes(load8(lanes, (36 + k) * LANES))
