"""Rigid transforms of the world as values: batched, composed with `@`, inverted with `~`, applied with `map`.

A small transform is a step (v, w): v in mm, w a rotation vector in rad; `Rigid.exp` makes it a transform, x ->
exp([w]x) x + v, and `log` undoes that. docs/method.md, Frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicesplat.geometry import rotations

Float = NDArray[np.float64]

LEVER_ARM = 40.0
"""mm: about the radius of a brain at term; what turns a rotation into a length."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
"""From nibabel's axes of the world to those of ITK and DICOM, and back."""
_ORTHONORMAL = 1e-4  # of a rotation's entries: what a file with seven digits still gives


@dataclass(frozen=True, eq=False)
class Rigid:
    """Rigid transforms, as many as the leading axes of the matrices say.

    Attributes
    ----------
    matrix : (..., 4, 4) float64
        Homogeneous matrices, mm.

    Examples
    --------
    >>> turn = Rigid.exp([0.0, 0.0, 0.0, 0.0, 0.0, np.pi / 2])
    >>> turn.map([1.0, 0.0, 0.0]).round(6).tolist()
    [0.0, 1.0, 0.0]
    >>> (~turn @ turn).log().round(6).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    >>> Rigid.identity(3)
    Rigid(3 transforms)
    """

    matrix: Float

    def __post_init__(self) -> None:
        if np.shape(self.matrix)[-2:] != (4, 4):
            raise ValueError(f"rigid transforms of shape {np.shape(self.matrix)}: give matrices (..., 4, 4)")

    @classmethod
    def identity(cls, *shape: int) -> Rigid:
        """Transforms that leave everything where it is."""
        return cls(np.broadcast_to(np.eye(4), (*shape, 4, 4)).copy())

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Rigid:
        """Transforms of matrices that come from outside, (..., 4, 4).

        Raises
        ------
        ValueError
            A matrix scales, shears, mirrors or projects, or is not finite.
        """
        given = np.array(matrix, dtype=np.float64)
        made = cls(given)
        square = made.rotation.swapaxes(-1, -2) @ made.rotation
        sound = np.isfinite(given).all() and np.allclose(square, np.eye(3), rtol=0.0, atol=_ORTHONORMAL)
        if not sound or not (np.linalg.det(made.rotation) > 0).all() or not np.allclose(given[..., 3, :], [0, 0, 0, 1]):
            raise ValueError("not rigid: the matrices are to rotate and shift, and nothing else")
        return made

    @classmethod
    def exp(cls, step: ArrayLike) -> Rigid:
        """Transforms of steps (..., 6): v in mm, then w in rad."""
        step = np.asarray(step, dtype=np.float64)
        out = np.zeros((*step.shape[:-1], 4, 4))
        out[..., :3, :3] = rotations.matrices_of_quaternions(rotations.quaternions_of_vectors(step[..., 3:]))
        out[..., :3, 3] = step[..., :3]
        out[..., 3, 3] = 1.0
        return cls(out)

    @classmethod
    def kabsch(cls, source: ArrayLike, target: ArrayLike) -> Rigid:
        """The transform that takes points (n, 3) nearest to others, in least squares.

        Examples
        --------
        >>> there = Rigid.exp([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])
        >>> points = np.eye(4)[:, :3]
        >>> bool(np.allclose(Rigid.kabsch(points, there.map(points)).matrix, there.matrix))
        True
        """
        a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
        out = np.eye(4)
        out[:3, :3] = rotations.kabsch(a - a.mean(axis=0), b - b.mean(axis=0))
        out[:3, 3] = b.mean(axis=0) - out[:3, :3] @ a.mean(axis=0)
        return cls(out)

    @property
    def rotation(self) -> Float:
        """(..., 3, 3)."""
        return self.matrix[..., :3, :3]

    @property
    def translation(self) -> Float:
        """(..., 3) mm."""
        return self.matrix[..., :3, 3]

    def __len__(self) -> int:
        return len(self.matrix)

    def __repr__(self) -> str:
        count = int(np.prod(self.matrix.shape[:-2]))
        return f"Rigid({count} transform{'' if count == 1 else 's'})"

    def __getitem__(self, which: Any) -> Rigid:
        return Rigid(self.matrix[which])

    def __matmul__(self, other: Rigid) -> Rigid:
        """`other` first, then this one."""
        return Rigid(self.matrix @ other.matrix)

    def __invert__(self) -> Rigid:
        out = np.zeros_like(self.matrix)
        out[..., :3, :3] = self.rotation.swapaxes(-1, -2)
        out[..., :3, 3] = -np.einsum("...ji,...j->...i", self.rotation, self.translation)
        out[..., 3, 3] = 1.0
        return Rigid(out)

    def map(self, points: ArrayLike) -> Float:
        """Where points go: (3,) or (n, 3) mm under one transform, (..., n, 3) under as many."""
        points = np.asarray(points, dtype=np.float64)
        shift = self.translation if points.ndim == 1 else self.translation[..., None, :]
        turned = points @ self.rotation.swapaxes(-1, -2)
        return np.asarray(turned + shift)

    def log(self) -> Float:
        """(..., 6) the steps that `exp` makes these transforms of."""
        turns = rotations.vectors_of_quaternions(rotations.quaternions_of_matrices(self.rotation))
        return np.concatenate([self.translation, turns], axis=-1)

    def about(self, centre: ArrayLike) -> Rigid:
        """The same transforms with the origin at `centre` (..., 3) mm: x -> c + T (x - c)."""
        centre = np.asarray(centre, dtype=np.float64)
        out = self.matrix.copy()
        out[..., :3, 3] += centre - np.einsum("...ij,...j->...i", self.rotation, centre)
        return Rigid(out)

    def mean(self, weights: ArrayLike, centre: ArrayLike) -> Rigid:
        """The means of transforms (..., n), with weights (..., n), their translations taken at `centre` (..., 3) mm."""
        weights, centre = np.asarray(weights, dtype=np.float64), np.asarray(centre, dtype=np.float64)
        turns = rotations.quaternions_of_matrices(self.rotation)
        turn = rotations.matrices_of_quaternions(rotations.mean_quaternion(turns, weights))
        moved = np.einsum("...nij,...j->...ni", self.rotation, centre) + self.translation
        shares = weights / weights.sum(axis=-1, keepdims=True)
        out = np.zeros((*turn.shape[:-2], 4, 4))
        out[..., :3, :3] = turn
        out[..., :3, 3] = (shares[..., None] * moved).sum(axis=-2) - np.einsum("...ij,...j->...i", turn, centre)
        out[..., 3, 3] = 1.0
        return Rigid(out)

    def where(self, choice: NDArray[np.bool_], other: Rigid) -> Rigid:
        """These transforms where `choice` (...) says so, else the other ones."""
        return Rigid(np.where(np.asarray(choice)[..., None, None], self.matrix, other.matrix))

    def angle(self) -> Float:
        """(...) rad, of the rotations."""
        return np.arccos(np.clip((np.trace(self.rotation, axis1=-2, axis2=-1) - 1) / 2, -1, 1))


