"""Whether the stacks show the same thing where their slices were put: each is predicted from the others alone.

A field that was fitted to all slices predicts each of them well, wherever it lies. One that never saw a stack does so
only if that stack and the others agree about the anatomy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RegistrationSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels, sum_over_slices
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices
from slicesplat.motion.acceptance import least_ncc
from slicesplat.motion.align import correlation
from slicesplat.motion.others import Others
from slicesplat.motion.trusted import Trusted, binned_to, comparable
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend, predict

SPACING = 5.0
"""mm between the lattice's Gaussians: what slices of one orientation alone resolve along their normal, about."""

PIXEL = SPACING / 2
"""mm: pixels of what is compared."""

SHOWN = 0.25
"""Of the brightest tissue: pixels that are darker than that on both sides show air, in which everything agrees.

Measured with masks 5 mm too wide around eight stacks of an infant: with the air, stacks in place correlate by 0.90 to
0.92 and those that are turned by 0.80 to 0.87; without it by 0.78 to 0.80, and by 0.55 to 0.73. Of masks without air
nothing changes.
"""
_BRIGHTEST = 90.0
"""Percentile of what masks hold that stands for the brightest tissue."""


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
    if not comparable(slices, weight):
        return [UNKNOWN] * stacks
    others = all_but_one(Trusted(slices, weight, PIXEL, backend), settings, backend)
    fields = {stack: others.amplitudes(stack) for stack in others.stacks}
    return agreement_with(fields, others, stacks, settings, backend)


def all_but_one(trusted: Trusted, settings: RegistrationSettings = _DEFAULT, backend: Backend = CPU) -> Others:
    """What predicts stacks that are to be compared: no finer than one orientation alone tells."""
    return Others(trusted, SPACING, settings, backend)


def agreement_with(
    fields: Mapping[int, Tensor],
    others: Others,
    stacks: int,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> list[Agreement]:
    """How every stack agrees with the field of the others, amplitudes (N,) by the stack's number."""
    found, slices = [UNKNOWN] * stacks, others.slices
    least, size = least_ncc(slices, settings, backend), sum_over_slices(backend.tensor(slices.mask), slices)
    ncc = mean_ncc(fields, others, backend.tensor(slices.pixels), backend)
    for stack in fields:
        own = others.own(stack)
        found[stack] = Agreement(ncc[stack], float(np.average(least[own], weights=np.maximum(size[own], 1e-9))))
    return found


def mean_ncc(fields: Mapping[int, Tensor], others: Others, pixels: Tensor, backend: Backend = CPU) -> dict[int, float]:
    """Mean correlation of each stack's slices, which show `pixels` (P,), with the field (N,) of the others."""
    found, ones = {}, np.ones(len(others.slices))
    for stack, amplitudes in fields.items():
        own = others.own(stack)
        ncc, size = _compared(others.forward_model.apply(amplitudes, ones), pixels, others.slices, backend)
        found[stack] = float(np.average(ncc[own], weights=size[own]))
    return found


def field_of(
    coarse: Slices,
    which: NDArray[np.int64],
    weight: Float,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> GaussianField:
    """What some slices show inside their masks, by their weights: no finer than one orientation alone tells."""
    others = coarse.take(which)
    trust = backend.tensor(others.mask) * broadcast_to_pixels(weight, others, backend.device)
    given = (backend.tensor(others.pixels), trust, np.ones(len(others)))
    return fit_lattice(others, *given, SPACING, settings.iterations, settings.ridge, backend)[0]


def predicted(field: GaussianField, slices: Slices, backend: Backend = CPU) -> tuple[Float, Float]:
    """Correlation (S,) of slices with what a field shows where they are, inside their masks, and pixels (S,) there."""
    image = predict(field, slices, np.ones(len(slices)), backend)
    return _compared(image, backend.tensor(slices.pixels), slices, backend)


def _compared(image: Tensor, y: Tensor, slices: Slices, backend: Backend) -> tuple[Float, Float]:
    """Correlation (S,) of slices that show y (P,) with an image (P,) of them, inside masks, and pixels (S,) there.

    Where neither shows anything they are not compared.
    """
    shown = y.cpu().numpy()[slices.mask]
    level = SHOWN * float(np.percentile(shown, _BRIGHTEST)) if shown.size else 0.0
    w = backend.tensor(slices.mask) * ((y > level) | (image > level))
    sums = [sum_over_slices(values, slices) for values in (w, w * y, w * image, w * y * y, w * image**2, w * y * image)]
    return correlation(np.stack(sums, axis=-1)), np.maximum(sums[0], 1e-9)


def binned_for_agreement(slices: Slices) -> Slices:
    """The slices with pixels as coarse as what is compared."""
    return binned_to(PIXEL, slices)
