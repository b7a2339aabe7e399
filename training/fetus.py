"""A fetus painted into a stack, slice by slice where it was; its frame is that of its brain."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from atlas import Brain
from labels import (
    BASE,
    BRAIN,
    CORD,
    FETAL_MIXED,
    FETAL_WATER,
    FLUID,
    LIQUOR,
    LIVER,
    LUNG,
    PLACENTA,
    SKIN,
    SKULL,
    VOID,
    WALL,
)
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from shapes import Float, Random, direction, ellipsoid


@dataclass(frozen=True, eq=False)
class Fetus:
    """Where a fetus is and how it is built; lengths in brain lengths in its own frame."""

    brain: Brain
    scale: float
    liquor: float  # mm
    cavity: float
    skull: float
    scalp: float
    rotation: NDArray[np.float64]  # its frame to world
    head: NDArray[np.float64]  # centre of the brain in world, mm
    flexion: float
    seed: int
    alone: bool = False  # no body but a neck
    bare: bool = False  # a brain cut out of its head

    @property
    def length(self) -> float:
        """Of the brain, mm."""
        return self.brain.length * self.scale


def add_fetus(
    labels: NDArray[np.uint8],
    signal: Float,
    points: Sequence[Float],
    warp: Sequence[Float],
    fetus: Fetus,
    moved: tuple[NDArray[np.float64], NDArray[np.float64]],
    random: Random,
) -> None:
    """Paint a fetus over everything, where it is in each slice."""
    length = fetus.length
    reach = np.float32(1.0 * length if fetus.alone else 2.4 * length)
    near = sum((p - np.float32(c)) ** 2 for p, c in zip(points, fetus.head, strict=True)) < reach**2
    where = np.nonzero(near)
    if not len(where[0]):
        return
    rotations = Rotation.from_rotvec(moved[0]).as_matrix()
    offset = np.stack([p[where] for p in points], axis=1) - fetus.head.astype(np.float32)
    to_frame = np.einsum("ab,kbc->kac", fetus.rotation.T, rotations).astype(np.float32)
    shifts = (moved[1] @ fetus.rotation).astype(np.float32)
    own = np.empty_like(offset)
    ends = np.searchsorted(where[0], np.arange(len(rotations) + 1))
    for slice_, (low, high) in enumerate(itertools.pairwise(ends)):
        own[low:high] = offset[low:high] @ to_frame[slice_].T + shifts[slice_]
    soft = np.stack([w[where] for w in warp], axis=1) / np.float32(8)
    at = [own[:, axis] + soft[:, axis] for axis in range(3)]
    painted = labels[where]
    if not fetus.bare:
        _paint_body(painted, at, fetus, random)
    own += soft * np.float32(0.35)
    shine = _paint_head(painted, own, fetus, random)
    labels[where] = painted
    signal[where] = np.maximum(signal[where], shine)


def _paint_body(painted: NDArray[np.uint8], at: list[Float], fetus: Fetus, random: Random) -> None:
    """Trunk with organs, limbs and cord; a neck only for a head alone."""
    size = fetus.length
    at = [axis / np.float32(size) for axis in at]
    neck = ellipsoid(at, (0, -0.2, -0.62), (0.2, 0.2, 0.45))
    painted[neck > 0] = SKIN
    if fetus.alone:
        return
    free = np.isin(painted, (FLUID, PLACENTA, WALL, SKIN))
    c, s = np.float32(np.cos(fetus.flexion)), np.float32(np.sin(fetus.flexion))
    low = at[2] + np.float32(0.5)
    # The trunk's own frame hangs at the neck, bent to the front.
    trunk = [at[0], at[1] * c + low * s + np.float32(0.1), low * c - at[1] * s]
    inside = ellipsoid(trunk, (0, 0, -0.75), (0.44, 0.4, 0.75))
    body = free & (inside > 0)
    painted[body] = SKIN
    painted[body & (inside > 0.05)] = FETAL_MIXED
    for side in (-1, 1):
        painted[body & (ellipsoid(trunk, (0.18 * side, 0, -0.4), (0.15, 0.24, 0.25)) > 0)] = LUNG
    painted[body & (ellipsoid(trunk, (0.08, 0.1, -0.72), (0.3, 0.22, 0.14)) > 0)] = LIVER
    painted[body & (ellipsoid(trunk, (-0.02, 0.12, -0.45), (0.13, 0.14, 0.14)) > 0)] = VOID
    for _ in range(random.integers(1, 4)):
        centre = random.uniform((-0.22, -0.1, -1.3), (0.22, 0.2, -0.7))
        painted[body & (ellipsoid(trunk, centre, random.uniform(0.05, 0.15, 3)) > 0)] = FETAL_WATER
    spine = np.hypot(trunk[0], trunk[1] + np.float32(0.28))
    painted[body & (spine < 0.09)] = SKULL
    painted[body & (spine < 0.035)] = FETAL_WATER
    for _ in range(random.integers(3, 7)):
        start = random.uniform((-0.6, 0.0, -1.6), (0.6, 0.9, -0.4))
        _paint_tube(painted, free, at, start, random.uniform(0.3, 0.6) * direction(random), random.uniform(0.06, 0.14))
    start, width = random.uniform((-0.5, 0.2, -1.2), (0.5, 1.0, 0.3)), random.uniform(0.03, 0.07)
    for _ in range(random.integers(2, 8)):
        step = 0.35 * direction(random)
        _paint_tube(painted, painted == FLUID, at, start, step, width, CORD, VOID)
        start = start + step


def _paint_tube(
    painted: NDArray[np.uint8],
    allowed: NDArray[np.bool_],
    at: Sequence[Float],
    start: NDArray[np.float64],
    step: NDArray[np.float64],
    radius: float,
    outer: int = SKIN,
    inner: int = SKULL,
) -> None:
    """A capsule with a core."""
    rel = [p - np.float32(c) for p, c in zip(at, start, strict=True)]
    along = sum(r * np.float32(d) for r, d in zip(rel, step, strict=True)) / np.float32(step @ step)
    along = np.clip(along, 0, 1)
    squared = sum((r - along * np.float32(d)) ** 2 for r, d in zip(rel, step, strict=True))
    painted[allowed & (squared < radius**2)] = outer
    painted[allowed & (squared < (0.4 * radius) ** 2)] = inner


def _paint_head(painted: NDArray[np.uint8], own: Float, fetus: Fetus, random: Random) -> Float:
    """Face, scalp, skull, liquor and brain; the brain's signal (n,)."""
    brain, size = fetus.brain, fetus.length
    voxel = (own.T / np.float32(brain.spacing * fetus.scale) + brain.centre[:, None].astype(np.float32)).astype(
        np.float32
    )
    beyond = np.abs(voxel - brain.centre[:, None].astype(np.float32)).max(axis=0) > max(brain.distance.shape) / 2
    distance, cavity = (
        np.where(beyond, 99, ndimage.map_coordinates(layer, voxel, order=1, mode="nearest") * np.float32(fetus.scale))
        for layer in (brain.distance, brain.cavity)
    )
    hollow = np.float32(fetus.cavity) * (distance - cavity)
    at = [own[:, axis] / np.float32(size) for axis in range(3)]
    face = np.maximum(
        ellipsoid(at, (0, 0.3, -0.36), (0.27, 0.26, 0.32)), ellipsoid(at, (0, 0.42, -0.5), (0.2, 0.14, 0.16))
    )
    face = np.full_like(face, -1) if fetus.bare else face
    painted[face > 0] = SKIN
    ripple = sum(np.sin(a * np.float32(random.uniform(15, 45)) + np.float32(random.uniform(0, 6))) for a in at)
    painted[(face > 0.03) & (ripple > 0.4)] = FETAL_MIXED
    painted[(face > 0.03) & (ripple < -0.9)] = SKULL
    painted[(face > 0.05) & (ripple > 1.5)] = FETAL_WATER
    # Liquor is thicker at some places, for one frequency in each direction.
    wave = sum(np.sin(a * np.float32(random.uniform(2, 7)) + np.float32(random.uniform(0, 6))) for a in at) / 3
    edge = distance - hollow - np.float32(fetus.liquor) * (1 + np.float32(random.uniform(0, 0.8)) * wave)
    if not fetus.bare:
        painted[edge < fetus.skull + fetus.scalp] = SKIN
        painted[edge < fetus.skull] = SKULL
    for side in () if fetus.bare else (-1, 1):
        eye = ellipsoid(at, (0.17 * side, 0.4, -0.2), (0.085,) * 3)
        free = (edge > 0.5) & (eye > 0)
        painted[free] = FETAL_WATER
        painted[free & (ellipsoid(at, (0.18 * side, 0.45, -0.2), (0.03,) * 3) > 0)] = VOID
    inside = edge < 0
    painted[inside] = LIQUOR
    tissue = ndimage.map_coordinates(brain.tissue, voxel[:, inside], order=0, mode="constant")
    # Below, past the cisterns, hollows hold the base of the skull.
    deep = distance[inside] > np.float32(random.uniform(0.01, 0.06) * size)
    low = at[2][inside] < np.float32(random.uniform(-0.2, -0.05))
    outside = np.where(deep & low & (hollow[inside] > 1), BASE, LIQUOR)
    painted[inside] = np.where(tissue > 0, BRAIN + tissue - 1, outside)
    shine = np.zeros(len(own), np.float32)
    shine[inside] = ndimage.map_coordinates(brain.signal, voxel[:, inside], order=1, mode="constant")
    shine[(painted == LIQUOR) | (painted == BASE)] = 0
    return shine
