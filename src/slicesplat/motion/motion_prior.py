"""What is likely of the motions of all slices together: a quadratic form of their steps.

    sum over the slices s   | (D_s - step_s) / scale |^2,   step_s: from where the others have slice s to where it is

twice, each time with another idea of where the others have it: the time prior's, between its neighbours in time, and
the mean motion of its stack. The time prior as `motion.align` has it takes the neighbours for fixed. Here they move
too, so that stacks may go anywhere as a whole, and runs of slices nearly so, at no cost. The second one, as wide as
slices typically stray from their stack's mean, is far too weak to say anything against pixels. It says which of the
motions that no pixel tells apart is the smallest (`motion.strain`). docs/method.md, Motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import TimePriorSettings
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.align import group_jacobian
from slicesplat.motion.time_prior import neighbours_in_time, time_prior, typical

_DEFAULT = TimePriorSettings()


@dataclass(frozen=True, eq=False)
class Expectation:
    """Where slices are expected by others, as they are now.

    Attributes
    ----------
    share : (S, S)
        Of every slice's motion in what is expected of each slice; rows add up to 1, or to 0 where nothing is expected.
    deviation : (S, 6)
        Steps v (mm), w (rad) of the slice's frame from where it is expected to where it is.
    precision : (S, 6)
        One over their variances; 0 where nothing is expected.
    """

    share: Float
    deviation: Float
    precision: Float


@dataclass(frozen=True, eq=False)
class MotionPrior:
    """The form, half of it, about the present poses.

    Attributes
    ----------
    expectations : sequence of Expectation
    to_slice, to_stack : (S, 6, 6)
        From a step of the world about a place that all slices of a stack share to the step of the slice's frame, and
        back.
    """

    expectations: Sequence[Expectation]
    to_slice: Float
    to_stack: Float

    def gradient(self) -> Float:
        """(S, 6) by the slices' steps, where they are."""
        return self._transposed([part.precision * part.deviation for part in self.expectations])

    def matvec(self, steps: Float) -> Float:
        """The form's matrix times steps (S, 6) of the slices in their own frames."""
        common = np.einsum("sij,sj->si", self.to_stack, steps)
        strayed = [steps - self._own(np.einsum("st,tj->sj", part.share, common)) for part in self.expectations]
        return self._transposed([part.precision * step for part, step in zip(self.expectations, strayed, strict=True)])

    def diagonal(self) -> Float:
        """(S, 6), about that of the matrix: what a slice's own deviations cost."""
        return np.sum([part.precision for part in self.expectations], axis=0)

    def _own(self, common: Float) -> Float:
        return np.einsum("sij,sj->si", self.to_slice, common)

    def _transposed(self, forces: Sequence[Float]) -> Float:
        out = np.sum(forces, axis=0)
        for part, force in zip(self.expectations, forces, strict=True):
            common = np.einsum("st,si->ti", part.share, np.einsum("sji,sj->si", self.to_slice, force))
            out -= np.einsum("sji,sj->si", self.to_stack, common)
        return out


def spread(slices: Slices, weight: Float, settings: TimePriorSettings = _DEFAULT) -> tuple[float, float]:
    """How far, mm and rad, trusted slices typically stray from their stack's mean motion; infinitely if there is none.

    Parameters: as `motion_prior`.
    """
    trusted = weight > settings.trusted
    return typical(_from_mean(slices, trusted)[trusted], settings) if trusted.any() else (np.inf, np.inf)


def motion_prior(
    slices: Slices, weight: Float, wide: tuple[float, float], settings: TimePriorSettings = _DEFAULT
) -> MotionPrior:
    """The prior about the present poses.

    Parameters
    ----------
    slices : Slices
        At their present poses.
    weight : (S,)
        Trust in the slices; only those above a limit speak for others, and are drawn to their stack's mean.
    wide : (mm, rad)
        Standard deviations about that, as `spread` has them before any step under the prior: what it has drawn together
        would say that it has to be drawn together more.
    settings : TimePriorSettings
    """
    trusted = weight > settings.trusted
    centre = np.zeros((len(slices), 3))
    for stack in np.unique(slices.stack):
        own = slices.stack == stack
        centre[own] = slices.pose.translation[own].mean(axis=0)
    to_slice = group_jacobian(slices.pose, centre)
    parts = (_by_neighbours(slices, weight, settings), _by_stacks(slices, trusted, wide))
    return MotionPrior(parts, to_slice, np.asarray(np.linalg.inv(to_slice), np.float64))


def _by_neighbours(slices: Slices, weight: Float, settings: TimePriorSettings) -> Expectation:
    """The time prior, with a jump's cost limited as it is now."""
    prior, share = time_prior(slices, weight, settings), np.zeros((len(slices), len(slices)))
    for who, those, nearness in neighbours_in_time(slices, weight > settings.trusted):
        share[who[:, None], those] = nearness / nearness.sum(axis=1, keepdims=True)
    soft = prior.penalty(slices.pose)[1] * share.any(axis=1)
    return Expectation(share, prior.deviation(slices.pose), soft[:, None] / prior.scales() ** 2)


def _by_stacks(slices: Slices, trusted: NDArray[np.bool_], wide: tuple[float, float]) -> Expectation:
    """The mean motion of the trusted slices of each stack."""
    share = (slices.stack[:, None] == slices.stack) & trusted & trusted[:, None]
    count = np.maximum(share.sum(axis=1, keepdims=True), 1)
    return Expectation(share / count, _from_mean(slices, trusted), trusted[:, None] / np.repeat(wide, 3) ** 2)


def _from_mean(slices: Slices, trusted: NDArray[np.bool_]) -> Float:
    """Steps (S, 6) from the mean motion of each stack to that of its trusted slices; 0 for the others."""
    mean = slices.motion.matrix.copy()
    for stack in np.unique(slices.stack[trusted]):
        own = np.flatnonzero((slices.stack == stack) & trusted)
        mean[own] = slices.motion[own].mean(np.ones(len(own)), slices.frame.translation[own].mean(axis=0)).matrix
    return (~(Rigid(mean) @ slices.frame) @ slices.pose).log()