def step_product(one: Float, other: Float) -> Float:
    """Inner products (...) of steps (..., 6), mm^2: rotations at the lever arm.

    Examples
    --------
    >>> float(step_product(np.array([3.0, 0, 4, 0, 0, 0]), np.array([3.0, 0, 4, 0, 0, 0])))
    25.0
    """
    products = one * other
    return np.asarray(products[..., :3].sum(axis=-1) + LEVER_ARM**2 * products[..., 3:].sum(axis=-1))


def limited(step: Float, longest: float) -> Float:
    """Steps (S, 6), none longer than that, mm.

    Examples
    --------
    >>> limited(np.array([[3.0, 0, 4, 0, 0, 0]]), 2.5).tolist()
    [[1.5, 0.0, 2.0, 0.0, 0.0, 0.0]]
    """
    size = np.sqrt(step_product(step, step))
    return np.asarray(step * np.minimum(1.0, longest / np.maximum(size, 1e-12))[:, None])


def displacement(before: Rigid, after: Rigid) -> Float:
    """How far (...) mm bodies at the poses `before` are from `after`: translation, and rotation at the lever arm."""
    turn = Rigid(before.matrix.swapaxes(-1, -2) @ after.matrix).angle()
    return np.asarray(np.linalg.norm(after.translation - before.translation, axis=-1) + LEVER_ARM * turn)


def to_lps(transform: Rigid) -> Rigid:
    """A transform of RAS+ coordinates as one of LPS+ coordinates, or the other way round.

    Examples
    --------
    >>> to_lps(Rigid.exp([1.0, 2.0, 3.0, 0.0, 0.0, 0.0])).translation.tolist()
    [-1.0, -2.0, 3.0]
    """
    flip = np.eye(4)
    flip[:3, :3] = RAS_TO_LPS
    return Rigid(flip @ transform.matrix @ flip)
