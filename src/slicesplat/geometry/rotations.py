"""Rotations in batches: vectors, unit quaternions and matrices, one into the other.

A rotation vector w, rad, is the quaternion (cos |w|/2, sin |w|/2 w/|w|), w x y z. (SciPy has the same in
`scipy.spatial.transform`, which takes half a second to import: a large part of what a short run takes to start.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

_PSI = 1.533751168755204288118041  # psi^4 = psi + 4, of the super-Fibonacci spiral
_SMALL = 1e-4  # rad; sin(x)/x is 1 - x^2/6 to the last bit below it


def quaternions_of_vectors(vectors: ArrayLike) -> Float:
    """Unit quaternions (..., 4) of rotation vectors (..., 3), rad."""
    vectors = np.asarray(vectors, dtype=np.float64)
    half = 0.5 * np.linalg.norm(vectors, axis=-1, keepdims=True)
    ratio = np.where(half < _SMALL, 1.0 - half**2 / 6.0, np.sin(half) / np.where(half < _SMALL, 1.0, half))
    return np.concatenate([np.cos(half), 0.5 * ratio * vectors], axis=-1)


def vectors_of_quaternions(quaternions: ArrayLike) -> Float:
    """Rotation vectors (..., 3), rad, no longer than pi, of quaternions (..., 4) of any length.

    Examples
    --------
    >>> vectors_of_quaternions(quaternions_of_vectors([0.1, -0.2, 0.3])).round(12).tolist()
    [0.1, -0.2, 0.3]
    """
    quaternions = np.asarray(quaternions, dtype=np.float64)
    scalar, vector = quaternions[..., :1], quaternions[..., 1:]
    # A quaternion and its negative are one rotation: the one with a scalar part above zero turns by less.
    vector = np.where(scalar < 0, -vector, vector)
    scalar = np.abs(scalar)
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    small = length < _SMALL * scalar
    one = np.where(small, scalar, 1.0)
    series = (1.0 - (length / one) ** 2 / 3.0) / one
    return 2.0 * vector * np.where(small, series, np.arctan2(length, scalar) / np.where(small, 1.0, length))


def matrices_of_quaternions(quaternions: ArrayLike) -> Float:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) of any length but zero."""
    quaternions = np.asarray(quaternions, dtype=np.float64)
    w, x, y, z = np.moveaxis(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True), -1, 0)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack(rows, axis=-1).reshape(*quaternions.shape[:-1], 3, 3)


def quaternions_of_matrices(matrices: ArrayLike) -> Float:
    """Unit quaternions (..., 4) of rotation matrices (..., 3, 3), by their largest component.

    S. W. Shepperd, Journal of Guidance and Control 1, 1978, 223-224.

    Examples
    --------
    >>> quaternions_of_matrices(np.diag([-1.0, -1.0, 1.0])).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    m = np.asarray(matrices, dtype=np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    # Four times the products of each component with all of them: row k is q times 4 q_k.
    products = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], axis=-1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], axis=-1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], axis=-1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    largest = np.argmax(np.einsum("...kk->...k", products), axis=-1)
    row = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    return np.asarray(row / np.linalg.norm(row, axis=-1, keepdims=True))


def product(one: ArrayLike, other: ArrayLike) -> Float:
    """Quaternions (..., 4) of `other` first, then `one`."""
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    scalar = one[..., :1] * other[..., :1] - (one[..., 1:] * other[..., 1:]).sum(axis=-1, keepdims=True)
    crossed = np.cross(one[..., 1:], other[..., 1:])
    return np.concatenate([scalar, one[..., :1] * other[..., 1:] + other[..., :1] * one[..., 1:] + crossed], axis=-1)


def mean_quaternion(quaternions: ArrayLike, weights: ArrayLike) -> Float:
    """The weighted means (..., 4) of unit quaternions (..., n, 4): nearest to them all, whatever their signs.

    F. L. Markley et al., Journal of Guidance, Control, and Dynamics 30, 2007, 1193-1197.
    """
    quaternions = np.asarray(quaternions, dtype=np.float64)
    weighted = quaternions * np.asarray(weights)[..., None]
    return np.asarray(np.linalg.eigh(weighted.swapaxes(-1, -2) @ quaternions)[1][..., -1])


def kabsch(source: ArrayLike, target: ArrayLike) -> Float:
    """The rotation (3, 3) that takes vectors (n, 3) nearest to others, in least squares.

    W. Kabsch, Acta Crystallographica A 32, 1976, 922-923.
    """
    left, _, right = np.linalg.svd(np.asarray(target, np.float64).T @ np.asarray(source, np.float64))
    # The nearest orthogonal matrix may mirror; the nearest rotation then gives up the direction with the least in it.
    return np.asarray(left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right)


def uniform_rotations(count: int) -> Float:
    """(count, 3, 3) rotations, evenly spread over all of them: a super-Fibonacci spiral of quaternions.

    M. Alexa, Super-Fibonacci spirals: fast, low-discrepancy sampling of SO(3), CVPR 2022, 8291-8300.
    """
    place = np.arange(count) + 0.5
    small, large = np.sqrt(place / count), np.sqrt(1.0 - place / count)
    one, other = 2 * np.pi * place / np.sqrt(2.0), 2 * np.pi * place / _PSI
    x, y, z, w = small * np.sin(one), small * np.cos(one), large * np.sin(other), large * np.cos(other)
    return matrices_of_quaternions(np.stack([w, x, y, z], axis=-1))
