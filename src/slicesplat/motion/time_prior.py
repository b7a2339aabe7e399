"""Where a slice is expected from the slices that were acquired just before and just after it.

Motion is smooth in time, and jumps. So the expectation is the mean of the motions of the nearest trusted neighbours in
acquisition order, and its uncertainty the typical (median) deviation from it in this examination: a slice of the middle
of the brain overrules it, a sliver of cortex or a slice that lost its signal leans on it. The penalty on a deviation d,
in units of that uncertainty, is d^2 / (1 + d^2 / J^2): a jump costs no more than J^2. docs/method.md, Motion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import TimePriorSettings
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices

_DEFAULT = TimePriorSettings()
_MEDIAN_LENGTH = 1.538  # of a three-vector of standard normals


@dataclass(frozen=True, eq=False)
class TimePrior:
    """Expected poses and how far poses stray from them.

    Attributes
    ----------
    pose : Rigid (S)
        Slice frame to world.
    translation, rotation : float
        Standard deviation, mm and rad, one figure for all slices.
    jump : float
        Deviation, in units of them, beyond which more costs nothing.
    gap : (S,) or None
        How many times more uncertain each slice is for the distance of its neighbours; None where that does not count.
    """

    pose: Rigid
    translation: float
    rotation: float
    jump: float = _DEFAULT.jump
    gap: Float | None = None

    def __getitem__(self, which: NDArray[np.integer]) -> TimePrior:
        return replace(self, pose=self.pose[which], gap=None if self.gap is None else self.gap[which])

    def deviation(self, pose: Rigid) -> Float:
        """Steps (S, 6), v in mm and w in rad, from the expected poses to `pose`, in the expected slice frames."""
        return (~self.pose @ pose).log()

    def scales(self) -> Float:
        """(S, 6), or (1, 6) where they are the same for all, standard deviations of a step."""
        common = np.repeat([self.translation, self.rotation], 3)
        return common[None] if self.gap is None else self.gap[:, None] * common

    def stray(self, pose: Rigid) -> Float:
        """How far (S,) each slice is from where it is expected, as a root mean square in units of the scales."""
        return np.asarray(np.sqrt(((self.deviation(pose) / self.scales()) ** 2).mean(axis=1)))

    def penalty(self, pose: Rigid) -> tuple[Float, Float]:
        """Penalty (S,) of each slice's pose and its weight (S,) as a quadratic, after Geman and McClure."""
        square = ((self.deviation(pose) / self.scales()) ** 2).sum(axis=1)
        soft = 1.0 / (1.0 + square / self.jump**2)
        return square * soft, soft**2


def time_prior(
    slices: Slices, weight: Float, settings: TimePriorSettings = _DEFAULT, by_distance: bool = False
) -> TimePrior:
    """Expected poses from the present ones.

    Parameters
    ----------
    slices : Slices
        At their present poses.
    weight : (S,)
        Trust in the slices; only those above a limit speak for their neighbours.
    settings : TimePriorSettings
    by_distance : bool
        Whether a slice is less certain the further in time its neighbours are, and beyond the last of them. For a
        random walk, pinned m and n steps away, the variance is 2 m n / (m + n) times that between two next neighbours.
    """
    expected, centre = slices.motion.matrix.copy(), slices.frame.translation
    gap = np.ones(len(slices))
    for who, those, nearness in neighbours_in_time(slices, weight > settings.trusted):
        expected[who] = slices.motion[those].mean(nearness, centre[who]).matrix
        gap[who] = np.sqrt(2.0 / nearness.sum(axis=1))
    prior = TimePrior(Rigid(expected) @ slices.frame, np.inf, np.inf, settings.jump, gap if by_distance else None)
    deviation = prior.deviation(slices.pose)[weight > settings.trusted]
    if len(deviation) == 0:
        return prior
    translation, rotation = typical(deviation, settings)
    return replace(prior, translation=translation, rotation=rotation)


def gone_and_back(slices: Slices, weight: Float, settings: TimePriorSettings = _DEFAULT) -> Float:
    """How far (S,) slices stray from both trusted neighbours in time the same way, in units of the scales.

    The root of the mean product of the two steps from where either has the slice, zero where they point apart. In even
    motion a slice is between its neighbours, after a jump it is where the next one is; one for which the subject went
    away and came back moved while it was acquired, or was not found. Where there is one neighbour alone, the root mean
    square of that step. The scales grow with the distance in time as those of a random walk. Slices without a neighbour
    are at 0.

    Parameters: as `time_prior`.
    """
    prior, out = time_prior(slices, weight, settings, by_distance=True), np.zeros(len(slices))
    for who, those, _ in neighbours_in_time(slices, weight > settings.trusted):
        alone = [replace(prior[who], pose=slices.motion[one] @ slices.frame[who]) for one in those.T]
        steps = [expected.deviation(slices.pose[who]) / expected.scales() for expected in alone]
        out[who] = np.sqrt(np.maximum((steps[0] * steps[-1]).mean(axis=1), 0.0))
    return out


def typical(deviation: Float, settings: TimePriorSettings = _DEFAULT) -> tuple[float, float]:
    """Standard deviations, mm and rad, of translations and rotations in steps (n, 6) of which some may be outliers."""
    length = np.linalg.norm(deviation.reshape(-1, 2, 3), axis=2) / _MEDIAN_LENGTH
    translation, rotation = np.median(length, axis=0)
    least = (settings.least_translation, float(np.deg2rad(settings.least_rotation)))
    return max(float(translation), least[0]), max(float(rotation), least[1])


def neighbours_in_time(
    slices: Slices, trusted: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Float]]:
    """Slices (n,) of a stack that have one trusted neighbour in time, or two; which (n, 1 or 2), and how near they are.

    Nearness is one over the distance in slices.
    """
    for stack in np.unique(slices.stack):
        order = slices.in_time(stack)
        near = _neighbours(trusted[order])
        for count in (1, 2):
            place = np.flatnonzero((near >= 0).sum(axis=1) == count)
            those = near[place][near[place] >= 0].reshape(-1, count)
            yield order[place], order[those], 1.0 / np.abs(those - place[:, None])


def _neighbours(trusted: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(n, 2) of n in a row, the nearest ones before and after that are trusted; -1 where there is none.

    Examples
    --------
    >>> _neighbours(np.array([False, True, False, True])).tolist()
    [[-1, 1], [-1, 3], [1, 3], [1, -1]]
    """
    found = np.flatnonzero(trusted)
    known, place = np.append(found, -1), np.arange(len(trusted))
    # One before the first, and one after the last, is the -1 at the end.
    before, after = np.searchsorted(found, place, "left") - 1, np.searchsorted(found, place, "right")
    return np.stack([known[before], known[after]], axis=1)
