"""The forward model and its adjoint on a GPU: Triton, float32 pixels, float64 where a matrix is inverted once per pair.

The same steps as on the CPU (`splat.cpu.kernels`), each a gather: a tile of pixels walks its list of pairs, a pair
walks its box of pixels, a Gaussian walks its pairs, a slice sums its pairs. No atomics and every sum in a fixed order:
the same bits from run to run. Derivation of the formulas: docs/method.md, `splat.cpu.kernels` and `splat.cpu.pose`.
"""

# Triton finds the types of what it compiles.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from slicesplat.field.gaussians import rotation_matrices
from slicesplat.geometry.slices import Slices
from slicesplat.splat.model import LIST_MARGIN, MAX_CUTOFF, PoseSystems, Values

# A tile has as many pixels as two warps have lanes; a Gaussian's box is about as large.
TILE = 8
_PAIR_BLOCK = 16
_PIXEL_CHUNK = 32
_BLOCK = 128
_GAUSSIAN_BLOCK = 32
# Slices are compared with all Gaussians this many pairs at a time, to bound the memory that a new list takes.
_LIST_CHUNK = 2**20
# Numbers per pair: what a pixel needs, the box, gradients by the Gaussian, by the pose, and a pose's polynomials.
_FLAT, _WINDOW, _PAIR, _POSE, _COEFFICIENTS = 8, 4, 10, 16, 27
# Said outright, because Triton's own default differs between versions.
_OPTIONS = {"enable_fp_fusion": True}


@triton.jit
def _rotation(w, x, y, z):
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


@triton.jit
def _load3(pointer):
    return tl.load(pointer), tl.load(pointer + 1), tl.load(pointer + 2)


@triton.jit
def _turned(c, a):
    """The symmetric matrix c (xx, xy, xz, yy, yz, zz) times the vector a."""
    return (
        c[0] * a[0] + c[1] * a[1] + c[2] * a[2],
        c[1] * a[0] + c[3] * a[1] + c[4] * a[2],
        c[2] * a[0] + c[4] * a[1] + c[5] * a[2],
    )


