"""Whether slices are thinner than was said: half of the slices predict the other half, as thick as said and thinner.

A slice that is said to be thicker than it is predicts too smooth an image of itself. So every second slice of each
stack is predicted from the others, twice, and the errors are compared: a profile likelihood at two thicknesses. How
they differ where the thickness is right depends on the distance of the slices, on the anatomy and on the noise; so the
ratio is to be held against that of images that are as thick as was said. A stack of something else looks thinner too.

That slices are thicker than was said cannot be told so: the field takes the blur over, and real slices are somewhat
thicker than their nominal thickness. docs/method.md, Motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RegistrationSettings
from slicesplat.field.lattice import Lattice, lattice_over
from slicesplat.geometry.pixels import sum_over_slices
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.motion.trusted import Trusted
from slicesplat.solvers.amplitudes import solve_amplitudes
from slicesplat.splat import CPU, Backend, ForwardModel, set_geometry

SPACING = 2.5
"""mm between the lattice's Gaussians: less than slices are thick."""
THINNER = float(np.sqrt(0.5))
"""Of the thickness that was said."""
_ITERATIONS = 5
"""Of conjugate gradients: what they have not found yet is missing in what is compared with too."""
_DEFAULT = RegistrationSettings()


def thinner_errors(
    trusted: Trusted,
    images: Sequence[Tensor],
    stacks: int,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Float:
    """Mean squared errors of predicted slices if all were thinner, over those as it was said: (images, stacks).

    Below 1 where thinner slices predict better; NaN where there is nothing to compare.

    Parameters
    ----------
    trusted : Trusted
        The slices at their final poses, of more than one stack, with pixels no coarser than `SPACING`.
    images : sequence of (P,)
        What the slices show, all at one gain.
    stacks : int
        How many there are.
    settings : RegistrationSettings
    backend : Backend
    """
    thin, said = (_errors(trusted, images, factor, stacks, settings.ridge, backend) for factor in (THINNER, 1.0))
    return np.divide(thin, said, out=np.full_like(said, np.nan), where=said > 0)


def _every_second(slices: Slices) -> NDArray[np.bool_]:
    """(S,) every second slice of each stack, by its position."""
    out = np.zeros(len(slices), bool)
    for stack in np.unique(slices.stack):
        own = np.flatnonzero(slices.stack == stack)
        out[own[np.argsort(slices.index[own])][1::2]] = True
    return out


def _as_thick(slices: Slices, factor: float) -> Slices:
    """The slices with their profiles stretched."""
    covariances = slices.psf_covariances.copy()
    covariances[:, :, 2] *= factor**2
    return replace(slices, psf_covariances=covariances, psf_offsets=slices.psf_offsets * factor)


def _errors(
    trusted: Trusted, images: Sequence[Tensor], factor: float, stacks: int, ridge: float, backend: Backend
) -> Float:
    """Squared errors of every second slice, predicted from those between, by image and stack."""
    slices = _as_thick(trusted.slices, factor)
    lattice = lattice_over(slices, SPACING, backend.device)
    second = _every_second(slices)
    between, left_out = (_Half(slices, half, trusted.trust, lattice, backend) for half in (~second, second))
    empty, out = lattice.field().amplitudes, []
    for image in images:
        amplitudes = solve_amplitudes(*between.given(image), empty, _ITERATIONS, ridge)
        error = left_out.errors(image, amplitudes)
        out.append(np.bincount(left_out.slices.stack, sum_over_slices(error, left_out.slices), stacks))
    return np.array(out)


class _Half:
    """Some of the slices, and the lattice of all."""

    def __init__(
        self, slices: Slices, which: NDArray[np.bool_], trust: Tensor, lattice: Lattice, backend: Backend
    ) -> None:
        self.slices = slices.take(np.flatnonzero(which))
        pixels = pixel_indices(slices.offset, np.flatnonzero(which))
        self._pixels = backend.tensor(pixels, torch.int64)
        self._trust, self._ones = trust[self._pixels], np.ones(len(self.slices))
        self._forward_model = backend.forward_model(self.slices)
        set_geometry(self._forward_model, lattice.field(), self.slices.pose)

    def given(self, image: Tensor) -> tuple[ForwardModel, Tensor, Tensor, Float]:
        """Forward model, pixels, weights and gains to find the amplitudes from an image (P,) of all."""
        return self._forward_model, image[self._pixels], self._trust, self._ones

    def errors(self, image: Tensor, amplitudes: Tensor) -> Tensor:
        """Weighted squared errors of the prediction, as bright as the image (P,) of all."""
        seen, predicted = image[self._pixels], self._forward_model.apply(amplitudes, self._ones)
        square = float((self._trust * predicted**2).sum())
        gain = float((self._trust * predicted * seen).sum()) / square if square > 0 else 1.0
        return self._trust * (seen - gain * predicted) ** 2
