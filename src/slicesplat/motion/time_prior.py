"""Where a slice is expected from the slices that were acquired just before and just after it.

Motion is smooth in time, and jumps. So the expectation is the mean of the motions of the nearest trusted neighbours in
acquisition order, and its uncertainty the typical (median) deviation from it in this examination: a slice of the middle
of the brain overrules it, a sliver of cortex or a slice that lost its signal leans on it. The penalty on a deviation d,
in units of that uncertainty, is d^2 / (1 + d^2 / JUMP^2): a jump costs no more than JUMP^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from slicesplat.geometry.rigid import Float, rigid
from slicesplat.geometry.slices import Slices

JUMP = 3.0
# No examination is so still that a slice may be held to its neighbours more tightly than this.
MIN_TRANSLATION = 0.3  # mm
MIN_ROTATION = np.deg2rad(0.3)
TRUSTED = 0.5


def acquisition_order(slices: Slices, stack: int, interleave: int) -> NDArray[np.int64]:
    """The slices of a stack in the order in which they were acquired: package after package."""
    own = np.flatnonzero(slices.stack == stack)
    return own[np.lexsort((slices.index[own], slices.index[own] % interleave))]


@dataclass(eq=False)
class TimePrior:
    """Expected poses (S, 4, 4) and how far poses stray from them: mm and rad, one figure for all slices."""

    pose: Float
    translation: float
    rotation: float

    def deviation(self, pose: Float) -> Float:
        """Steps (S, 6), v in mm and w in rad, from the expected poses to `pose`, in the expected slice frames."""
        step = np.linalg.inv(self.pose) @ pose
        turn = Rotation.from_matrix(step[:, :3, :3]).as_rotvec()
        return np.concatenate([step[:, :3, 3], turn], axis=1)

    def scales(self) -> Float:
        """(6,) standard deviations of a step."""
        return np.repeat([self.translation, self.rotation], 3)

    def stray(self, pose: Float) -> Float:
        """How far (S,) each slice is from where it is expected, as a root mean square in units of the scales."""
        return np.sqrt(((self.deviation(pose) / self.scales()) ** 2).mean(axis=1))

    def penalty(self, pose: Float) -> tuple[Float, Float]:
        """Penalty (S,) of each slice's pose and its weight (S,) as a quadratic, after Geman and McClure."""
        square = ((self.deviation(pose) / self.scales()) ** 2).sum(axis=1)
        soft = 1.0 / (1.0 + square / JUMP**2)
        return square * soft, soft**2


def time_prior(slices: Slices, weight: Float, interleave: Sequence[int]) -> TimePrior:
    """Expected poses from the present ones.

    Parameters
    ----------
    slices : Slices
        At their present poses.
    weight : (S,)
        Trust in the slices; only those above one half speak for their neighbours.
    interleave : sequence of int
        Packages of each stack.
    """
    transforms = slices.world_transforms()
    expected = transforms.copy()
    for stack in np.unique(slices.stack):
        order = acquisition_order(slices, stack, interleave[stack])
        trusted = np.flatnonzero(weight[order] > TRUSTED)
        for place, s in enumerate(order):
            before, after = trusted[trusted < place][-1:], trusted[trusted > place][:1]
            near = np.concatenate([before, after])
            if len(near) == 0:
                continue
            nearness = 1.0 / np.abs(near - place)
            expected[s] = _mean_transform(transforms[order[near]], nearness, slices.nominal[s, :3, 3])
    prior = TimePrior(expected @ slices.nominal, 1.0, 1.0)
    deviation = prior.deviation(slices.pose)[weight > TRUSTED]
    if len(deviation) == 0:
        return TimePrior(prior.pose, np.inf, np.inf)
    # Median of the length of a three-vector of standard normals: 1.538.
    length = np.linalg.norm(deviation.reshape(-1, 2, 3), axis=2) / 1.538
    translation, rotation = np.median(length, axis=0)
    return TimePrior(prior.pose, max(float(translation), MIN_TRANSLATION), max(float(rotation), MIN_ROTATION))


def _mean_transform(transforms: Float, weights: Float, centre: Float) -> Float:
    """Weighted mean of rigid transforms, translations taken at `centre`."""
    turn = Rotation.from_matrix(transforms[:, :3, :3]).mean(weights)
    moved = np.average(transforms[:, :3, :3] @ centre + transforms[:, :3, 3], axis=0, weights=weights)
    out = rigid(turn.as_rotvec(), moved)
    out[:3, 3] -= out[:3, :3] @ centre
    return out