@triton.jit
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton.jit
def _add(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@triton.jit
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@triton.jit
def _in_slice(means, covariances, rotations, translations, j, s):
    """Mean and covariance (xx, xy, xz, yy, yz, zz) of a Gaussian in the slice frame, and the frame's three axes."""
    x0, x1, x2 = _load3(means + 3 * j)
    t0, t1, t2 = _load3(translations + 3 * s)
    away = (x0 - t0, x1 - t1, x2 - t2)
    r00, r01, r02 = _load3(rotations + 9 * s)
    r10, r11, r12 = _load3(rotations + 9 * s + 3)
    r20, r21, r22 = _load3(rotations + 9 * s + 6)
    u = (r00, r10, r20)
    v = (r01, r11, r21)
    n = (r02, r12, r22)
    c0, c1, c2 = _load3(covariances + 7 * j)
    c3, c4, c5 = _load3(covariances + 7 * j + 3)
    cov = (c0, c1, c2, c3, c4, c5)
    cu, cv, cn = _turned(cov, u), _turned(cov, v), _turned(cov, n)
    m = (_dot(u, away), _dot(v, away), _dot(n, away))
    c = (_dot(u, cu), _dot(u, cv), _dot(u, cn), _dot(v, cv), _dot(v, cn), _dot(n, cn))
    return m, c, u, v, n


@triton.jit
def _inverse(xx, xy, xz, yy, yz, zz):
    """Inverse of a symmetric matrix, as six numbers."""
    pxx = yy * zz - yz * yz
    pxy = xz * yz - xy * zz
    pxz = xy * yz - xz * yy
    scale = 1.0 / (xx * pxx + xy * pxy + xz * pxz)
    pyy = xx * zz - xz * xz
    pyz = xy * xz - xx * yz
    pzz = xx * yy - xy * xy
    return scale * pxx, scale * pxy, scale * pxz, scale * pyy, scale * pyz, scale * pzz


@triton.jit
def _covariances(log_scales, quaternions, out, count, BLOCK: tl.constexpr):
    """Covariances xx, xy, xz, yy, yz, zz in mm^2, and their determinant: (N, 7)."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < count
    j = tl.minimum(lane, count - 1)
    w, x, y = _load3(quaternions + 4 * j)
    r = _rotation(w, x, y, tl.load(quaternions + 4 * j + 3))
    l0, l1, l2 = _load3(log_scales + 3 * j)
    a, b, c = tl.exp(2.0 * l0), tl.exp(2.0 * l1), tl.exp(2.0 * l2)
    o = out + 7 * j
    tl.store(o, a * r[0] * r[0] + b * r[1] * r[1] + c * r[2] * r[2], mask=keep)
    tl.store(o + 1, a * r[0] * r[3] + b * r[1] * r[4] + c * r[2] * r[5], mask=keep)
    tl.store(o + 2, a * r[0] * r[6] + b * r[1] * r[7] + c * r[2] * r[8], mask=keep)
    tl.store(o + 3, a * r[3] * r[3] + b * r[4] * r[4] + c * r[5] * r[5], mask=keep)
    tl.store(o + 4, a * r[3] * r[6] + b * r[4] * r[7] + c * r[5] * r[8], mask=keep)
    tl.store(o + 5, a * r[6] * r[6] + b * r[7] * r[7] + c * r[8] * r[8], mask=keep)
    tl.store(o + 6, a * b * c, mask=keep)


@triton.jit
def _project(
    means,
    covariances,
    rotations,
    translations,
    weights,
    blurs,
    planes,
    grid,
    shape,
    view_of,
    gaussian_of,
    flat,
    window,
    square_cutoff,
    pairs,
    COMPONENTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Every pair's 2-D Gaussian on its slice's pixel grid, and the box of pixels that it reaches.

    `flat`: peak for amplitude 1; centre row and column; quadratic exponent (rows^2, rows x columns, columns^2);
    exponent at the cut-off. `window`: first and last + 1 row, first and last + 1 column.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < pairs
    q = tl.minimum(lane, pairs - 1)
    v = tl.load(view_of + q)
    j = tl.load(gaussian_of + q)
    s = v // COMPONENTS
    m, c, _x, _y, _z = _in_slice(means, covariances, rotations, translations, j, s)
    bx, by, bz = _load3(blurs + 3 * v)
    su, sv = tl.load(grid + 4 * s + 2), tl.load(grid + 4 * s + 3)
    szz = c[5] + bz
    above = m[2] - tl.load(planes + v)
    square = above * above / szz
    room = square_cutoff - square
    cuu = c[0] + bx - c[2] * c[2] / szz
    cuv = c[1] - c[2] * c[4] / szz
    cvv = c[3] + by - c[4] * c[4] / szz
    det2 = cuu * cvv - cuv * cuv
    peak = tl.load(weights + v) * tl.sqrt(tl.load(covariances + 7 * j + 6) / (det2 * szz)) * tl.exp(-0.5 * square)
    row = (m[0] - c[2] * above / szz - tl.load(grid + 4 * s)) / su
    column = (m[1] - c[4] * above / szz - tl.load(grid + 4 * s + 1)) / sv
    f = flat + 8 * q
    tl.store(f, peak.to(tl.float32), mask=keep)
    tl.store(f + 1, row.to(tl.float32), mask=keep)
    tl.store(f + 2, column.to(tl.float32), mask=keep)
    tl.store(f + 3, (-0.5 * cvv / det2 * su * su).to(tl.float32), mask=keep)
    tl.store(f + 4, (cuv / det2 * su * sv).to(tl.float32), mask=keep)
    tl.store(f + 5, (-0.5 * cuu / det2 * sv * sv).to(tl.float32), mask=keep)
    tl.store(f + 6, (-0.5 * room).to(tl.float32), mask=keep)
    # A box without pixels where the plane lies beyond the cut-off. Bounds first: a far centre may exceed an integer.
    reach = tl.sqrt(tl.maximum(room, 0.0))
    rows, columns = tl.load(shape + 3 * s), tl.load(shape + 3 * s + 1)
    high, wide = reach * tl.sqrt(cuu) / su, reach * tl.sqrt(cvv) / sv
    top = tl.minimum(tl.maximum(tl.ceil(row - high), 0.0), rows.to(tl.float64)).to(tl.int32)
    left = tl.minimum(tl.maximum(tl.ceil(column - wide), 0.0), columns.to(tl.float64)).to(tl.int32)
    bottom = tl.minimum(tl.maximum(tl.floor(row + high) + 1, 0.0), rows.to(tl.float64)).to(tl.int32)
    right = tl.minimum(tl.maximum(tl.floor(column + wide) + 1, 0.0), columns.to(tl.float64)).to(tl.int32)
    bottom = tl.where(room > 0, bottom, top)
    tl.store(window + 4 * q, top, mask=keep)
    tl.store(window + 4 * q + 1, tl.maximum(bottom, top), mask=keep)
    tl.store(window + 4 * q + 2, left, mask=keep)
    tl.store(window + 4 * q + 3, tl.maximum(right, left), mask=keep)


@triton.jit
def _weight(row, column, f):
    """Exponential of the quadratic at distances (row, column) from the centre, in pixels; zero beyond the cut-off."""
    x = tl.load(f + 3) * row * row + tl.load(f + 4) * row * column + tl.load(f + 5) * column * column
    return tl.where(x >= tl.load(f + 6), tl.exp(x), 0.0)


@triton.jit
def _tile_pixels(tiles, shape, t, TILE: tl.constexpr):
    """The slice of a tile, the rows and columns of its pixels, their places among all pixels, and which exist."""
    s = tl.load(tiles + 3 * t)
    lane = tl.arange(0, TILE * TILE)
    i = tl.load(tiles + 3 * t + 1) + lane // TILE
    k = tl.load(tiles + 3 * t + 2) + lane % TILE
    rows, columns, first = _load3(shape + 3 * s)
    return s, i.to(tl.float32), k.to(tl.float32), first + i * columns + k, (i < rows) & (k < columns)


@triton.jit
def _splat(flat, peaks, gains, tiles, shape, entry_start, entries, out, TILE: tl.constexpr):
    """Simulated pixels of one tile: the sum of its pairs, in their order, times the slice's gain."""
    t = tl.program_id(0)
    s, i, k, pixel, inside = _tile_pixels(tiles, shape, t, TILE)
    total = tl.zeros([TILE * TILE], tl.float32)
    for entry in range(tl.load(entry_start + t), tl.load(entry_start + t + 1)):
        q = tl.load(entries + entry)
        f = flat + 8 * q
        total += tl.load(peaks + q) * _weight(i - tl.load(f + 1), k - tl.load(f + 2), f)
    tl.store(out + pixel, total * tl.load(gains + s), mask=inside)


@triton.jit
def _moments(
    flat,
    window,
    view_of,
    shape,
    upstream,
    out,
    pairs,
    COMPONENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Per pair, sums of h e (1, di, dj, di^2, di dj, dj^2) about its centre, in pixels: (Q, 6)."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < pairs
    q = tl.minimum(lane, pairs - 1)[:, None]
    s = tl.load(view_of + q) // COMPONENTS
    columns, first = tl.load(shape + 3 * s + 1), tl.load(shape + 3 * s + 2)
    top, bottom = tl.load(window + 4 * q), tl.load(window + 4 * q + 1)
    left, right = tl.load(window + 4 * q + 2), tl.load(window + 4 * q + 3)
    width = tl.maximum(right - left, 1)
    area = (bottom - top) * (right - left)
    f = flat + 8 * q
    row, column = tl.load(f + 1), tl.load(f + 2)
    m0 = tl.zeros([BLOCK, CHUNK], tl.float32)
    mi = tl.zeros([BLOCK, CHUNK], tl.float32)
    mj = tl.zeros([BLOCK, CHUNK], tl.float32)
    mii = tl.zeros([BLOCK, CHUNK], tl.float32)
    mij = tl.zeros([BLOCK, CHUNK], tl.float32)
    mjj = tl.zeros([BLOCK, CHUNK], tl.float32)
    for begin in range(0, tl.max(area), CHUNK):
        n = begin + tl.arange(0, CHUNK)[None, :]
        i = top + n // width
        k = left + n % width
        h = tl.load(upstream + first + i * columns + k, mask=n < area, other=0.0)
        di, dj = i.to(tl.float32) - row, k.to(tl.float32) - column
        he = h * _weight(di, dj, f)
        m0 += he
        mi += he * di
        mj += he * dj
        mii += he * di * di
        mij += he * di * dj
        mjj += he * dj * dj
    o = out + 6 * tl.minimum(lane, pairs - 1)
    tl.store(o, tl.sum(m0, axis=1), mask=keep)
    tl.store(o + 1, tl.sum(mi, axis=1), mask=keep)
    tl.store(o + 2, tl.sum(mj, axis=1), mask=keep)
    tl.store(o + 3, tl.sum(mii, axis=1), mask=keep)
    tl.store(o + 4, tl.sum(mij, axis=1), mask=keep)
    tl.store(o + 5, tl.sum(mjj, axis=1), mask=keep)


@triton.jit
def _chain_pairs(
    means,
    covariances,
    rotations,
    translations,
    blurs,
    planes,
    grid,
    view_of,
    gaussian_of,
    flat,
    moments,
    amplitudes,
    gains,
    pair,
    pose,
    pairs,
    COMPONENTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """From six moments to gradients, pair by pair.

    `pair`: d/d mean (3), d/d covariance (xx, xy, xz, yy, yz, zz, the off-diagonal ones counted once), d/d amplitude.
    `pose`: in the slice frame, m gm' + 2 M gS' (9), -gm (3), and d/d gain.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < pairs
    q = tl.minimum(lane, pairs - 1)
    view = tl.load(view_of + q)
    j = tl.load(gaussian_of + q)
    s = view // COMPONENTS
    m, c, u, v, n = _in_slice(means, covariances, rotations, translations, j, s)
    bx, by, bz = _load3(blurs + 3 * view)
    su, sv = tl.load(grid + 4 * s + 2), tl.load(grid + 4 * s + 3)
    szz = c[5] + bz
    p = _inverse(c[0] + bx, c[1], c[2], c[3] + by, c[4], szz)
    # The moments are about the conditional mean; those of docs/method.md are about the mean itself.
    peak = tl.load(flat + 8 * q).to(tl.float64)
    # The plane is not where the frame turns: m, which is, stays the lever of the rotation.
    z = tl.load(planes + view) - m[2]
    du, dv = c[2] / szz * z, c[4] / szz * z
    h0, hi, hj = _load3(moments + 6 * q)
    hii, hij, hjj = _load3(moments + 6 * q + 3)
    m0 = peak * h0
    ru, rv = peak * su * hi, peak * sv * hj
    muu = peak * su * su * hii + 2 * du * ru + du * du * m0
    muv = peak * su * sv * hij + du * rv + dv * ru + du * dv * m0
    mvv = peak * sv * sv * hjj + 2 * dv * rv + dv * dv * m0
    mu, mv, mz = ru + du * m0, rv + dv * m0, z * m0
    amplitude, gain = tl.load(amplitudes + j), tl.load(gains + s)
    a = amplitude * gain
    g = _turned(p, (a * mu, a * mv, a * mz))
    # dL/dS' = a/2 (P M2 P - M0 P), column by column of P.
    second = (muu, muv, z * mu, mvv, z * mv, z * mz)
    px, py, pz = (p[0], p[1], p[2]), (p[1], p[3], p[4]), (p[2], p[4], p[5])
    hx, hy, hz = _turned(second, px), _turned(second, py), _turned(second, pz)
    half = 0.5 * a
    gxx, gxy, gxz = (
        half * (_dot(px, hx) - m0 * p[0]),
        half * (_dot(px, hy) - m0 * p[1]),
        half * (_dot(px, hz) - m0 * p[2]),
    )
    gyy, gyz, gzz = (
        half * (_dot(py, hy) - m0 * p[3]),
        half * (_dot(py, hz) - m0 * p[4]),
        half * (_dot(pz, hz) - m0 * p[5]),
    )
    gs = (gxx, gxy, gxz, gyy, gyz, gzz)
    # Rows of the frame's matrix: a gradient in the slice frame becomes one in the world.
    r0, r1, r2 = (u[0], v[0], n[0]), (u[1], v[1], n[1]), (u[2], v[2], n[2])
    w0, w1, w2 = _turned(gs, r0), _turned(gs, r1), _turned(gs, r2)
    o = pair + 10 * q
    tl.store(o, _dot(r0, g).to(tl.float32), mask=keep)
    tl.store(o + 1, _dot(r1, g).to(tl.float32), mask=keep)
    tl.store(o + 2, _dot(r2, g).to(tl.float32), mask=keep)
    tl.store(o + 3, _dot(r0, w0).to(tl.float32), mask=keep)
    tl.store(o + 4, _dot(r0, w1).to(tl.float32), mask=keep)
    tl.store(o + 5, _dot(r0, w2).to(tl.float32), mask=keep)
    tl.store(o + 6, _dot(r1, w1).to(tl.float32), mask=keep)
    tl.store(o + 7, _dot(r1, w2).to(tl.float32), mask=keep)
    tl.store(o + 8, _dot(r2, w2).to(tl.float32), mask=keep)
    tl.store(o + 9, (gain * m0).to(tl.float32), mask=keep)
    kx = _turned(c, (gxx, gxy, gxz))
    ky = _turned(c, (gxy, gyy, gyz))
    kz = _turned(c, (gxz, gyz, gzz))
    o = pose + 16 * q
    tl.store(o, m[0] * g[0] + 2 * kx[0], mask=keep)
    tl.store(o + 1, m[0] * g[1] + 2 * ky[0], mask=keep)
    tl.store(o + 2, m[0] * g[2] + 2 * kz[0], mask=keep)
    tl.store(o + 3, m[1] * g[0] + 2 * kx[1], mask=keep)
    tl.store(o + 4, m[1] * g[1] + 2 * ky[1], mask=keep)
    tl.store(o + 5, m[1] * g[2] + 2 * kz[1], mask=keep)
    tl.store(o + 6, m[2] * g[0] + 2 * kx[2], mask=keep)
    tl.store(o + 7, m[2] * g[1] + 2 * ky[2], mask=keep)
    tl.store(o + 8, m[2] * g[2] + 2 * kz[2], mask=keep)
    tl.store(o + 9, -g[0], mask=keep)
    tl.store(o + 10, -g[1], mask=keep)
    tl.store(o + 11, -g[2], mask=keep)
    tl.store(o + 12, amplitude * m0, mask=keep)


@triton.jit
def _sum_poses(pose, slice_start, out, BLOCK: tl.constexpr):
    """The sum of a slice's pairs, which lie together: (S, 16)."""
    s = tl.program_id(0)
    column = tl.arange(0, 16)[None, :]
    total = tl.zeros([BLOCK, 16], tl.float64)
    end = tl.load(slice_start + s + 1)
    for begin in range(tl.load(slice_start + s), end, BLOCK):
        q = begin + tl.arange(0, BLOCK)[:, None]
        total += tl.load(pose + 16 * q + column, mask=(q < end) & (column < 13), other=0.0)
    tl.store(out + 16 * s + tl.arange(0, 16), tl.sum(total, axis=0))


@triton.jit
def _sum_pairs(values, stride, start, pair_of, out, count, BLOCK: tl.constexpr):
    """Sum over the pairs of every Gaussian, in their order: (N, columns), one column per program of the second axis."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1)
    keep = lane < count
    begin = tl.load(start + lane, mask=keep, other=0)
    pairs = tl.load(start + lane + 1, mask=keep, other=0) - begin
    total = tl.zeros([BLOCK], tl.float64)
    for step in range(0, tl.max(pairs)):
        present = step < pairs
        q = tl.load(pair_of + begin + step, mask=present, other=0)
        total += tl.load(values + stride * q + column, mask=present, other=0.0).to(tl.float64)
    tl.store(out + stride * lane + column, total, mask=keep)


@triton.jit
def _chain_gaussians(log_scales, quaternions, amplitudes, summed, out, count, BLOCK: tl.constexpr):
    """From sums over pairs to a Gaussian's parameters: (N, 11), mean, log scales, quaternion, amplitude."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < count
    j = tl.minimum(lane, count - 1)
    w, x, y = _load3(quaternions + 4 * j)
    z = tl.load(quaternions + 4 * j + 3)
    length = tl.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    r = _rotation(w, x, y, z)
    t0, t1, t2 = _load3(summed + 10 * j)
    gxx, gxy, gxz = _load3(summed + 10 * j + 3)
    gyy, gyz, gzz = _load3(summed + 10 * j + 6)
    level = tl.load(summed + 10 * j + 9)
    gs = (gxx, gxy, gxz, gyy, gyz, gzz)
    l0, l1, l2 = _load3(log_scales + 3 * j)
    a, b, c = 2 * tl.exp(2.0 * l0), 2 * tl.exp(2.0 * l1), 2 * tl.exp(2.0 * l2)
    # The axes, and dL/dR = 2 G R diag(exp(2 l)) column by column.
    ra, rb, rc = (r[0], r[3], r[6]), (r[1], r[4], r[7]), (r[2], r[5], r[8])
    ga, gb, gc = _turned(gs, ra), _turned(gs, rb), _turned(gs, rc)
    d00, d10, d20 = a * ga[0], a * ga[1], a * ga[2]
    d01, d11, d21 = b * gb[0], b * gb[1], b * gb[2]
    d02, d12, d22 = c * gc[0], c * gc[1], c * gc[2]
    qw = 2 * (-z * d01 + y * d02 + z * d10 - x * d12 - y * d20 + x * d21)
    qx = 2 * (y * d01 + z * d02 + y * d10 - 2 * x * d11 - w * d12 + z * d20 + w * d21 - 2 * x * d22)
    qy = 2 * (-2 * y * d00 + x * d01 + w * d02 + x * d10 + z * d12 - w * d20 + z * d21 - 2 * y * d22)
    qz = 2 * (-2 * z * d00 - w * d01 + x * d02 + w * d10 - 2 * z * d11 + y * d12 + x * d20 + y * d21)
    along = w * qw + x * qx + y * qy + z * qz
    # Scales act through the covariance, and directly: |S| = exp(2 sum l) stands under the root of the amplitude.
    direct = tl.load(amplitudes + j) * level
    o = out + 11 * j
    tl.store(o, t0.to(tl.float32), mask=keep)
    tl.store(o + 1, t1.to(tl.float32), mask=keep)
    tl.store(o + 2, t2.to(tl.float32), mask=keep)
    tl.store(o + 3, (a * _dot(ra, ga) + direct).to(tl.float32), mask=keep)
    tl.store(o + 4, (b * _dot(rb, gb) + direct).to(tl.float32), mask=keep)
    tl.store(o + 5, (c * _dot(rc, gc) + direct).to(tl.float32), mask=keep)
    tl.store(o + 6, ((qw - w * along) / length).to(tl.float32), mask=keep)
    tl.store(o + 7, ((qx - x * along) / length).to(tl.float32), mask=keep)
    tl.store(o + 8, ((qy - y * along) / length).to(tl.float32), mask=keep)
    tl.store(o + 9, ((qz - z * along) / length).to(tl.float32), mask=keep)
    tl.store(o + 10, level.to(tl.float32), mask=keep)


@triton.jit
def _store3(pointer, a, keep):
    tl.store(pointer, a[0].to(tl.float32), mask=keep)
    tl.store(pointer + 9, a[1].to(tl.float32), mask=keep)
    tl.store(pointer + 18, a[2].to(tl.float32), mask=keep)


@triton.jit
def _polynomials(
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
    """Derivatives of log f by a rigid step in the slice frame, in pixels (`splat.cpu.pose`): (Q, 3, 9).

    For each of three axes: coefficients of 1, di, dj for the shift; of 1, di, dj, di^2, di dj, dj^2 for the turn.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < pairs
    q = tl.minimum(lane, pairs - 1)
    view = tl.load(view_of + q)
    s = view // COMPONENTS
    m, c, _x, _y, _z = _in_slice(means, covariances, rotations, translations, tl.load(gaussian_of + q), s)
    bx, by, bz = _load3(blurs + 3 * view)
    su, sv = tl.load(grid + 4 * s + 2), tl.load(grid + 4 * s + 3)
    p = _inverse(c[0] + bx, c[1], c[2], c[3] + by, c[4], c[5] + bz)
    # P d = g0 + di gu + dj gv, and M P d likewise.
    zero = m[2] * 0.0
    g0 = (zero, zero, (tl.load(planes + view) - m[2]) / (c[5] + bz))
    gu = (su * p[0], su * p[1], su * p[2])
    gv = (sv * p[1], sv * p[3], sv * p[4])
    h0, hu, hv = _turned(c, g0), _turned(c, gu), _turned(c, gv)
    turn0, turn_u, turn_v = _cross(m, g0), _cross(m, gu), _cross(m, gv)
    # 1/2 tr(P (M E_k - E_k M)) = tr(P M E_k): the antisymmetric part of P M.
    px, py, pz = _turned(c, (p[0], p[1], p[2])), _turned(c, (p[1], p[3], p[4])), _turned(c, (p[2], p[4], p[5]))
    trace = (py[2] - pz[1], pz[0] - px[2], px[1] - py[0])
    one = _cross(g0, h0)
    first_u = _add(_cross(g0, hu), _cross(gu, h0))
    first_v = _add(_cross(g0, hv), _cross(gv, h0))
    o = out + 27 * q
    _store3(o, (-g0[0], -g0[1], -g0[2]), keep)
    _store3(o + 1, (-gu[0], -gu[1], -gu[2]), keep)
    _store3(o + 2, (-gv[0], -gv[1], -gv[2]), keep)
    _store3(o + 3, (one[0] - turn0[0] - trace[0], one[1] - turn0[1] - trace[1], one[2] - turn0[2] - trace[2]), keep)
    _store3(o + 4, (first_u[0] - turn_u[0], first_u[1] - turn_u[1], first_u[2] - turn_u[2]), keep)
    _store3(o + 5, (first_v[0] - turn_v[0], first_v[1] - turn_v[1], first_v[2] - turn_v[2]), keep)
    _store3(o + 6, _cross(gu, hu), keep)
    _store3(o + 7, _add(_cross(gu, hv), _cross(gv, hu)), keep)
    _store3(o + 8, _cross(gv, hv), keep)


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
def _splat_poses(flat, peaks, polynomials, tiles, shape, entry_start, entries, out, pixels, TILE: tl.constexpr):
    """One tile of the image for gain 1 and of its derivatives by shifts and turns: (7, P), the image last."""
    t = tl.program_id(0)
    _s, i, k, pixel, inside = _tile_pixels(tiles, shape, t, TILE)
    y = tl.zeros([TILE * TILE], tl.float32)
    v0, v1, v2, w0, w1, w2 = y, y, y, y, y, y
    for entry in range(tl.load(entry_start + t), tl.load(entry_start + t + 1)):
        q = tl.load(entries + entry)
        f = flat + 8 * q
        c = polynomials + 27 * q
        di, dj = i - tl.load(f + 1), k - tl.load(f + 2)
        e = tl.load(peaks + q) * _weight(di, dj, f)
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
def _normal_equations(derivatives, gains, pixels, weights, scales, shape, out, count, BLOCK: tl.constexpr):
    """A row of a slice's weighted products of (6 pose derivatives, image, residual): (S, 8, 8).

    The first 7 columns of rows 0 to 6 are the Gauss-Newton matrix, the last one its gradient.
    """
    s, row = tl.program_id(0), tl.program_id(1)
    rows, columns, first = _load3(shape + 3 * s)
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
def _misfit(derivatives, gains, pixels, weights, scales, shape, out, count, BLOCK: tl.constexpr):
    """A slice's robust misfit, and its sums of w, w y, w p, w y^2, w p^2, w y p: (S, 7)."""
    s = tl.program_id(0)
    rows, columns, first = _load3(shape + 3 * s)
    gain, scale = tl.load(gains + s), tl.load(scales + s)
    cost = tl.zeros([BLOCK], tl.float64)
    sw, swy, swp, swyy, swpp, swyp = cost, cost, cost, cost, cost, cost
    for begin in range(0, rows * columns, BLOCK):
        lane = begin + tl.arange(0, BLOCK)
        inside = lane < rows * columns
        w, y, p, r, soft = _residual(derivatives + 6 * count, gain, pixels, weights, scale, first + lane, inside)
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


@dataclass(eq=False)
class _Pairs:
    """Which Gaussians touch which views and tiles, and where all were when that was found out."""

    view: Tensor  # (Q,) int32, ascending
    gaussian: Tensor  # (Q,) int32, ascending within a view
    slice_start: Tensor  # (S + 1,) into the pairs
    gaussian_start: Tensor  # (N + 1,) into pair_of
    pair_of: Tensor  # (Q,)
    entry_start: Tensor  # (T + 1,) into entry
    entry: Tensor  # pairs of each tile, ascending
    mean: Tensor
    cov: Tensor
    rotation: Tensor
    translation: Tensor


class GpuForwardModel:
    """The forward model of a set of slices, its adjoint and its derivatives, as on the CPU, on tensors of a device.

    Returns tensors on `device`; takes those, and others and arrays, which it copies there. Given tensors on the device,
    nothing waits for it except `place` when it has to decide whether the list of pairs still holds, and the making of a
    new list.

    Parameters
    ----------
    slices : Slices
        Geometry of the images; poses are given with every call of `place`.
    cutoff : float
        Mahalanobis distance beyond which a Gaussian does not reach a pixel; at most 5.
    device : str or torch.device
        A CUDA device; "cpu" with Triton's interpreter only, to test the kernels.
    margin : float
        How much too generous a list of pairs is, mm: how far things may move before it has to be made anew.
    """

    def __init__(
        self,
        slices: Slices,
        cutoff: float = 3.0,
        device: str | torch.device = "cuda",
        margin: float = LIST_MARGIN,
    ) -> None:
        if not 0 < cutoff <= MAX_CUTOFF:
            raise ValueError(f"cutoff {cutoff} is not in (0, {MAX_CUTOFF}]")
        self.cutoff = float(cutoff)
        self.device = torch.device(device)
        self.backend = "interpreter" if self.device.type == "cpu" else self.device.type
        self.margin = float(margin)
        self.components = int(slices.psf_weights.shape[1])
        self.slices = len(slices)
        self.pixels = int(slices.offset[-1])
        self.placements = 0
        self._weight = self._constant(slices.psf_weights.reshape(-1), torch.float64)
        self._blur = self._constant(slices.psf_covariances.reshape(-1, 3), torch.float64)
        # Where a component of the PSF has its centre: the plane of a view.
        self._plane = self._constant(slices.psf_offsets.reshape(-1), torch.float64)
        self._narrowest = float(slices.psf_covariances.min(initial=np.inf))
        self._grid = self._constant(np.concatenate([slices.origin, slices.step], axis=1), torch.float64)
        self._shape = self._constant(
            np.concatenate([slices.shape, slices.offset[:-1, None]], axis=1).astype(np.int64), torch.int32
        )
        far = slices.origin + (slices.shape - 1) * slices.step
        through = np.abs(slices.psf_offsets).max(axis=1, initial=0.0)
        self.radius = float(np.hypot(np.linalg.norm(far, axis=1), through).max(initial=0.0))
        across = -(-slices.shape.astype(np.int64) // TILE)  # (S, 2) tiles along rows and columns
        first = np.concatenate([[0], np.cumsum(across.prod(axis=1))])
        tiles = [(s, TILE * i, TILE * k) for s, (a, b) in enumerate(across) for i in range(a) for k in range(b)]
        self._tiles = self._constant(np.array(tiles).reshape(-1, 3), torch.int32)
        self._tile_columns = self._constant(across[:, 1], torch.int64)
        self._first_tile = self._constant(first, torch.int64)
        # A covariance is six numbers; those off the diagonal stand in the matrix twice.
        self._twice = self._constant(np.array([1, 2, 2, 1, 2, 1]), torch.float64)
        self._pairs: _Pairs | None = None

    def free_scratch(self) -> None:
        """As `CpuForwardModel.rest`, in name only: graphs that were captured hold on to where everything is."""

    def _constant(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values)).to(self.device, dtype)

    def _empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def _float(self, values: Values, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.as_tensor(values).detach().to(self.device, dtype).contiguous()

    @property
    def pairs(self) -> int:
        """Number of (view, Gaussian) pairs of the last `place`."""
        return 0 if self._pairs is None else len(self._pairs.gaussian)

    @property
    def _placed(self) -> _Pairs:
        if self._pairs is None:
            raise RuntimeError("no Gaussians are in place: call place first")
        return self._pairs

    def set_geometry(
        self,
        means: Values,  # (N, 3) mm
        log_scales: Values,  # (N, 3)
        quaternions: Values,  # (N, 4)
        rotations: Values,  # (S, 3, 3)
        translations: Values,  # (S, 3) mm
        rebuild: bool | None = None,
    ) -> None:
        """Set the Gaussians' shapes and the slices' poses; everything after refers to them.

        Parameters
        ----------
        rebuild : bool, optional
            Whether to make a new list of pairs. By default when something has moved too far, which waits for the
            device. False keeps the list and waits for nothing, as a CUDA graph needs: the caller compares `moved` with
            `margin` every few iterations, and calls with True when it comes close.

        Raises
        ------
        ValueError
            The list is to be kept, and there is none for this number of Gaussians.
        """
        self.placements += 1
        # Copies: an optimiser changes its parameters in place.
        self._mean, self._log_scales, self._quaternions, self._rotation, self._translation = (
            self._float(t).clone() for t in (means, log_scales, quaternions, rotations, translations)
        )
        self._cov = self._empty(len(self._mean), 7, dtype=torch.float64)
        n = len(self._mean)
        self._run(_covariances, n, self._log_scales, self._quaternions, self._cov, n, BLOCK=_BLOCK)
        listed = self._pairs is not None and len(self._pairs.mean) == n
        if rebuild is False and not listed:
            raise ValueError(f"no list of pairs for {n} Gaussians to keep: place them with rebuild=True")
        if rebuild or not listed or (rebuild is None and bool(self.moved() > self.margin)):
            self._pairs = self._list_pairs()
        self._flat = self._empty(self.pairs, _FLAT)
        self._window = self._empty(self.pairs, _WINDOW, dtype=torch.int32)
        self._run_pairs(
            *(_project, self._mean, self._cov, self._rotation, self._translation, self._weight, self._blur),
            *(
                self._plane,
                self._grid,
                self._shape,
                self._placed.view,
                self._placed.gaussian,
                self._flat,
                self._window,
                self.cutoff**2,
            ),
        )

    def moved(self) -> Tensor:
        """A bound, mm, on how far anything has moved or grown since the list was made; 0-d, on the device.

        Growth: |sqrt(a) - sqrt(b)| <= |a - b| / (2 sqrt(blur)) for variances a, b of at least `blur`.
        """
        listed = self._placed
        bound = torch.zeros((), dtype=torch.float64, device=self.device)
        if len(self._mean):
            shift = (self._mean - listed.mean).norm(dim=1)
            change = ((self._cov - listed.cov)[:, :6].square() * self._twice).sum(dim=1)
            bound = bound + (shift + self.cutoff * (change / self._narrowest).sqrt() / 2).max()
        if self.slices:
            turn = (self._rotation - listed.rotation).flatten(1).norm(dim=1)
            bound = bound + ((self._translation - listed.translation).norm(dim=1) + turn * self.radius).max()
        return bound

    def apply(self, amplitudes: Values, gains: Values) -> Tensor:
        """Simulated pixels (P,) float32 for amplitudes (N,) and gains (S,)."""
        out = self._empty(self.pixels)
        self._run_tiles(_splat, self._flat, self._peaks(amplitudes), self._float(gains, torch.float32), out=(out,))
        return out

    def adjoint(self, upstream: Values, gains: Values) -> Tensor:
        """The transpose of `splat` as a linear map of the amplitudes: (P,) to (N,) float32."""
        slice_of = torch.div(self._placed.view, self.components, rounding_mode="floor")
        level = self._moments(upstream)[:, 0] * self._flat[:, 0] * self._float(gains, torch.float32)[slice_of]
        return self._sum_pairs(level[:, None].contiguous())[:, 0].float()

    def vjp(self, upstream: Values, amplitudes: Values, gains: Values) -> tuple[Tensor, Tensor]:
        """Gradients of a loss whose gradient at the pixels is `upstream`.

        Returns
        -------
        gaussians : (N, 11) float32
            Means, log scales, quaternions, amplitudes.
        poses : (S, 13) float64
            Rotation matrices row by row, translations, gains.
        """
        amplitudes, gains = self._float(amplitudes), self._float(gains)
        pair, pose = self._empty(self.pairs, _PAIR), self._empty(self.pairs, _POSE, dtype=torch.float64)
        self._run_pairs(
            *(_chain_pairs, self._mean, self._cov, self._rotation, self._translation, self._blur),
            *(
                self._plane,
                self._grid,
                self._placed.view,
                self._placed.gaussian,
                self._flat,
                self._moments(upstream),
                amplitudes,
                gains,
            ),
            *(pair, pose),
        )
        gaussians = self._empty(len(self._mean), 11)
        self._run(
            *(_chain_gaussians, len(self._mean), self._log_scales, self._quaternions, amplitudes),
            *(self._sum_pairs(pair), gaussians, len(self._mean)),
            BLOCK=_BLOCK,
        )
        summed = self._empty(self.slices, _POSE, dtype=torch.float64)
        if self.slices:
            _sum_poses[(self.slices,)](pose, self._placed.slice_start, summed, BLOCK=_BLOCK, **_OPTIONS)
        turned = self._rotation @ torch.cat([summed[:, :9].reshape(-1, 3, 3), summed[:, 9:12, None]], dim=2)
        return gaussians, torch.cat([turned[:, :, :3].flatten(1), turned[:, :, 3], summed[:, 12:13]], dim=1)

    def pose_jacobian(self, amplitudes: Values) -> Tensor:
        """Images for gain 1 and their derivatives by the slices' poses: (7, P) float32.

        The first six are by a step v (mm), w (rad) in the slice's own frame, R -> R exp([w]x), t -> t + R v; the last
        one is the image.
        """
        polynomials = self._empty(self.pairs, _COEFFICIENTS)
        self._run_pairs(
            *(_polynomials, self._mean, self._cov, self._rotation, self._translation, self._blur),
            *(self._plane, self._grid, self._placed.view, self._placed.gaussian, polynomials),
        )
        out = self._empty(7, self.pixels)
        self._run_tiles(_splat_poses, self._flat, self._peaks(amplitudes), polynomials, out=(out, self.pixels))
        return out

    def pose_normal_equations(
        self,
        amplitudes: Values,
        gains: Values,
        pixels: Values,
        weights: Values,
        scale: Values,
    ) -> PoseSystems:
        """Gauss-Newton system of every slice in its pose and gain."""
        given = (
            *(self.pose_jacobian(amplitudes), self._float(gains), self._float(pixels, torch.float32)),
            *(self._float(weights, torch.float32), self._float(scale), self._shape),
        )
        system = self._empty(self.slices, 8, 8, dtype=torch.float64)
        sums = self._empty(self.slices, 7, dtype=torch.float64)
        if self.slices:
            _normal_equations[(self.slices, 7)](*given, system, self.pixels, BLOCK=_BLOCK, **_OPTIONS)
            _misfit[(self.slices,)](*given, sums, self.pixels, BLOCK=_BLOCK, **_OPTIONS)
        return PoseSystems(system[:, :7, :7], system[:, :7, 7], sums[:, 0], sums[:, 1:])

    def _run(self, kernel: Any, count: int, *arguments: Any, BLOCK: int) -> None:
        """One lane per item; a launch without programs is an error on a device."""
        if count:
            kernel[(triton.cdiv(count, BLOCK),)](*arguments, BLOCK=BLOCK, **_OPTIONS)

    def _run_pairs(self, kernel: Any, *arguments: Any) -> None:
        if self.pairs:
            grid = (triton.cdiv(self.pairs, _BLOCK),)
            kernel[grid](*arguments, self.pairs, COMPONENTS=self.components, BLOCK=_BLOCK, **_OPTIONS)

    def _run_tiles(self, kernel: Any, *arguments: Any, out: tuple[Any, ...]) -> None:
        if len(self._tiles):
            lists = (self._tiles, self._shape, self._placed.entry_start, self._placed.entry)
            kernel[(len(self._tiles),)](*arguments, *lists, *out, TILE=TILE, num_warps=TILE * TILE // 32, **_OPTIONS)

    def _peaks(self, amplitudes: Values) -> Tensor:
        """What every pair adds at its centre: (Q,) float32."""
        return self._flat[:, 0] * self._float(amplitudes, torch.float32)[self._placed.gaussian]

    def _moments(self, upstream: Values) -> Tensor:
        out = self._empty(self.pairs, 6)
        if self.pairs:
            _moments[(triton.cdiv(self.pairs, _PAIR_BLOCK),)](
                *(self._flat, self._window, self._placed.view, self._shape, self._float(upstream, torch.float32), out),
                self.pairs,
                COMPONENTS=self.components,
                BLOCK=_PAIR_BLOCK,
                CHUNK=_PIXEL_CHUNK,
                **_OPTIONS,
            )
        return out

    def _sum_pairs(self, values: Tensor) -> Tensor:
        """Sums over the pairs of every Gaussian: (Q, columns) to (N, columns) float64."""
        n, columns = len(self._mean), values.shape[1]
        out = self._empty(n, columns, dtype=torch.float64)
        if n:
            lists = (self._placed.gaussian_start, self._placed.pair_of)
            grid = (triton.cdiv(n, _GAUSSIAN_BLOCK), columns)
            _sum_pairs[grid](values, columns, *lists, out, n, BLOCK=_GAUSSIAN_BLOCK, num_warps=1, **_OPTIONS)
        return out

    def _list_pairs(self) -> _Pairs:
        """Every view's Gaussians and every tile's pairs, too generous by the margin."""
        n = len(self._mean)
        chunk = max(1, _LIST_CHUNK // max(1, n * self.components))
        found = [self._touching(torch.arange(s, min(s + chunk, self.slices))) for s in range(0, self.slices, chunk)]
        nothing = [torch.zeros(0, 6, dtype=torch.int64, device=self.device)]
        view, gaussian, top, bottom, left, right = torch.cat(found or nothing).unbind(1)
        s = torch.div(view, self.components, rounding_mode="floor")
        height, width = bottom - top + 1, right - left + 1
        counts = height * width
        pair = torch.repeat_interleave(counts)
        place = torch.arange(len(pair), device=self.device) - (counts.cumsum(0) - counts)[pair]
        row = top[pair] + torch.div(place, width[pair], rounding_mode="floor")
        tile = self._first_tile[s[pair]] + row * self._tile_columns[s[pair]] + left[pair] + place % width[pair]
        tile, order = torch.sort(tile, stable=True)
        by_gaussian, pair_of = torch.sort(gaussian, stable=True)
        return _Pairs(
            view=view.int(),
            gaussian=gaussian.int(),
            slice_start=_starts(s, self.slices),
            gaussian_start=_starts(by_gaussian, n),
            pair_of=pair_of.int(),
            entry_start=_starts(tile, len(self._tiles)),
            entry=pair[order].int(),
            mean=self._mean,
            cov=self._cov,
            rotation=self._rotation,
            translation=self._translation,
        )

    def _touching(self, s: Tensor) -> Tensor:
        """Pairs of the slices `s` with a Gaussian whose ellipsoid at the cut-off, grown by the margin, meets a pixel.

        Returns
        -------
        (Q, 6) int64
            View, Gaussian, first and last row of tiles, first and last column of tiles.
        """
        s = s.to(self.device)
        rotation = self._rotation[s, None]
        mean = (self._mean - self._translation[s, None]) @ self._rotation[s]  # (s, N, 3)
        axes = rotation_matrices(self._quaternions) * self._log_scales.exp().unsqueeze(-2)
        along = rotation.mT @ axes  # (s, N, 3, 3)
        cov = (along @ along.mT).unsqueeze(1)  # (s, 1, N, 3, 3)
        blur = self._blur.reshape(self.slices, self.components, 1, 3)[s]
        mean = mean.unsqueeze(1)
        above = mean[..., 2] - self._plane.reshape(self.slices, self.components, 1)[s]
        szz = cov[..., 2, 2] + blur[..., 2]
        high = self.cutoff * szz.sqrt()
        touch = above.abs() <= high + self.margin
        # Only the part of the ellipsoid within the margin of the slice plane counts, at these distances from the mean.
        near = torch.maximum(-above - self.margin, -high).clamp(max=high)
        far = torch.minimum(-above + self.margin, high).clamp(min=-high)
        bounds = []
        for k in range(2):
            variance, slope = cov[..., k, k] + blur[..., k], cov[..., k, 2] / szz
            width = (variance - slope * cov[..., k, 2]).clamp(min=0).sqrt()
            summit = self.cutoff * cov[..., k, 2] / variance.sqrt()  # distance along z of the ellipsoid's extreme
            origin, step = self._grid[s, k, None, None], self._grid[s, k + 2, None, None]
            last = self._shape[s, k, None, None] - 1
            edge = []
            for side in (-1, 1):
                z = torch.minimum(torch.maximum(side * summit, near), far)
                reach = slope * z + side * (self.cutoff**2 - z.square() / szz).clamp(min=0).sqrt() * width
                edge.append((mean[..., k] + reach + side * self.margin - origin) / step)
            first, end = edge[0].ceil(), edge[1].floor()
            touch = touch & (first <= last) & (end >= 0) & (first <= end)
            bounds += [first.clamp(min=0), torch.minimum(end, last)]
        at, component, gaussian = touch.nonzero().unbind(1)
        tiles = [torch.div(b[touch].long(), TILE, rounding_mode="floor") for b in bounds]
        return torch.stack([s[at] * self.components + component, gaussian, *tiles], dim=1)


def _starts(ascending: Tensor, count: int) -> Tensor:
    """Where each of `count` numbers begins in an ascending list, and its end: (count + 1,) int32."""
    return torch.searchsorted(ascending, torch.arange(count + 1, device=ascending.device)).int()
