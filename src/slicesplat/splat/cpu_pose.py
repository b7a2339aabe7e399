"""Gauss-Newton systems of every slice's pose on the CPU: the rendered slice and its exact derivatives, in one pass.

A pose moves by a rigid step in its own slice frame, R -> R exp([w]x), t -> t + R v. With f one pair's pixel value,
d = x - m, P = S'^-1 and M = R' S R, which turns while the PSF stays:

    d log f / dv = -P d
    d log f / dw = -m x P d + (P d) x (M P d) - 1/2 tr(P (M E_k - E_k M)),   E_k = [e_k]x

With rho the distance from the conditional mean, P d = (0, 0, z / S'_zz) + rho_u P_u + rho_v P_v, so that both are
polynomials of degree one and two on the pixel grid (derived from the model of DESIGN.md section 1).
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numba as nb
import numpy as np

from slicesplat.splat.cpu_kernels import _JIT, F32, _exp8, _exponent8, _in_slice, _padded, _window
from slicesplat.splat.simd import LANES, iota8, keep_from8, load8, store8

UNKNOWNS = 7  # v (3, mm), w (3, rad), gain


@nb.njit(**_JIT)
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@nb.njit(**_JIT)
def _turned(c, a):
    """The symmetric matrix c (xx, xy, xz, yy, yz, zz) times the vector a."""
    return (
        c[0] * a[0] + c[1] * a[1] + c[2] * a[2],
        c[1] * a[0] + c[3] * a[1] + c[4] * a[2],
        c[2] * a[0] + c[4] * a[1] + c[5] * a[2],
    )


@nb.njit(**_JIT)
def _add(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@nb.njit(**_JIT)
def _polynomials(mean, cov, rotation, translation, blur, su, sv, out):
    """Derivatives of log f: (6, 6) coefficients of 1, di, dj, di^2, di dj, dj^2, in pixels, into `out`."""
    m, c = _in_slice(mean, cov, rotation, translation)
    xx, xy, xz = c[0] + blur[0], c[1], c[2]
    yy, yz, zz = c[3] + blur[1], c[4], c[5] + blur[2]
    pxx = yy * zz - yz * yz
    pxy = xz * yz - xy * zz
    pxz = xy * yz - xz * yy
    scale = 1.0 / (xx * pxx + xy * pxy + xz * pxz)
    pxx, pxy, pxz = scale * pxx, scale * pxy, scale * pxz
    pyy, pyz = scale * (xx * zz - xz * xz), scale * (xy * xz - xx * yz)
    pzz = scale * (xx * yy - xy * xy)
    g0 = (0.0, 0.0, -m[2] / zz)
    gu = (su * pxx, su * pxy, su * pxz)
    gv = (sv * pxy, sv * pyy, sv * pyz)
    h0, hu, hv = _turned(c, g0), _turned(c, gu), _turned(c, gv)
    one = _cross(g0, h0)
    first_u = _add(_cross(g0, hu), _cross(gu, h0))
    first_v = _add(_cross(g0, hv), _cross(gv, h0))
    square_u, square_v = _cross(gu, hu), _cross(gv, hv)
    mixed = _add(_cross(gu, hv), _cross(gv, hu))
    turn0, turn_u, turn_v = _cross(m, g0), _cross(m, gu), _cross(m, gv)
    # 1/2 tr(P (M E_k - E_k M)) = tr(P M E_k): the antisymmetric part of P M.
    px, py, pz = _turned(c, (pxx, pxy, pxz)), _turned(c, (pxy, pyy, pyz)), _turned(c, (pxz, pyz, pzz))
    trace = (py[2] - pz[1], pz[0] - px[2], px[1] - py[0])
    for k in range(3):
        out[k, 0], out[k, 1], out[k, 2] = -g0[k], -gu[k], -gv[k]
        out[k, 3] = out[k, 4] = out[k, 5] = 0.0
        out[3 + k, 0] = one[k] - turn0[k] - trace[k]
        out[3 + k, 1] = first_u[k] - turn_u[k]
        out[3 + k, 2] = first_v[k] - turn_v[k]
        out[3 + k, 3], out[3 + k, 4], out[3 + k, 5] = square_u[k], mixed[k], square_v[k]


@nb.njit(parallel=True, **_JIT)
def pose_derivatives(
    mean, cov, amplitude, rotation, translation, blur, step, flat, shape, offset, view_start, start, gaussian, workers
):
    """Rendered pixels for gain 1 and their derivatives with respect to v and w: (7, P) float32, the image last."""
    out = np.empty((UNKNOWNS, offset[-1]), np.float32)
    largest = _padded(shape)
    for worker in nb.prange(workers):
        canvas = np.empty(UNKNOWNS * largest, np.float32)
        c = np.empty((6, 6), np.float32)
        for s in range(worker, len(shape), workers):
            rows, columns = shape[s, 0], shape[s, 1]
            stride = columns + LANES
            plane = rows * stride + LANES
            canvas[: UNKNOWNS * plane] = F32(0)
            for v in range(view_start[s], view_start[s + 1]):
                for q in range(start[v], start[v + 1]):
                    f = flat[q]
                    top, bottom, left, right = _window(f, rows, columns)
                    if top >= bottom or left >= right:
                        continue
                    j = gaussian[q]
                    _polynomials(mean[j], cov[j], rotation[v], translation[v], blur[v], step[v, 0], step[v, 1], c)
                    peak = F32(f[0] * amplitude[j])
                    quadratic = (f[3], f[4], f[5])
                    for block in range(left, right, LANES):
                        across = iota8() + F32(block - f[2])
                        v0 = across * c[0, 2] + c[0, 0]
                        v1 = across * c[1, 2] + c[1, 0]
                        v2 = across * c[2, 2] + c[2, 0]
                        w0 = (across * c[3, 5] + c[3, 2]) * across + c[3, 0]
                        w1 = (across * c[4, 5] + c[4, 2]) * across + c[4, 0]
                        w2 = (across * c[5, 5] + c[5, 2]) * across + c[5, 0]
                        x0, x1, x2 = across * c[3, 4] + c[3, 1], across * c[4, 4] + c[4, 1], across * c[5, 4] + c[5, 1]
                        for i in range(top, bottom):
                            row = F32(i - f[1])
                            x = _exponent8(across, row, quadratic)
                            e = keep_from8(_exp8(x), x, f[6]) * peak
                            here = i * stride + block
                            store8(canvas, here, load8(canvas, here) + e * (v0 + c[0, 1] * row))
                            here += plane
                            store8(canvas, here, load8(canvas, here) + e * (v1 + c[1, 1] * row))
                            here += plane
                            store8(canvas, here, load8(canvas, here) + e * (v2 + c[2, 1] * row))
                            here += plane
                            store8(canvas, here, load8(canvas, here) + e * (w0 + (x0 + c[3, 3] * row) * row))
                            here += plane
                            store8(canvas, here, load8(canvas, here) + e * (w1 + (x1 + c[4, 3] * row) * row))
                            here += plane
                            store8(canvas, here, load8(canvas, here) + e * (w2 + (x2 + c[5, 3] * row) * row))
                            here += plane
                            store8(canvas, here, load8(canvas, here) + e)
            for k in range(UNKNOWNS):
                for i in range(rows):
                    for n in range(columns):
                        out[k, offset[s] + i * columns + n] = canvas[k * plane + i * stride + n]
    return out


@nb.njit(parallel=True, **_JIT)
def normal_equations(derivative, gain, pixels, weights, scale, offset, workers):
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
    slices = len(offset) - 1
    hessian = np.zeros((slices, UNKNOWNS, UNKNOWNS))
    gradient = np.zeros((slices, UNKNOWNS))
    cost = np.zeros(slices)
    sums = np.zeros((slices, 6))
    for worker in nb.prange(workers):
        d = np.empty(UNKNOWNS)
        for s in range(worker, slices, workers):
            h, b = hessian[s], gradient[s]
            total = 0.0
            for n in range(offset[s], offset[s + 1]):
                w = np.float64(weights[n])
                if w > 0:
                    y, p = np.float64(derivative[6, n]), np.float64(pixels[n])
                    r = gain[s] * y - p
                    soft = 1.0 / (1.0 + (r / scale[s]) ** 2)
                    total += w * r * r * soft
                    robust = w * soft * soft
                    for k in range(6):
                        d[k] = gain[s] * derivative[k, n]
                    d[6] = y
                    for k in range(UNKNOWNS):
                        b[k] += robust * d[k] * r
                        for i in range(k + 1):
                            h[k, i] += robust * d[k] * d[i]
                    sums[s, 0] += w
                    sums[s, 1] += w * y
                    sums[s, 2] += w * p
                    sums[s, 3] += w * y * y
                    sums[s, 4] += w * p * p
                    sums[s, 5] += w * y * p
            cost[s] = total
            for k in range(UNKNOWNS):
                for i in range(k):
                    h[i, k] = h[k, i]
    return hessian, gradient, cost, sums
