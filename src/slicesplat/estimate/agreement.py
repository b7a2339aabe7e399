"""Whether the stacks show the same thing where their slices were put: each is predicted from the others alone.

A field that was fitted to all slices predicts each of them well, wherever it lies. One that never saw a stack does so
only if that stack and the others agree about the anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.pixels import broadcast_to_pixels, sum_over_slices
from slicesplat.geometry.slices import Slices
from slicesplat.motion.acceptance import least_ncc
from slicesplat.motion.align import correlation
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend, predict

SPACING = 5.0
"""mm between the lattice's Gaussians: what slices of one orientation alone resolve along their normal, about."""


@dataclass(frozen=True)
class Agreement:
    """How a stack agrees with the others.

    Attributes
    ----------
    ncc : float
        Mean over its slices of their correlation with what the other stacks predict; NaN where there is nothing to
        compare.
    least : float
        What it has to reach, given the noise. Measured: 0.69 to 0.81 on fetal and infant cases of 2 to 6 stacks, 0.27
        and less for a stack that is turned by 85 degrees.
    """

    ncc: float
    least: float

    @property
    def doubtful(self) -> bool:
        """Whether the stack shows something else, or is not where it should be."""
        return self.ncc < self.least


_DEFAULT = RegistrationSettings()
UNKNOWN = Agreement(np.nan, np.nan)


def agreement(
    slices: Slices,
    weight: NDArray[np.float64],
    stacks: int,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> list[Agreement]:
    """How every stack agrees with the others, by its number.

    Parameters
    ----------
    slices : Slices
        At their final poses.
    weight : (S,)
        Trust in the slices; those without any neither predict nor are predicted.
    stacks : int
        How many stacks there are.
    settings : RegistrationSettings
        For the field, and for the correlation that a slice has to reach.
    backend : Backend
        Where to compute.
    """
    pixels = round(SPACING / 2 / float(np.median(slices.step)))
    coarse = slices.binned(int(np.clip(pixels, 1, slices.shape.min())))
    found = [UNKNOWN] * stacks
    for stack in np.unique(slices.stack):
        own, rest = (np.flatnonzero((slices.stack == stack) == is_own) for is_own in (True, False))
        own = own[weight[own] > 0]
        if not len(own) or not (weight[rest] > 0).any():
            continue
        others, mine = coarse.take(rest), coarse.take(own)
        trust = backend.tensor(others.mask) * broadcast_to_pixels(weight[rest], others, backend.device)
        given = (backend.tensor(others.pixels), trust, np.ones(len(rest)))
        field, _ = fit_lattice(others, *given, SPACING, settings.iterations, settings.ridge, backend)
        p = predict(field, mine, np.ones(len(own)), backend)
        w, y = backend.tensor(mine.mask), backend.tensor(mine.pixels)
        sums = [sum_over_slices(values, mine) for values in (w, w * y, w * p, w * y * y, w * p * p, w * y * p)]
        size = np.maximum(sums[0], 1e-9)
        ncc = np.average(correlation(np.stack(sums, axis=-1)), weights=size)
        found[stack] = Agreement(float(ncc), float(np.average(least_ncc(mine, settings, backend), weights=size)))
    return found
