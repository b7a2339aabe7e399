"""The CPU kernels: pairs of slices and Gaussians, their projection, the forward model, its adjoint and its gradient.

What is 3-D is done once per (slice, Gaussian) pair, in float64; per pixel a 2-D quadratic and one exp are left, in
packed float32 (`simd.py`). With z = -m_z fixed, the exponent d' P d of DESIGN.md section 1 is least at the conditional
mean of the blurred Gaussian in the slice plane, so every pair is an ordinary 2-D Gaussian about that centre:

    y(rho) = A exp(-z^2 / 2 S'_zz) exp(-1/2 rho' C^-1 rho),   C = S'_uv,uv - S'_uv,z S'_z,uv / S'_zz

Forward and backward both run in parallel over slices, each pair belonging to one slice; what pairs owe their Gaussian
is summed afterwards in parallel over Gaussians, in the pairs' order. No atomics: the same bits for any thread count.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.polynomial import Chebyshev

from slicesplat.splat.simd import LANES, iota8, keep_from8, load8, spread8, store8, sum8

F32 = np.float32
MAX_CUTOFF = 5.0
# Pair lists are made this much too generous, mm, and reused until something has moved that far.
LIST_MARGIN = 0.5

# exp(x) for -MAX_CUTOFF^2 / 2 <= x <= 0 as p(x / 32)^32, p of degree 5: relative error below 3e-6, no branch.
_EXP_RANGE = -(MAX_CUTOFF**2) / 2 / 32
_P = Chebyshev.interpolate(np.exp, 5, domain=[_EXP_RANGE, 0.0]).convert(kind=np.polynomial.Polynomial).coef
_P0, _P1, _P2, _P3, _P4, _P5 = (F32(c) for c in _P)
_SHRINK = F32(1 / 32)

_JIT = {"cache": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}


@nb.njit(**_JIT)
def _exp8(x):
    y = x * _SHRINK
    p = y * _P5 + _P4
    p = p * y + _P3
    p = p * y + _P2
    p = p * y + _P1
    p = p * y + _P0
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return p * p


@nb.njit(**_JIT)
def _exponent8(columns, row, quadratic):
    """Exponent at `columns` (eight distances from the centre, pixels) of the row at distance `row`."""
    return columns * columns * quadratic[2] + columns * (quadratic[1] * row) + quadratic[0] * row * row


@nb.njit(**_JIT)
def covariances(log_scales, rotations):
    """Covariances as (N, 6): xx, xy, xz, yy, yz, zz in mm^2, and their determinants (N,)."""
    n = len(log_scales)
    out = np.empty((n, 6))
    determinant = np.empty(n)
    for j in range(n):
        r = _rotation(rotations[j, 0], rotations[j, 1], rotations[j, 2], rotations[j, 3])
        a = np.exp(2.0 * log_scales[j, 0])
        b = np.exp(2.0 * log_scales[j, 1])
        c = np.exp(2.0 * log_scales[j, 2])
        k = 0
        for p in range(3):
            for q in range(p, 3):
                out[j, k] = a * r[3 * p] * r[3 * q] + b * r[3 * p + 1] * r[3 * q + 1] + c * r[3 * p + 2] * r[3 * q + 2]
                k += 1
        determinant[j] = a * b * c
    return out, determinant


@nb.njit(**_JIT)
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


@nb.njit(**_JIT)
def _in_slice(mean, cov, r, t):
    """Mean and covariance (xx, xy, xz, yy, yz, zz) of a Gaussian in the slice frame."""
    x = mean[0] - t[0]
    y = mean[1] - t[1]
    z = mean[2] - t[2]
    m = (
        r[0, 0] * x + r[1, 0] * y + r[2, 0] * z,
        r[0, 1] * x + r[1, 1] * y + r[2, 1] * z,
        r[0, 2] * x + r[1, 2] * y + r[2, 2] * z,
    )
    w00 = cov[0] * r[0, 0] + cov[1] * r[1, 0] + cov[2] * r[2, 0]
    w10 = cov[1] * r[0, 0] + cov[3] * r[1, 0] + cov[4] * r[2, 0]
    w20 = cov[2] * r[0, 0] + cov[4] * r[1, 0] + cov[5] * r[2, 0]
    w01 = cov[0] * r[0, 1] + cov[1] * r[1, 1] + cov[2] * r[2, 1]
    w11 = cov[1] * r[0, 1] + cov[3] * r[1, 1] + cov[4] * r[2, 1]
    w21 = cov[2] * r[0, 1] + cov[4] * r[1, 1] + cov[5] * r[2, 1]
    w02 = cov[0] * r[0, 2] + cov[1] * r[1, 2] + cov[2] * r[2, 2]
    w12 = cov[1] * r[0, 2] + cov[3] * r[1, 2] + cov[4] * r[2, 2]
    w22 = cov[2] * r[0, 2] + cov[4] * r[1, 2] + cov[5] * r[2, 2]
    c = (
        r[0, 0] * w00 + r[1, 0] * w10 + r[2, 0] * w20,
        r[0, 0] * w01 + r[1, 0] * w11 + r[2, 0] * w21,
        r[0, 0] * w02 + r[1, 0] * w12 + r[2, 0] * w22,
        r[0, 1] * w01 + r[1, 1] * w11 + r[2, 1] * w21,
        r[0, 1] * w02 + r[1, 1] * w12 + r[2, 1] * w22,
        r[0, 2] * w02 + r[1, 2] * w12 + r[2, 2] * w22,
    )
    return m, c


@nb.njit(**_JIT)
def _touches(mean, cov, r, t, blur, low, high, reach, margin):
    """Whether the Gaussian's blurred ellipsoid at `reach`, grown by `margin` mm, can meet a pixel of the view."""
    for k in (2, 0, 1):
        m = r[0, k] * (mean[0] - t[0]) + r[1, k] * (mean[1] - t[1]) + r[2, k] * (mean[2] - t[2])
        beyond = max(m - high[k], low[k] - m) - margin
        if beyond > 0:
            variance = (
                r[0, k] * (cov[0] * r[0, k] + 2 * cov[1] * r[1, k] + 2 * cov[2] * r[2, k])
                + r[1, k] * (cov[3] * r[1, k] + 2 * cov[4] * r[2, k])
                + r[2, k] * cov[5] * r[2, k]
                + blur[k]
            )
            if beyond * beyond > reach * reach * variance:
                return False
    return True


