"""Rigid poses as 4x4 matrices, and small steps of them.

A step is (v, w): millimetres and radians. A slice takes it in its own frame, R -> R exp([w]x), t -> t + R v; a group of
slices takes it in world axes about a centre c, x -> c + exp([w]x)(x - c) + v.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Float = NDArray[np.float64]


def rigid(rotation_vector: Float, translation: Float) -> Float:
    """Matrices (..., 4, 4) of rotation vectors (..., 3) in rad and translations (..., 3) in mm.

    Examples
    --------
    >>> rigid(np.zeros(3), np.array([1.0, 2.0, 3.0]))[:3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    rotation_vector, translation = np.broadcast_arrays(rotation_vector, translation)
    out = np.zeros((*rotation_vector.shape[:-1], 4, 4))
    turns = Rotation.from_rotvec(rotation_vector.reshape(-1, 3).copy()).as_matrix()
    out[..., :3, :3] = turns.reshape(*rotation_vector.shape[:-1], 3, 3)
    out[..., :3, 3] = translation
    out[..., 3, 3] = 1.0
    return out


def step_slices(pose: Float, step: Float) -> Float:
    """Poses (S, 4, 4) after a step (S, 6) of every slice in its own frame."""
    return pose @ rigid(step[:, 3:], step[:, :3])


def slice_steps(pose: Float, since: Float) -> Float:
    """The steps (S, 6) that took slices from the poses `since` (S, 4, 4) to `pose`: undoes `step_slices`.

    Examples
    --------
    >>> step = np.array([[1.0, 2.0, 3.0, 0.1, 0.0, -0.1]])
    >>> np.allclose(slice_steps(step_slices(np.eye(4)[None], step), np.eye(4)[None]), step)
    True
    """
    between = np.linalg.inv(since) @ pose
    return np.concatenate([between[:, :3, 3], Rotation.from_matrix(between[:, :3, :3]).as_rotvec()], axis=1)


def step_groups(pose: Float, group: NDArray[np.integer], centre: Float, step: Float) -> Float:
    """Poses (S, 4, 4) after a step (G, 6) of every group in world axes about its centre (G, 3) mm."""
    about = rigid(step[:, 3:], step[:, :3])
    about[:, :3, 3] += centre - np.einsum("gij,gj->gi", about[:, :3, :3], centre)
    return about[group] @ pose


def group_jacobian(pose: Float, centre: Float) -> Float:
    """How a group's step (v, w) moves each of its slices in the slice's own frame: (S, 6, 6).

    Parameters
    ----------
    pose : (S, 4, 4)
    centre : (S, 3) mm
        The centre of the group that the slice belongs to.
    """
    turn = pose[:, :3, :3].transpose(0, 2, 1)
    x, y, z = (pose[:, :3, 3] - centre).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    out = np.zeros((len(pose), 6, 6))
    out[:, :3, :3] = turn
    out[:, :3, 3:] = -turn @ cross
    out[:, 3:, 3:] = turn
    return out


def angles(rotation: Float) -> Float:
    """Angles in rad of rotation matrices (..., 3, 3)."""
    return np.arccos(np.clip((np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
