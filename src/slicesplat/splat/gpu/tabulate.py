"""The covariances of the Gaussians, and a Gaussian seen from a slice."""

# Triton finds the types of what it compiles.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from slicesplat.splat.gpu.algebra import dot, load3, rotation_matrix, turned


@triton.jit
def tabulate(log_scales, quaternions, out, count, BLOCK: tl.constexpr):
    """Covariances xx, xy, xz, yy, yz, zz in mm^2, and their determinant: (N, 7)."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < count
    j = tl.minimum(lane, count - 1)
    w, x, y = load3(quaternions + 4 * j)
    r = rotation_matrix(w, x, y, tl.load(quaternions + 4 * j + 3))
    l0, l1, l2 = load3(log_scales + 3 * j)
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
def in_slice(means, covariances, rotations, translations, j, s):
    """Mean and covariance (xx, xy, xz, yy, yz, zz) of a Gaussian in the slice frame, and the frame's three axes."""
    x0, x1, x2 = load3(means + 3 * j)
    t0, t1, t2 = load3(translations + 3 * s)
    away = (x0 - t0, x1 - t1, x2 - t2)
    r00, r01, r02 = load3(rotations + 9 * s)
    r10, r11, r12 = load3(rotations + 9 * s + 3)
    r20, r21, r22 = load3(rotations + 9 * s + 6)
    u = (r00, r10, r20)
    v = (r01, r11, r21)
    n = (r02, r12, r22)
    c0, c1, c2 = load3(covariances + 7 * j)
    c3, c4, c5 = load3(covariances + 7 * j + 3)
    cov = (c0, c1, c2, c3, c4, c5)
    cu, cv, cn = turned(cov, u), turned(cov, v), turned(cov, n)
    m = (dot(u, away), dot(v, away), dot(n, away))
    c = (dot(u, cu), dot(u, cv), dot(u, cn), dot(v, cv), dot(v, cn), dot(n, cn))
    return m, c, u, v, n
