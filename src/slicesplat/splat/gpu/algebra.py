"""Vectors and symmetric matrices, as tuples of numbers or of lanes."""

# Triton finds the types of what it compiles.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
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


@triton.jit
def load3(pointer):
    """Three neighbours."""
    return tl.load(pointer), tl.load(pointer + 1), tl.load(pointer + 2)


@triton.jit
def turned(c, a):
    """The symmetric matrix c (xx, xy, xz, yy, yz, zz) times the vector a."""
    return (
        c[0] * a[0] + c[1] * a[1] + c[2] * a[2],
        c[1] * a[0] + c[3] * a[1] + c[4] * a[2],
        c[2] * a[0] + c[4] * a[1] + c[5] * a[2],
    )


@triton.jit
def dot(a, b):
    """The inner product of two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton.jit
def add(a, b):
    """The sum of two vectors."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@triton.jit
def cross(a, b):
    """The cross product of two vectors."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@triton.jit
def inverse(xx, xy, xz, yy, yz, zz):
    """Inverse of a symmetric matrix, as six numbers."""
    pxx = yy * zz - yz * yz
    pxy = xz * yz - xy * zz
    pxz = xy * yz - xz * yy
    scale = 1.0 / (xx * pxx + xy * pxy + xz * pxz)
    pyy = xx * zz - xz * xz
    pyz = xy * xz - xx * yz
    pzz = xx * yy - xy * xy
    return scale * pxx, scale * pxy, scale * pxz, scale * pyy, scale * pyz, scale * pzz
