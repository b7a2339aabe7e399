"""Stacks of a ball, and fields of a few Gaussians in it: geometry without anatomy."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.splat import CpuForwardModel, set_geometry

RADIUS = 18.0  # mm, of what three stacks see
SCALE = 0.15  # residual scale, as on the finest levels of the registration


def ball_stack(axes: NDArray, size: tuple[int, int, int], spacing: tuple[float, ...], radius: float) -> Stack:
    """A stack without intensities, along rotated axes and about the origin; its mask is a ball."""
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2)
    index = np.indices(size).reshape(3, -1).T
    mask = (np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3], axis=1) < radius).reshape(size)
    return Stack(np.zeros(size, np.float32), mask, affine, 3.0)


def ball(radius: float = 9.0, profile: SliceProfile = "gaussian") -> Slices:
    """Two small stacks of a ball, oblique to each other."""
    turns = (Rotation.from_rotvec(turn).as_matrix() for turn in ([0.3, -0.2, 0.5], [1.3, 0.6, -0.4]))
    return cut_slices([ball_stack(turn, (16, 15, 6), (1.3, 1.4, 3.0), radius) for turn in turns], profile)


@cache
def three_stacks(interleave: int = 1) -> Slices:
    """A ball in three orthogonal stacks of thick slices, acquired in so many packages."""
    orientations = (np.eye(3), np.eye(3)[:, [0, 2, 1]] * [1, 1, -1], np.eye(3)[:, [1, 2, 0]])
    stacks = [ball_stack(axes, (26, 26, 11), (1.5, 1.5, 3.4), RADIUS) for axes in orientations]
    return cut_slices(stacks, interleave=[interleave] * 3)


@cache
def four_stacks() -> Slices:
    """The ball of `three_stacks` in finer ones, and in an oblique one: two small slices at each end."""
    oblique = Rotation.from_rotvec([0.6, -0.5, 0.3]).as_matrix()
    orientations = (np.eye(3), np.eye(3)[:, [0, 2, 1]] * [1, 1, -1], np.eye(3)[:, [1, 2, 0]], oblique)
    return cut_slices([ball_stack(axes, (26, 26, 15), (1.5, 1.5, 2.4), RADIUS) for axes in orientations])


def some_field(n: int = 12, seed: int = 0) -> GaussianField:
    """Gaussians of any shape and sign about the origin."""
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 4, (n, 3)), rng.uniform(0.2, 1.1, (n, 3)), rng.normal(size=(n, 4)), rng.normal(size=n))
    return GaussianField(*(torch.tensor(value, dtype=torch.float32) for value in values))


@cache
def known_field() -> GaussianField:
    """Sixty Gaussians of 2 to 4 mm inside the ball of three stacks, bright and dark."""
    rng = np.random.default_rng(3)
    direction = rng.normal(size=(60, 3))
    means = RADIUS * direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.random((60, 1)) ** (1 / 3)
    values = (means, np.log(rng.uniform(2, 4, (60, 3))), rng.normal(size=(60, 4)), rng.uniform(-0.4, 1.0, 60))
    return GaussianField(*(torch.tensor(value, dtype=torch.float32) for value in values))


def placed(field: GaussianField, slices: Slices) -> CpuForwardModel:
    """A forward model that has the field and the slices in place."""
    forward_model = CpuForwardModel(slices)
    set_geometry(forward_model, field, slices.pose)
    return forward_model


def observed(slices: Slices) -> NDArray[np.float32]:
    """What the known field shows in the slices where they are."""
    field = known_field()
    return placed(field, slices).apply(field.amplitudes, np.ones(len(slices))).numpy()


def in_world(slices: Slices) -> NDArray[np.float64]:
    """All pixels inside the masks, where they are."""
    return np.concatenate([slices.world_points(s) for s in range(len(slices))])


def full(slices: Slices, value: float = 1.0) -> NDArray[np.float64]:
    """One number for every slice."""
    return np.full(len(slices), value)


def some_poses(n: int, seed: int = 0) -> Rigid:
    """Poses anywhere."""
    rng = np.random.default_rng(seed)
    turns, shifts = rng.normal(0, 0.8, (n, 3)), rng.normal(0, 20, (n, 3))
    return Rigid.exp(np.concatenate([shifts, turns], axis=1))


def put(slices: Slices, pose: Rigid) -> Slices:
    """The slices at these poses."""
    return slices.moved(pose @ ~slices.frame)


def stepped(pose: Rigid, which: ArrayLike, step: ArrayLike) -> Rigid:
    """The poses, some of them after a step (6,) in their own slice frames."""
    chosen = np.zeros(len(pose), bool)
    chosen[which] = True
    return (pose @ Rigid.exp(step)).where(chosen, pose)


def distance(slices: Slices, pose: Rigid, truth: Rigid) -> NDArray[np.float64]:
    """Root mean square distance (S,) mm of the pixels inside the masks between two poses."""
    points = [slices.plane_points(s) for s in range(len(slices))]
    there, here = ([where[s].map(points[s]) for s in range(len(slices))] for where in (pose, truth))
    return np.array([np.sqrt(((a - b) ** 2).sum(axis=1).mean()) for a, b in zip(there, here, strict=True)])


def sheared(slices: Slices, by: float, planes: tuple[int, int] = (1, 2)) -> Slices:
    """The slices after a shear of the world in the plane of two of its axes, each as near as a rigid body comes."""
    strain = np.eye(3)
    strain[planes, planes[::-1]] = by / 2
    corners = 10.0 * np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    here = [pose.map(corners) for pose in slices.pose]
    there = Rigid(np.stack([Rigid.kabsch(points, points @ strain.T).matrix for points in here]))
    return slices.moved(there @ slices.motion)
