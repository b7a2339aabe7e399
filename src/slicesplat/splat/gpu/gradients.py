"""From six moments of each pair to the gradients by Gaussians and poses, by the chain of docs/method.md."""

# Triton finds the types of what it compiles.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from slicesplat.splat.gpu.algebra import dot, inverse, load3, rotation_matrix, turned
from slicesplat.splat.gpu.tabulate import in_slice


@triton.jit
def gradients_of_pairs(
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
    m, c, u, v, n = in_slice(means, covariances, rotations, translations, j, s)
    bx, by, bz = load3(blurs + 3 * view)
    su, sv = tl.load(grid + 4 * s + 2), tl.load(grid + 4 * s + 3)
    szz = c[5] + bz
    p = inverse(c[0] + bx, c[1], c[2], c[3] + by, c[4], szz)
    # The moments are about the conditional mean; those of docs/method.md are about the mean itself.
    peak = tl.load(flat + 8 * q).to(tl.float64)
    # The plane is not where the frame turns: m, which is, stays the lever of the rotation.
    z = tl.load(planes + view) - m[2]
    du, dv = c[2] / szz * z, c[4] / szz * z
    h0, hi, hj = load3(moments + 6 * q)
    hii, hij, hjj = load3(moments + 6 * q + 3)
    m0 = peak * h0
    ru, rv = peak * su * hi, peak * sv * hj
    muu = peak * su * su * hii + 2 * du * ru + du * du * m0
    muv = peak * su * sv * hij + du * rv + dv * ru + du * dv * m0
    mvv = peak * sv * sv * hjj + 2 * dv * rv + dv * dv * m0
    mu, mv, mz = ru + du * m0, rv + dv * m0, z * m0
    amplitude, gain = tl.load(amplitudes + j), tl.load(gains + s)
    a = amplitude * gain
    g = turned(p, (a * mu, a * mv, a * mz))
    # dL/dS' = a/2 (P M2 P - M0 P), column by column of P.
    second = (muu, muv, z * mu, mvv, z * mv, z * mz)
    px, py, pz = (p[0], p[1], p[2]), (p[1], p[3], p[4]), (p[2], p[4], p[5])
    hx, hy, hz = turned(second, px), turned(second, py), turned(second, pz)
    half = 0.5 * a
    gxx, gxy, gxz = (
        half * (dot(px, hx) - m0 * p[0]),
        half * (dot(px, hy) - m0 * p[1]),
        half * (dot(px, hz) - m0 * p[2]),
    )
    gyy, gyz, gzz = (
        half * (dot(py, hy) - m0 * p[3]),
        half * (dot(py, hz) - m0 * p[4]),
        half * (dot(pz, hz) - m0 * p[5]),
    )
    gs = (gxx, gxy, gxz, gyy, gyz, gzz)
    # Rows of the frame's matrix: a gradient in the slice frame becomes one in the world.
    r0, r1, r2 = (u[0], v[0], n[0]), (u[1], v[1], n[1]), (u[2], v[2], n[2])
    w0, w1, w2 = turned(gs, r0), turned(gs, r1), turned(gs, r2)
    o = pair + 10 * q
    tl.store(o, dot(r0, g).to(tl.float32), mask=keep)
    tl.store(o + 1, dot(r1, g).to(tl.float32), mask=keep)
    tl.store(o + 2, dot(r2, g).to(tl.float32), mask=keep)
    tl.store(o + 3, dot(r0, w0).to(tl.float32), mask=keep)
    tl.store(o + 4, dot(r0, w1).to(tl.float32), mask=keep)
    tl.store(o + 5, dot(r0, w2).to(tl.float32), mask=keep)
    tl.store(o + 6, dot(r1, w1).to(tl.float32), mask=keep)
    tl.store(o + 7, dot(r1, w2).to(tl.float32), mask=keep)
    tl.store(o + 8, dot(r2, w2).to(tl.float32), mask=keep)
    tl.store(o + 9, (gain * m0).to(tl.float32), mask=keep)
    kx = turned(c, (gxx, gxy, gxz))
    ky = turned(c, (gxy, gyy, gyz))
    kz = turned(c, (gxz, gyz, gzz))
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
def gradients_of_gaussians(log_scales, quaternions, amplitudes, summed, out, count, BLOCK: tl.constexpr):
    """From sums over pairs to a Gaussian's parameters: (N, 11), mean, log scales, quaternion, amplitude."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = lane < count
    j = tl.minimum(lane, count - 1)
    w, x, y = load3(quaternions + 4 * j)
    z = tl.load(quaternions + 4 * j + 3)
    length = tl.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    r = rotation_matrix(w, x, y, z)
    t0, t1, t2 = load3(summed + 10 * j)
    gxx, gxy, gxz = load3(summed + 10 * j + 3)
    gyy, gyz, gzz = load3(summed + 10 * j + 6)
    level = tl.load(summed + 10 * j + 9)
    gs = (gxx, gxy, gxz, gyy, gyz, gzz)
    l0, l1, l2 = load3(log_scales + 3 * j)
    a, b, c = 2 * tl.exp(2.0 * l0), 2 * tl.exp(2.0 * l1), 2 * tl.exp(2.0 * l2)
    # The axes, and dL/dR = 2 G R diag(exp(2 l)) column by column.
    ra, rb, rc = (r[0], r[3], r[6]), (r[1], r[4], r[7]), (r[2], r[5], r[8])
    ga, gb, gc = turned(gs, ra), turned(gs, rb), turned(gs, rc)
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
    tl.store(o + 3, (a * dot(ra, ga) + direct).to(tl.float32), mask=keep)
    tl.store(o + 4, (b * dot(rb, gb) + direct).to(tl.float32), mask=keep)
    tl.store(o + 5, (c * dot(rc, gc) + direct).to(tl.float32), mask=keep)
    tl.store(o + 6, ((qw - w * along) / length).to(tl.float32), mask=keep)
    tl.store(o + 7, ((qx - x * along) / length).to(tl.float32), mask=keep)
    tl.store(o + 8, ((qy - y * along) / length).to(tl.float32), mask=keep)
    tl.store(o + 9, ((qz - z * along) / length).to(tl.float32), mask=keep)
    tl.store(o + 10, level.to(tl.float32), mask=keep)


@triton.jit
def sum_poses(pose, slice_start, out, BLOCK: tl.constexpr):
    """The sum of a slice's pairs, which lie together: (S, 16)."""
    s = tl.program_id(0)
    column = tl.arange(0, 16)[None, :]
    total = tl.zeros([BLOCK, 16], tl.float64)
    end = tl.load(slice_start + s + 1)
    for begin in range(tl.load(slice_start + s), end, BLOCK):
        q = begin + tl.arange(0, BLOCK)[:, None]
        total += tl.load(pose + 16 * q + column, mask=(q < end) & (column < 13), other=0.0)
    tl.store(out + 16 * s + tl.arange(0, 16), tl.sum(total, axis=0))
