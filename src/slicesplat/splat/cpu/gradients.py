"""From the gradient at the pixels to that by every parameter: six moments of each pair, and the chain to 3-D.

The backward pass goes slice by slice, each pair belonging to one slice; what pairs owe their Gaussian is summed
afterwards, Gaussian by Gaussian, in the pairs' order.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit
from slicesplat.splat.cpu.algebra import columns_of_eight, inverse, rotation_matrix
from slicesplat.splat.cpu.canvas import gaussian_tile, lay_out, padded
from slicesplat.splat.cpu.kernel import F32, INLINE, JIT, share
from slicesplat.splat.cpu.project import ACROSS, DOWN, PAIR_FIELDS, PEAK, place_of, quadratic, window
from slicesplat.splat.cpu.simd import (
    LANES,
    TILE_ROWS,
    add8,
    double,
    gather8,
    item,
    load8,
    load_tile,
    single,
    store8,
    sum_lanes,
    sum_tiles,
    tile_columns,
    tile_rows,
    tile_zero,
    transpose8,
)
from slicesplat.splat.cpu.tabulate import in_slice

PAIR_GRADIENTS = 10
POSE_GRADIENTS = 13


@jit(**INLINE)
def moments(flat, q, lane, canvas, stride, out):
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


@jit(**INLINE)
def chain(table, amplitude, gain, r, shift, blur, level, su, sv, gaussian, first, flat, moment, last, pair, sums):
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
    h, hi, hj, hii, hij, hjj, _, _ = columns_of_eight(moment)
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


@jit(**JIT)
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
        As `chain`.
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
                    moments(flat, first + lane, lane, canvas, columns + LANES, moment)
                chain(table, amplitude, gain[s], *frame, gaussian, first, flat, moment, last, pair, sums)
        for k in range(POSE_GRADIENTS):
            total[k] = sum_lanes(load8(sums, k * LANES))
        r = rotation[view_start[s]]
        for i in range(3):
            for k in range(3):
                pose[s, 3 * i + k] = r[i, 0] * total[k] + r[i, 1] * total[3 + k] + r[i, 2] * total[6 + k]
            pose[s, 9 + i] = r[i, 0] * total[9] + r[i, 1] * total[10] + r[i, 2] * total[11]
        pose[s, 12] = total[12]


@jit(**JIT)
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
