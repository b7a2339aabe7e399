"""Gauss-Newton systems of every slice's pose; the formulae are those of `slicesplat.splat.cpu.pose`."""

# Triton finds the types of what it compiles.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from slicesplat.splat.gpu.algebra import add, cross, inverse, load3, turned
from slicesplat.splat.gpu.project import gaussian_at
from slicesplat.splat.gpu.splat import tile_pixels
from slicesplat.splat.gpu.tabulate import in_slice


@triton.jit
def _store3(pointer, a, keep):
    tl.store(pointer, a[0].to(tl.float32), mask=keep)
    tl.store(pointer + 9, a[1].to(tl.float32), mask=keep)
    tl.store(pointer + 18, a[2].to(tl.float32), mask=keep)


@triton.jit
def pose_polynomials(
    means,
    covariances,
    rotations,
    translations,
    blurs,
    planes,
    grid,
    view_of,
    gaussian_of,
    out,
    pairs,
    COMPONENTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Derivatives of log f by a rigid step in the slice frame, in pixels : (Q, 3, 9).

    For each of three axes: coefficients of 1, di, dj for the shift; of 1, di, dj, di^2, di dj, dj^2 for the turn.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < pairs
    q = tl.minimum(lane, pairs - 1)
    view = tl.load(view_of + q)
    s = view // COMPONENTS
    m, c, _x, _y, _z = in_slice(means, covariances, rotations, translations, tl.load(gaussian_of + q), s)
    bx, by, bz = load3(blurs + 3 * view)
    su, sv = tl.load(grid + 4 * s + 2), tl.load(grid + 4 * s + 3)
    p = inverse(c[0] + bx, c[1], c[2], c[3] + by, c[4], c[5] + bz)
    # P d = g0 + di gu + dj gv, and M P d likewise.
    zero = m[2] * 0.0
    g0 = (zero, zero, (tl.load(planes + view) - m[2]) / (c[5] + bz))
    gu = (su * p[0], su * p[1], su * p[2])
    gv = (sv * p[1], sv * p[3], sv * p[4])
    h0, hu, hv = turned(c, g0), turned(c, gu), turned(c, gv)
    turn0, turn_u, turn_v = cross(m, g0), cross(m, gu), cross(m, gv)
    # 1/2 tr(P (M E_k - E_k M)) = tr(P M E_k): the antisymmetric part of P M.
    px, py, pz = turned(c, (p[0], p[1], p[2])), turned(c, (p[1], p[3], p[4])), turned(c, (p[2], p[4], p[5]))
    trace = (py[2] - pz[1], pz[0] - px[2], px[1] - py[0])
    one = cross(g0, h0)
    first_u = add(cross(g0, hu), cross(gu, h0))
    first_v = add(cross(g0, hv), cross(gv, h0))
    o = out + 27 * q
    _store3(o, (-g0[0], -g0[1], -g0[2]), keep)
    _store3(o + 1, (-gu[0], -gu[1], -gu[2]), keep)
    _store3(o + 2, (-gv[0], -gv[1], -gv[2]), keep)
    _store3(o + 3, (one[0] - turn0[0] - trace[0], one[1] - turn0[1] - trace[1], one[2] - turn0[2] - trace[2]), keep)
    _store3(o + 4, (first_u[0] - turn_u[0], first_u[1] - turn_u[1], first_u[2] - turn_u[2]), keep)
    _store3(o + 5, (first_v[0] - turn_v[0], first_v[1] - turn_v[1], first_v[2] - turn_v[2]), keep)
    _store3(o + 6, cross(gu, hu), keep)
    _store3(o + 7, add(cross(gu, hv), cross(gv, hu)), keep)
    _store3(o + 8, cross(gv, hv), keep)


@triton.jit
def _shift(c, di, dj):
    return tl.load(c) + tl.load(c + 1) * di + tl.load(c + 2) * dj


@triton.jit
def _turn(c, di, dj):
    return (
        tl.load(c + 3)
        + tl.load(c + 4) * di
        + tl.load(c + 5) * dj
        + (tl.load(c + 6) * di + tl.load(c + 7) * dj) * di
        + tl.load(c + 8) * dj * dj
    )


@triton.jit
def splat_poses(flat, peaks, polynomials, tiles, shape, entry_start, entries, out, pixels, TILE: tl.constexpr):
    """One tile of the image for gain 1 and of its derivatives by shifts and turns: (7, P), the image last."""
    t = tl.program_id(0)
    _s, i, k, pixel, inside = tile_pixels(tiles, shape, t, TILE)
    y = tl.zeros([TILE * TILE], tl.float32)
    v0, v1, v2, w0, w1, w2 = y, y, y, y, y, y
    for entry in range(tl.load(entry_start + t), tl.load(entry_start + t + 1)):
        q = tl.load(entries + entry)
        f = flat + 8 * q
        c = polynomials + 27 * q
        di, dj = i - tl.load(f + 1), k - tl.load(f + 2)
        e = tl.load(peaks + q) * gaussian_at(di, dj, f)
        v0 += e * _shift(c, di, dj)
        v1 += e * _shift(c + 9, di, dj)
        v2 += e * _shift(c + 18, di, dj)
        w0 += e * _turn(c, di, dj)
        w1 += e * _turn(c + 9, di, dj)
        w2 += e * _turn(c + 18, di, dj)
        y += e
    tl.store(out + pixel, v0, mask=inside)
    tl.store(out + pixels + pixel, v1, mask=inside)
    tl.store(out + 2 * pixels + pixel, v2, mask=inside)
    tl.store(out + 3 * pixels + pixel, w0, mask=inside)
    tl.store(out + 4 * pixels + pixel, w1, mask=inside)
    tl.store(out + 5 * pixels + pixel, w2, mask=inside)
    tl.store(out + 6 * pixels + pixel, y, mask=inside)


@triton.jit
def _residual(image, gain, pixels, weights, scale, n, inside):
    """Weight, image, pixel, residual, and the robust loss's factor 1 / (1 + (r / scale)^2); a weight of 0 hides all."""
    w = tl.load(weights + n, mask=inside, other=0.0).to(tl.float64)
    inside = w > 0
    w = tl.where(inside, w, 0.0)
    y = tl.load(image + n, mask=inside, other=0.0).to(tl.float64)
    p = tl.load(pixels + n, mask=inside, other=0.0).to(tl.float64)
    r = gain * y - p
    return w, y, p, r, 1.0 / (1.0 + (r / scale) * (r / scale))


@triton.jit
def normal_equations(derivatives, gains, pixels, weights, scales, shape, out, count, BLOCK: tl.constexpr):
    """A row of a slice's weighted products of (6 pose derivatives, image, residual): (S, 8, 8).

    The first 7 columns of rows 0 to 6 are the Gauss-Newton matrix, the last one its gradient.
    """
    s, row = tl.program_id(0), tl.program_id(1)
    rows, columns, first = load3(shape + 3 * s)
    gain, scale = tl.load(gains + s), tl.load(scales + s)
    unknown = tl.arange(0, 8)[:, None]
    total = tl.zeros([8, BLOCK], tl.float64)
    for begin in range(0, rows * columns, BLOCK):
        lane = begin + tl.arange(0, BLOCK)
        inside = lane < rows * columns
        n = first + lane
        w, y, _p, r, soft = _residual(derivatives + 6 * count, gain, pixels, weights, scale, n, inside)
        d = tl.load(derivatives + tl.minimum(unknown, 6) * count + n[None, :], mask=inside[None, :], other=0.0)
        d = tl.where(unknown < 6, gain * d.to(tl.float64), tl.where(unknown < 7, y[None, :], r[None, :]))
        mine = tl.sum(tl.where(unknown == row, d, 0.0), axis=0)
        total += d * mine[None, :] * (w * soft * soft)[None, :]
    tl.store(out + 64 * s + 8 * row + tl.arange(0, 8), tl.sum(total, axis=1))


@triton.jit
def misfit(image, gains, pixels, weights, scales, shape, out, BLOCK: tl.constexpr):
    """A slice's robust misfit, and its sums of w, w y, w p, w y^2, w p^2, w y p over the image y for gain 1: (S, 7)."""
    s = tl.program_id(0)
    rows, columns, first = load3(shape + 3 * s)
    gain, scale = tl.load(gains + s), tl.load(scales + s)
    cost = tl.zeros([BLOCK], tl.float64)
    sw, swy, swp, swyy, swpp, swyp = cost, cost, cost, cost, cost, cost
    for begin in range(0, rows * columns, BLOCK):
        lane = begin + tl.arange(0, BLOCK)
        inside = lane < rows * columns
        w, y, p, r, soft = _residual(image, gain, pixels, weights, scale, first + lane, inside)
        cost += w * r * r * soft
        sw += w
        swy += w * y
        swp += w * p
        swyy += w * y * y
        swpp += w * p * p
        swyp += w * y * p
    o = out + 7 * s
    tl.store(o, tl.sum(cost))
    tl.store(o + 1, tl.sum(sw))
    tl.store(o + 2, tl.sum(swy))
    tl.store(o + 3, tl.sum(swp))
    tl.store(o + 4, tl.sum(swyy))
    tl.store(o + 5, tl.sum(swpp))
    tl.store(o + 6, tl.sum(swyp))
