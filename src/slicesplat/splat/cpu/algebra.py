"""Vectors and symmetric matrices, of one Gaussian or pair or of eight at a time."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from slicesplat.jit import jit
from slicesplat.splat.cpu.kernel import INLINE
from slicesplat.splat.cpu.simd import LANES, load8, transpose8


@jit(**INLINE)
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


@jit(**INLINE)
def cross(a, b):
    """The cross product of two vectors."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@jit(**INLINE)
def add(a, b):
    """The sum of two vectors."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@jit(**INLINE)
def turned(c, a):
    """The symmetric matrix c (xx, xy, xz, yy, yz, zz) times the vector a."""
    return (
        c[0] * a[0] + c[1] * a[1] + c[2] * a[2],
        c[1] * a[0] + c[3] * a[1] + c[4] * a[2],
        c[2] * a[0] + c[4] * a[1] + c[5] * a[2],
    )


@jit(**INLINE)
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


@jit(**INLINE)
def columns_of_eight(block):
    """The columns of eight rows of eight numbers that follow each other in a contiguous array."""
    return transpose8(
        (
            load8(block, 0),
            load8(block, LANES),
            load8(block, 2 * LANES),
            load8(block, 3 * LANES),
            load8(block, 4 * LANES),
            load8(block, 5 * LANES),
            load8(block, 6 * LANES),
            load8(block, 7 * LANES),
        )
    )
