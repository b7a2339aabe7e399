"""How a brain lies in standard space: a rigid registration to a template, from any orientation.

A fetus lies as it likes, so that every rotation is tried: a uniform grid of them, on coarse images with the centres of
the brains on each other, and the best of every neighbourhood followed to its end, by the correlation inside and around
the brain, which an outline has much of. An ellipsoid with a rim of skull has nearly the same outline back to front, so
that the orientation is chosen by the correlation inside both brains, where nothing but anatomy counts. How far the best
one is ahead of the best that is another one says how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import least_squares

from slicesplat.geometry.placement import Placement
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.rotations import uniform_rotations
from slicesplat.io.templates import Template

# Steps of about 19 degrees between neighbours: within the width of a brain's correlation at the coarse resolution.
ROTATIONS = 2000
COARSE, MEDIUM, FINE = 8.0, 14.0, 20.0  # points that are compared along the side of a cube as large as the brain
SPACING = 1.5  # mm, of a volume that is sampled for it
SURROUNDINGS = 8.0  # mm around the brain that are compared too
FOLLOWED = 8  # orientations that are followed to their end
APART, SAME = math.radians(30.0), math.radians(5.0)  # from which on two orientations are different, within are one
LEAST_SHARED = 0.3  # of the points of the brain that a template's has to cover to be compared with
AGES = 2  # templates whose size is nearest
_WIDTH = 0.6  # standard deviation of the blur, in distances between points


def align_to_template(
    values: NDArray[np.float32], inside: NDArray[np.bool_], affine: Float, templates: Sequence[Template]
) -> Placement:
    """Find how a brain lies in the space of the template that it looks like most.

    Parameters
    ----------
    values : (nx, ny, nz)
        The reconstruction.
    inside : (nx, ny, nz) bool
        Where the brain is.
    affine : (4, 4)
        Voxel index to world, mm RAS+.
    templates : sequence of Template
        Those nearest in size are tried.

    Raises
    ------
    ValueError
        There is no brain.
    """
    if not inside.any():
        raise ValueError("there is no brain to align: the mask is empty")
    size = inside.sum() * abs(np.linalg.det(affine[:3, :3]))
    nearest = sorted(templates, key=lambda template: abs(math.log(template.volume / size)))[:AGES]
    shown = np.where(inside, values, 0.0).astype(np.float32)
    placed = [_placed(_Pair(shown, inside, affine, template)) for template in nearest]
    return max(placed, key=lambda placement: placement.ncc)


class _Pair:
    """A brain and a template, compared at points of the brain's world, which a transform takes to the template's."""

    def __init__(self, values: NDArray[np.float32], inside: NDArray[np.bool_], affine: Float, template: Template):
        self.values, self.inside, self.affine, self.template = values, inside, affine, template
        self.side = float(np.cbrt(inside.sum() * abs(np.linalg.det(affine[:3, :3]))))
        self.centre, self.target = _centre(inside, affine), _centre(template.inside, template.affine)

    def at(self, across: float) -> _Sampled:
        """The pair on points of which so many lie along the side of a cube as large as the brain."""
        spacing = self.side / across
        points, shown, brain = _points(self.values, self.inside, self.affine, spacing)
        steps = np.linalg.norm(self.template.affine[:3, :3], axis=0)
        blurred = ndimage.gaussian_filter(self.template.values, _WIDTH * spacing / steps)
        to_index = np.asarray(np.linalg.inv(self.template.affine), np.float64)
        return _Sampled(points - self.centre, shown, brain, blurred, self.template.inside, to_index, self.target)

    def transform(self, step: Float, turn: Float) -> Rigid:
        """That of the world which a step (6,) after a rotation (3, 3) about the centres is."""
        turned = np.eye(4)
        turned[:3, :3] = turn
        here, there = np.eye(4), np.eye(4)
        here[:3, 3], there[:3, 3] = -self.centre, self.target
        return Rigid(there) @ Rigid.exp(step) @ Rigid(turned) @ Rigid(here)


@dataclass(frozen=True, eq=False)
class _Sampled:
    """Points (n, 3) mm about a brain's centre, what it shows there (n,) and whether it is there, and the template."""

    points: Float
    shown: Float
    brain: NDArray[np.bool_]
    template: NDArray[np.float32]
    inside: NDArray[np.bool_]
    to_index: Float
    target: Float

    def _index(self, step: Float, turn: Float) -> Float:
        """(3, n) in the template, the brain turned about its centre and moved by a step (6,)."""
        moved = Rigid.exp(step).map(self.points @ turn.T) + self.target
        return np.asarray((moved @ self.to_index[:3, :3].T + self.to_index[:3, 3]).T)

    def seen(self, step: Float, turn: Float) -> Float:
        """The template (n,) at the points."""
        return np.asarray(ndimage.map_coordinates(self.template, self._index(step, turn), order=1, output=np.float64))

    def anatomy(self, step: Float, turn: Float) -> float:
        """Correlation with the template inside both brains; -1 where they have little in common."""
        inside = ndimage.map_coordinates(self.inside.astype(np.float32), self._index(step, turn), order=1) > 0.5
        both = self.brain & inside
        if both.sum() < LEAST_SHARED * self.brain.sum():
            return -1.0
        return float((_normalised(self.shown[both]) * _normalised(self.seen(step, turn)[both])).sum())

    def ncc(self, step: Float, turn: Float) -> float:
        """Correlation with the template there."""
        return float((_normalised(self.shown) * _normalised(self.seen(step, turn))).sum())

    def followed(self, step: Float, turn: Float) -> tuple[float, Float]:
        """The best correlation near a step (6,) after a rotation, and the step that leads to it."""
        here = _normalised(self.shown)
        scale = np.repeat([1.0, 0.03], 3)  # mm and rad that move the edge of a brain alike
        # Images of length 1 differ by 2 - 2 ncc in the square.
        found = least_squares(
            lambda x: _normalised(self.seen(x * scale, turn)) - here,
            step / scale,
            method="lm",  # without BLAS, whose sums depend on the number of threads
            diff_step=0.05,
            max_nfev=100,
        )
        return 1.0 - float(found.cost), np.asarray(found.x * scale)