@nb.njit(parallel=True, **_JIT)
def list_pairs(mean, cov, rotation, translation, blur, low, high, reach, margin, workers):
    """The Gaussians of every view in ascending order: start (V + 1,) and Gaussian numbers (Q,)."""
    views, n = len(blur), len(mean)
    counts = np.zeros(views + 1, np.int64)
    touch = np.empty((workers, views // workers + 1, n), np.bool_)
    # Most Gaussians are far from most slice planes: one cheap test in float32 with the largest radius there can be.
    x, y, z = mean[:, 0].astype(F32), mean[:, 1].astype(F32), mean[:, 2].astype(F32)
    trace = (cov[:, 0] + cov[:, 3] + cov[:, 5]).astype(F32)
    for worker in nb.prange(workers):
        for v in range(worker, views, workers):
            mark = touch[worker, v // workers]
            nx, ny, nz = F32(rotation[v, 0, 2]), F32(rotation[v, 1, 2]), F32(rotation[v, 2, 2])
            level = F32(
                rotation[v, 0, 2] * translation[v, 0]
                + rotation[v, 1, 2] * translation[v, 1]
                + rotation[v, 2, 2] * translation[v, 2]
            )
            square, thick = F32(reach * reach), F32(blur[v, 2])
            slack = F32(margin + 1e-3)
            for j in range(n):
                beyond = max(abs(nx * x[j] + ny * y[j] + nz * z[j] - level) - slack, F32(0))
                mark[j] = beyond * beyond <= square * (trace[j] + thick)
            total = 0
            for j in range(n):
                if mark[j]:
                    mark[j] = _touches(
                        mean[j], cov[j], rotation[v], translation[v], blur[v], low[v], high[v], reach, margin
                    )
                    total += mark[j]
            counts[v + 1] = total
    start = np.cumsum(counts)
    gaussian = np.empty(start[-1], np.int32)
    for worker in nb.prange(workers):
        for v in range(worker, views, workers):
            mark = touch[worker, v // workers]
            q = start[v]
            for j in range(n):
                if mark[j]:
                    gaussian[q] = j
                    q += 1
    return start, gaussian


@nb.njit(**_JIT)
def farthest_move(mean, cov, mean0, cov0, rotation, translation, rotation0, translation0, radius, blur, reach):
    """A bound, mm, on how far any Gaussian's ellipsoid has moved or grown against any view since the list was made.

    Growth: |sqrt(a) - sqrt(b)| <= |a - b| / (2 sqrt(blur)) for variances a, b of at least `blur`.
    """
    largest = 0.0
    for j in range(len(mean)):
        moved = 0.0
        grown = 0.0
        for k in range(3):
            moved += (mean[j, k] - mean0[j, k]) ** 2
        for k in range(6):
            twice = 1.0 if k == 0 or k == 3 or k == 5 else 2.0
            grown += twice * (cov[j, k] - cov0[j, k]) ** 2
        largest = max(largest, np.sqrt(moved) + reach * np.sqrt(grown / blur) / 2)
    turned = 0.0
    for v in range(len(rotation)):
        shift = np.sqrt(((translation[v] - translation0[v]) ** 2).sum())
        turn = np.sqrt(((rotation[v] - rotation0[v]) ** 2).sum())
        turned = max(turned, shift + turn * (radius + reach * reach))
    return largest + turned


@nb.njit(**_JIT)
def pairs_of_gaussians(gaussian, n):
    """The pairs of each Gaussian, ascending: start (N + 1,) and pair numbers (Q,)."""
    start = np.zeros(n + 1, np.int64)
    for q in range(len(gaussian)):
        start[gaussian[q] + 1] += 1
    start = np.cumsum(start)
    fill = start[:-1].copy()
    pair = np.empty(len(gaussian), np.int64)
    for q in range(len(gaussian)):
        pair[fill[gaussian[q]]] = q
        fill[gaussian[q]] += 1
    return start, pair


@nb.njit(parallel=True, **_JIT)
def project(
    mean, cov, determinant, rotation, translation, weight, blur, origin, step, start, gaussian, cutoff, workers
):
    """Every pair's 2-D Gaussian on its slice's pixel grid: (Q, 9) float32.

    Columns: peak for amplitude 1; centre row and column; quadratic exponent (rows^2, rows x columns, columns^2);
    exponent at the cut-off; half extents in rows and columns.
    """
    flat = np.empty((len(gaussian), 9), np.float32)
    for worker in nb.prange(workers):
        for v in range(worker, len(blur), workers):
            su, sv = step[v, 0], step[v, 1]
            for q in range(start[v], start[v + 1]):
                j = gaussian[q]
                m, c = _in_slice(mean[j], cov[j], rotation[v], translation[v])
                szz = c[5] + blur[v, 2]
                square = m[2] * m[2] / szz
                room = cutoff * cutoff - square
                cuu = c[0] + blur[v, 0] - c[2] * c[2] / szz
                cuv = c[1] - c[2] * c[4] / szz
                cvv = c[3] + blur[v, 1] - c[4] * c[4] / szz
                det2 = cuu * cvv - cuv * cuv
                flat[q, 0] = weight[v] * np.sqrt(determinant[j] / (det2 * szz)) * np.exp(-0.5 * square)
                flat[q, 1] = (m[0] - c[2] * m[2] / szz - origin[v, 0]) / su
                flat[q, 2] = (m[1] - c[4] * m[2] / szz - origin[v, 1]) / sv
                flat[q, 3] = -0.5 * cvv / det2 * su * su
                flat[q, 4] = cuv / det2 * su * sv
                flat[q, 5] = -0.5 * cuu / det2 * sv * sv
                flat[q, 6] = -0.5 * room
                reach = np.sqrt(max(room, 0.0))
                flat[q, 7] = reach * np.sqrt(cuu) / su if room > 0 else -1.0
                flat[q, 8] = reach * np.sqrt(cvv) / sv if room > 0 else -1.0
    return flat


@nb.njit(**_JIT)
def _window(flat, rows, columns):
    """First and last + 1 row and column of a pair's box inside the image."""
    if flat[7] < 0:
        return 0, 0, 0, 0
    top = max(int(np.ceil(flat[1] - flat[7])), 0)
    bottom = min(int(np.floor(flat[1] + flat[7])) + 1, rows)
    left = max(int(np.ceil(flat[2] - flat[8])), 0)
    right = min(int(np.floor(flat[2] + flat[8])) + 1, columns)
    return top, bottom, left, right


@nb.njit(parallel=True, **_JIT)
def splat(flat, amplitude, gain, shape, offset, view_start, start, gaussian, workers):
    """Simulated pixels (P,): every slice the sum of its pairs, times its gain."""
    out = np.empty(offset[-1], np.float32)
    largest = _padded(shape)
    for worker in nb.prange(workers):
        canvas = np.empty(largest, np.float32)
        for s in range(worker, len(shape), workers):
            rows, columns = shape[s, 0], shape[s, 1]
            stride = columns + LANES
            canvas[: rows * stride] = F32(0)
            for q in range(start[view_start[s]], start[view_start[s + 1]]):
                f = flat[q]
                top, bottom, left, right = _window(f, rows, columns)
                peak = F32(f[0] * amplitude[gaussian[q]])
                quadratic = (f[3], f[4], f[5])
                for block in range(left, right, LANES):
                    across = iota8() + F32(block - f[2])
                    for i in range(top, bottom):
                        x = _exponent8(across, F32(i - f[1]), quadratic)
                        e = keep_from8(_exp8(x), x, f[6])
                        here = i * stride + block
                        store8(canvas, here, load8(canvas, here) + e * peak)
            for i in range(rows):
                for k in range(columns):
                    out[offset[s] + i * columns + k] = canvas[i * stride + k] * gain[s]
    return out


@nb.njit(**_JIT)
def _padded(shape):
    """Floats that the largest slice takes with every row padded by a whole vector."""
    largest = 0
    for s in range(len(shape)):
        largest = max(largest, shape[s, 0] * (shape[s, 1] + LANES))
    return largest + LANES


@nb.njit(**_JIT)
def _lay_out(values, canvas, first, rows, columns):
    """Copy a slice into `canvas`, every row followed by a vector of zeros."""
    stride = columns + LANES
    for i in range(rows):
        for k in range(columns):
            canvas[i * stride + k] = values[first + i * columns + k]
        for k in range(columns, stride):
            canvas[i * stride + k] = F32(0)


@nb.njit(parallel=True, **_JIT)
def gather(flat, upstream, gain, shape, offset, view_start, start, workers):
    """Per pair (Q,), the gradient by an amplitude: the adjoint of `splat` before the sum over pairs."""
    out = np.empty(len(flat), np.float32)
    largest = _padded(shape)
    for worker in nb.prange(workers):
        canvas = np.empty(largest, np.float32)
        for s in range(worker, len(shape), workers):
            rows, columns = shape[s, 0], shape[s, 1]
            stride = columns + LANES
            _lay_out(upstream, canvas, offset[s], rows, columns)
            for q in range(start[view_start[s]], start[view_start[s + 1]]):
                f = flat[q]
                top, bottom, left, right = _window(f, rows, columns)
                quadratic = (f[3], f[4], f[5])
                total = spread8(F32(0))
                for block in range(left, right, LANES):
                    across = iota8() + F32(block - f[2])
                    for i in range(top, bottom):
                        x = _exponent8(across, F32(i - f[1]), quadratic)
                        total = total + keep_from8(_exp8(x), x, f[6]) * load8(canvas, i * stride + block)
                out[q] = f[0] * gain[s] * sum8(total)
    return out


@nb.njit(parallel=True, **_JIT)
def moments(flat, upstream, shape, offset, view_start, start, workers):
    """Per pair, sums of h e (1, di, dj, di^2, di dj, dj^2) about its centre, in pixels: (Q, 6)."""
    out = np.empty((len(flat), 6), np.float32)
    largest = _padded(shape)
    for worker in nb.prange(workers):
        canvas = np.empty(largest, np.float32)
        for s in range(worker, len(shape), workers):
            rows, columns = shape[s, 0], shape[s, 1]
            stride = columns + LANES
            _lay_out(upstream, canvas, offset[s], rows, columns)
            for q in range(start[view_start[s]], start[view_start[s + 1]]):
                f = flat[q]
                top, bottom, left, right = _window(f, rows, columns)
                quadratic = (f[3], f[4], f[5])
                m0, mi, mii = spread8(F32(0)), spread8(F32(0)), spread8(F32(0))
                mj, mij, mjj = spread8(F32(0)), spread8(F32(0)), spread8(F32(0))
                for block in range(left, right, LANES):
                    across = iota8() + F32(block - f[2])
                    c0, c1, c2 = spread8(F32(0)), spread8(F32(0)), spread8(F32(0))
                    for i in range(top, bottom):
                        row = F32(i - f[1])
                        x = _exponent8(across, row, quadratic)
                        he = keep_from8(_exp8(x), x, f[6]) * load8(canvas, i * stride + block)
                        her = he * row
                        c0 = c0 + he
                        c1 = c1 + her
                        c2 = c2 + her * row
                    m0 = m0 + c0
                    mi = mi + c1
                    mii = mii + c2
                    c0 = c0 * across
                    mj = mj + c0
                    mij = mij + c1 * across
                    mjj = mjj + c0 * across
                out[q, 0] = sum8(m0)
                out[q, 1] = sum8(mi)
                out[q, 2] = sum8(mj)
                out[q, 3] = sum8(mii)
                out[q, 4] = sum8(mij)
                out[q, 5] = sum8(mjj)
    return out


@nb.njit(parallel=True, **_JIT)
def chain_pairs(
    mean,
    cov,
    amplitude,
    gain,
    rotation,
    translation,
    blur,
    origin,
    step,
    view_start,
    start,
    gaussian,
    flat,
    moment,
    workers,
):
    """From six moments to gradients, pair by pair (DESIGN.md section 1).

    Returns
    -------
    pair : (Q, 10) float32
        d/d mean (3), d/d covariance (xx, xy, xz, yy, yz, zz, the off-diagonal ones counted once), d/d amplitude.
    pose : (S, 13)
        d/d rotation (9, row by row), d/d translation (3), d/d gain.
    """
    pair = np.empty((len(gaussian), 10), np.float32)
    slices = len(view_start) - 1
    pose = np.empty((slices, 13))
    for worker in nb.prange(workers):
        for s in range(worker, slices, workers):
            frame = rotation[view_start[s]]
            r00, r01, r02 = frame[0, 0], frame[0, 1], frame[0, 2]
            r10, r11, r12 = frame[1, 0], frame[1, 1], frame[1, 2]
            r20, r21, r22 = frame[2, 0], frame[2, 1], frame[2, 2]
            # In the slice frame: sum of m gm' + 2 M gS', of -gm, and of y h / gain.
            k00 = k01 = k02 = k10 = k11 = k12 = k20 = k21 = k22 = 0.0
            tx = ty = tz = level = 0.0
            for v in range(view_start[s], view_start[s + 1]):
                bx, by, bz = blur[v, 0], blur[v, 1], blur[v, 2]
                su, sv = step[v, 0], step[v, 1]
                for q in range(start[v], start[v + 1]):
                    j = gaussian[q]
                    m, c = _in_slice(mean[j], cov[j], rotation[v], translation[v])
                    sxx, sxy, sxz = c[0] + bx, c[1], c[2]
                    syy, syz, szz = c[3] + by, c[4], c[5] + bz
                    pxx = syy * szz - syz * syz
                    pxy = sxz * syz - sxy * szz
                    pxz = sxy * syz - sxz * syy
                    scale = 1.0 / (sxx * pxx + sxy * pxy + sxz * pxz)
                    pxx, pxy, pxz = scale * pxx, scale * pxy, scale * pxz
                    pyy = scale * (sxx * szz - sxz * sxz)
                    pyz = scale * (sxy * sxz - sxx * syz)
                    pzz = scale * (sxx * syy - sxy * sxy)
                    # The moments are about the conditional mean; those of DESIGN.md are about the mean itself.
                    peak = flat[q, 0]
                    z = -m[2]
                    du, dv = sxz / szz * z, syz / szz * z
                    m0 = peak * moment[q, 0]
                    ru, rv = peak * su * moment[q, 1], peak * sv * moment[q, 2]
                    muu = peak * su * su * moment[q, 3] + 2 * du * ru + du * du * m0
                    muv = peak * su * sv * moment[q, 4] + du * rv + dv * ru + du * dv * m0
                    mvv = peak * sv * sv * moment[q, 5] + 2 * dv * rv + dv * dv * m0
                    mu, mv, mz = ru + du * m0, rv + dv * m0, z * m0
                    muz, mvz, mzz = z * mu, z * mv, z * mz
                    a = amplitude[j] * gain[s]
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
                    half = 0.5 * a
                    gxx = half * (hxx * pxx + hxy * pxy + hxz * pxz - m0 * pxx)
                    gxy = half * (hxx * pxy + hxy * pyy + hxz * pyz - m0 * pxy)
                    gxz = half * (hxx * pxz + hxy * pyz + hxz * pzz - m0 * pxz)
                    gyy = half * (hyx * pxy + hyy * pyy + hyz * pyz - m0 * pyy)
                    gyz = half * (hyx * pxz + hyy * pyz + hyz * pzz - m0 * pyz)
                    gzz = half * (hzx * pxz + hzy * pyz + hzz * pzz - m0 * pzz)
                    pair[q, 0] = r00 * gx + r01 * gy + r02 * gz
                    pair[q, 1] = r10 * gx + r11 * gy + r12 * gz
                    pair[q, 2] = r20 * gx + r21 * gy + r22 * gz
                    ax, ay, az = (
                        r00 * gxx + r01 * gxy + r02 * gxz,
                        r00 * gxy + r01 * gyy + r02 * gyz,
                        r00 * gxz + r01 * gyz + r02 * gzz,
                    )
                    pair[q, 3] = ax * r00 + ay * r01 + az * r02
                    pair[q, 4] = ax * r10 + ay * r11 + az * r12
                    pair[q, 5] = ax * r20 + ay * r21 + az * r22
                    ax, ay, az = (
                        r10 * gxx + r11 * gxy + r12 * gxz,
                        r10 * gxy + r11 * gyy + r12 * gyz,
                        r10 * gxz + r11 * gyz + r12 * gzz,
                    )
                    pair[q, 6] = ax * r10 + ay * r11 + az * r12
                    pair[q, 7] = ax * r20 + ay * r21 + az * r22
                    ax, ay, az = (
                        r20 * gxx + r21 * gxy + r22 * gxz,
                        r20 * gxy + r21 * gyy + r22 * gyz,
                        r20 * gxz + r21 * gyz + r22 * gzz,
                    )
                    pair[q, 8] = ax * r20 + ay * r21 + az * r22
                    pair[q, 9] = gain[s] * m0
                    k00 += m[0] * gx + 2 * (c[0] * gxx + c[1] * gxy + c[2] * gxz)
                    k01 += m[0] * gy + 2 * (c[0] * gxy + c[1] * gyy + c[2] * gyz)
                    k02 += m[0] * gz + 2 * (c[0] * gxz + c[1] * gyz + c[2] * gzz)
                    k10 += m[1] * gx + 2 * (c[1] * gxx + c[3] * gxy + c[4] * gxz)
                    k11 += m[1] * gy + 2 * (c[1] * gxy + c[3] * gyy + c[4] * gyz)
                    k12 += m[1] * gz + 2 * (c[1] * gxz + c[3] * gyz + c[4] * gzz)
                    k20 += m[2] * gx + 2 * (c[2] * gxx + c[4] * gxy + c[5] * gxz)
                    k21 += m[2] * gy + 2 * (c[2] * gxy + c[4] * gyy + c[5] * gyz)
                    k22 += m[2] * gz + 2 * (c[2] * gxz + c[4] * gyz + c[5] * gzz)
                    tx -= gx
                    ty -= gy
                    tz -= gz
                    level += amplitude[j] * m0
            for i in range(3):
                ri0, ri1, ri2 = frame[i, 0], frame[i, 1], frame[i, 2]
                pose[s, 3 * i] = ri0 * k00 + ri1 * k10 + ri2 * k20
                pose[s, 3 * i + 1] = ri0 * k01 + ri1 * k11 + ri2 * k21
                pose[s, 3 * i + 2] = ri0 * k02 + ri1 * k12 + ri2 * k22
                pose[s, 9 + i] = ri0 * tx + ri1 * ty + ri2 * tz
            pose[s, 12] = level
    return pair, pose


@nb.njit(parallel=True, **_JIT)
def chain_gaussians(log_scales, rotations, amplitude, pair, start, pair_of):
    """Sum the pairs of every Gaussian and go on to its parameters: (N, 11), mean, log scales, quaternion, amplitude."""
    n = len(log_scales)
    out = np.empty((n, 11), np.float32)
    for j in nb.prange(n):
        t = np.zeros(10)
        for index in range(start[j], start[j + 1]):
            q = pair_of[index]
            for k in range(10):
                t[k] += pair[q, k]
        length = np.sqrt(rotations[j, 0] ** 2 + rotations[j, 1] ** 2 + rotations[j, 2] ** 2 + rotations[j, 3] ** 2)
        w, x = rotations[j, 0] / length, rotations[j, 1] / length
        y, z = rotations[j, 2] / length, rotations[j, 3] / length
        r = _rotation(w, x, y, z)
        d = np.empty((3, 3))  # dL/dR = 2 G R diag(exp(2 l))
        for k in range(3):
            variance = np.exp(2.0 * log_scales[j, k])
            g0 = t[3] * r[k] + t[4] * r[3 + k] + t[5] * r[6 + k]
            g1 = t[4] * r[k] + t[6] * r[3 + k] + t[7] * r[6 + k]
            g2 = t[5] * r[k] + t[7] * r[3 + k] + t[8] * r[6 + k]
            d[0, k], d[1, k], d[2, k] = 2 * variance * g0, 2 * variance * g1, 2 * variance * g2
            # Through the covariance, and directly: |S| = exp(2 sum l) stands under the root of the amplitude.
            out[j, 3 + k] = 2 * variance * (r[k] * g0 + r[3 + k] * g1 + r[6 + k] * g2) + amplitude[j] * t[9]
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
    return out


@nb.njit(parallel=True, **_JIT)
def sum_pairs(pair, start, pair_of):
    """Sum over the pairs of every Gaussian, in their order: (N,) float32."""
    n = len(start) - 1
    out = np.empty(n, np.float32)
    for j in nb.prange(n):
        total = 0.0
        for index in range(start[j], start[j + 1]):
            total += pair[pair_of[index]]
        out[j] = total
    return out
