"""Label maps as they are drawn on slices, and how well a label map is found again.

A pixel of a slice segmented by hand has one label: the one that fills most of it. What `apply --labels` makes of
such stacks is compared with the map that they were taken from, and with what the pixels say without a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.stack import Stack

Float = NDArray[np.float64]
Labels = NDArray[np.intp]
Poses = Mapping[tuple[int, int], Float]

# Samples of a pixel, in pixels: through its thickness, and within its plane.
_THROUGH = np.linspace(-0.4, 0.4, 5)
_WITHIN = ((-0.25, -0.25), (0.25, 0.25))


@dataclass(frozen=True)
class LabelScan:
    """How stacks of labels are taken.

    Attributes
    ----------
    stacks : int
        Along each axis in turn; from the fourth on between the slices of those before.
    pixel, thickness : float
        Pixel spacing and slice thickness, mm; slices adjoin.
    turn, shift : float
        Largest motion of a slice about and along each axis, rad and mm.
    margin : float
        Around the labels, mm.
    seed : int
    """

    stacks: int = 3
    pixel: float = 1.1
    thickness: float = 3.0
    turn: float = 0.1
    shift: float = 3.0
    margin: float = 6.0
    seed: int = 0


def label_stacks(
    truth: Labels, affine: Float, scan: LabelScan | None = None
) -> tuple[list[Stack], dict[tuple[int, int], Float]]:
    """Stacks of a label map, every slice moved, each pixel with the label that fills most of it.

    Parameters
    ----------
    truth : (nx, ny, nz) whole numbers
    affine : (4, 4)
        Voxel to world, mm RAS+.
    scan : LabelScan, optional

    Returns
    -------
    stacks : list of Stack
        Masked where there is a label.
    poses : dict
        Where each (stack, slice) really lies, world to world (4, 4).
    """
    scan = scan or LabelScan()
    rng, stacks, poses = np.random.default_rng(scan.seed), [], {}
    inside = np.argwhere(truth > 0) @ affine[:3, :3].T + affine[:3, 3]
    low, high = inside.min(axis=0) - scan.margin, inside.max(axis=0) + scan.margin
    reach = np.array([scan.shift] * 3 + [scan.turn] * 3)
    for number in range(scan.stacks):
        stack = _empty_stack(number, low, high, scan)
        for k in range(stack.n_slices):
            moved = Rigid.exp(rng.uniform(-1, 1, 6) * reach).about((low + high) / 2)
            poses[number, k] = moved.matrix
            votes = np.zeros((stack.data[:, :, k].size, int(truth.max()) + 1), np.int16)
            for z in _THROUGH:
                for within in _WITHIN:
                    flat, there = _voxels(moved.map(_plane(stack, k + z, within)), truth.shape, affine)
                    votes[np.flatnonzero(there), truth.ravel()[flat]] += 1
            stack.data[:, :, k] = votes.argmax(axis=1).reshape(stack.data.shape[:2])
        stacks.append(replace(stack, mask=stack.data > 0))
    return stacks, poses


def _empty_stack(number: int, low: Float, high: Float, scan: LabelScan) -> Stack:
    """A stack over a box, its slices across the axis whose turn it is."""
    spacing = np.array([scan.pixel, scan.pixel, scan.thickness])
    order = np.roll(np.eye(3), number, axis=0)
    size = np.ceil(np.abs(order.T @ (high - low)) / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = order * spacing
    between = np.array([0.0, 0.0, number // 3 / 2])
    affine[:3, 3] = (low + high) / 2 - affine[:3, :3] @ ((size - 1) / 2 - between)
    return Stack(np.zeros(size, np.float32), np.ones(size, bool), affine, scan.thickness, f"labels-{number}")


def nearest_labels(stacks: list[Stack], poses: Poses, affine: Float, shape: tuple[int, ...]) -> Labels:
    """The label that most pixels put into a voxel, three through their thickness; elsewhere the nearest one."""
    count = int(max(stack.data.max() for stack in stacks)) + 1
    votes = np.zeros((int(np.prod(shape)), count), np.int16)
    for number, stack in enumerate(stacks):
        for k in range(stack.n_slices):
            labels = stack.data[:, :, k].ravel().astype(int)
            for z in (-1 / 3, 0, 1 / 3):
                flat, there = _voxels(Rigid(poses[number, k]).map(_plane(stack, k + z)), shape, affine)
                np.add.at(votes, (flat, labels[there]), 1)
    seen = votes.any(axis=1).reshape(shape)
    where = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    return votes.argmax(axis=1).reshape(shape)[tuple(where)]


def label_dice(found: NDArray, truth: NDArray) -> dict[int, float]:
    """Dice overlap of each label of the truth but 0.

    Examples
    --------
    >>> label_dice(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    {1: 0.6666666666666666, 2: 0.6666666666666666}
    """
    labels = [int(label) for label in np.unique(truth) if label]
    return {
        n: float(2 * ((found == n) & (truth == n)).sum() / ((found == n).sum() + (truth == n).sum())) for n in labels
    }


def _voxels(points: Float, shape: tuple[int, ...], affine: Float) -> tuple[Labels, NDArray[np.bool_]]:
    """Nearest voxels of points, flat, and which points have one."""
    index = np.rint((points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    there = ((index >= 0) & (index < shape)).all(axis=1)
    return np.ravel_multi_index(tuple(index[there].T), shape), there


def _plane(stack: Stack, k: float, within: tuple[float, float] = (0.0, 0.0)) -> Float:
    """Where the pixels of a slice, or a plane beside it, lie without motion (n, 3), mm; `within` pixels off centre."""
    index = np.indices(stack.data.shape[:2]).reshape(2, -1).T + within
    return np.column_stack([index, np.full(len(index), k)]) @ stack.affine[:3, :3].T + stack.affine[:3, 3]