def _placed(pair: _Pair) -> Placement:
    coarse, nothing = pair.at(COARSE), np.zeros(6)
    turns = uniform_rotations(ROTATIONS)
    scores = np.array([coarse.ncc(nothing, turn) for turn in turns])
    starts: list[int] = []
    for number in np.argsort(-scores, kind="stable").tolist():
        if all(_angle(turns[number], turns[other]) > APART for other in starts):
            starts.append(number)
        if len(starts) == FOLLOWED:
            break
    medium, ends = pair.at(MEDIUM), list[_End]()
    for _, end in sorted((_End.of(coarse, nothing, turns[start]) for start in starts), key=lambda found: -found[0]):
        if all(_angle(end.rotation, other.rotation) > SAME for other in ends):
            ends.append(end)
    judged = [(medium.anatomy(end.step, end.turn), end) for end in (_End.of(medium, *end)[1] for end in ends)]
    anatomy, best = max(judged, key=lambda end: end[0])
    elsewhere = [other for other, end in judged if _angle(best.rotation, end.rotation) > APART]
    ncc, best = _End.of(pair.at(FINE), *best)
    return Placement(pair.transform(*best), pair.template.name, ncc, anatomy - max(elsewhere, default=-1.0))


class _End(NamedTuple):
    """Where an orientation was followed to: a step (6,) after a rotation (3, 3)."""

    step: Float
    turn: Float

    @classmethod
    def of(cls, pair: _Sampled, step: Float, turn: Float) -> tuple[float, _End]:
        """The best correlation near a step after a rotation, and the end that has it."""
        ncc, step = pair.followed(step, turn)
        return ncc, cls(step, turn)

    @property
    def rotation(self) -> Float:
        """(3, 3) of both together."""
        return np.asarray(Rigid.exp(self.step).rotation @ self.turn)


def _normalised(image: Float) -> Float:
    """An image (n,) of mean 0 and length 1."""
    image = image - image.mean()
    return np.asarray(image / max(math.sqrt(float((image * image).sum())), 1e-30))


def _angle(one: Float, other: Float) -> float:
    """Between two rotations, rad."""
    return math.acos(min(1.0, max(-1.0, (float((one * other).sum()) - 1.0) / 2.0)))


def _centre(inside: NDArray[np.bool_], affine: Float) -> Float:
    """(3,) mm: centre of mass of a mask."""
    return np.asarray(affine[:3, :3] @ np.argwhere(inside).mean(axis=0) + affine[:3, 3])


def _points(
    values: NDArray[np.float32], inside: NDArray[np.bool_], affine: Float, spacing: float
) -> tuple[Float, Float, NDArray[np.bool_]]:
    """Points (n, 3) mm of a world-aligned grid on and around a brain, what it shows there, blurred, and where it is."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    reach = np.ceil(SURROUNDINGS / steps).astype(int)
    blurred = ndimage.gaussian_filter(np.pad(values, [(n, n) for n in reach]), _WIDTH * spacing / steps)
    brain = np.pad(inside, [(n, n) for n in reach])
    near = ndimage.distance_transform_edt(~brain, sampling=steps) <= SURROUNDINGS
    padded = affine.copy()
    padded[:3, 3] -= affine[:3, :3] @ reach
    corners = np.argwhere(near) @ padded[:3, :3].T + padded[:3, 3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    axes = [np.arange(a, b + spacing / 2, spacing) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    index = (points - padded[:3, 3]) @ np.linalg.inv(padded[:3, :3]).T
    kept = ndimage.map_coordinates(near.astype(np.float32), index.T, order=0) > 0
    shown = ndimage.map_coordinates(blurred, index[kept].T, order=1, output=np.float64)
    return points[kept], shown, ndimage.map_coordinates(brain.astype(np.float32), index[kept].T, order=1) > 0.5
