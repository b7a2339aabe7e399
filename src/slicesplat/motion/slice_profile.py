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
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.pixels import broadcast_to_pixels, sum_over_slices
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.motion.others import binned_to
from slicesplat.solvers.amplitudes import placed_lattice, solve_amplitudes
from slicesplat.splat import CPU, Backend, ForwardModel

SPACING = 2.5
"""mm between the lattice's Gaussians, and pixels: less than slices are thick."""
THINNER = float(np.sqrt(0.5))
"""Of the thickness that was said."""
_ITERATIONS = 5
"""Of conjugate gradients: what they have not found yet is missing in what is compared with too."""
_DEFAULT = RegistrationSettings()


def thinner_errors(
    slices: Slices,
    images: Sequence[NDArray[np.float32]],
    weight: Float,
    stacks: int,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> Float:
    """Mean squared errors of predicted slices if all were thinner, over those as it was said: (images, stacks).

    Below 1 where thinner slices predict better; NaN where there is nothing to compare.

    Parameters
    ----------
    slices : Slices
        At their final poses.
    images : sequence of (P,)
        What the slices show, all at one gain.
    weight : (S,)
        Trust in the slices.
    stacks : int
        How many there are.
    settings : RegistrationSettings
    backend : Backend
    """
    which = np.flatnonzero(weight > 0)
    if len(np.unique(slices.stack[which])) < 2:
        return np.full((len(images), stacks), np.nan)
    pixels = pixel_indices(slices.offset, which)
    seen = [binned_to(SPACING, replace(slices.take(which), pixels=image[pixels])) for image in images]
    shown = [backend.tensor(one.pixels) for one in seen]
    trust = backend.tensor(seen[0].mask) * broadcast_to_pixels(weight[which], seen[0], backend.device)
    second = broadcast_to_pixels(_every_second(seen[0]), seen[0], backend.device)
    given = (trust * (1 - second), trust * second, stacks, settings.ridge)
    thin, said = (_errors(_as_thick(seen[0], factor), shown, *given, backend) for factor in (THINNER, 1.0))
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
    slices: Slices,
    images: Sequence[Tensor],
    known: Tensor,
    left_out: Tensor,
    stacks: int,
    ridge: float,
    backend: Backend,
) -> Float:
    """Squared errors of what is left out (P,), predicted from what is known (P,), by image and stack."""
    lattice, forward_model = placed_lattice(slices, SPACING, backend)
    empty, out = lattice.field().amplitudes, []
    for image in images:
        error = _squared(forward_model, image, known, left_out, empty, ridge)
        out.append(np.bincount(slices.stack, sum_over_slices(error, slices), stacks))
    return np.array(out)


def _squared(
    forward_model: ForwardModel, image: Tensor, known: Tensor, left_out: Tensor, empty: Tensor, ridge: float
) -> Tensor:
    """(P,) weighted squared errors, the prediction as bright as the image."""
    ones = np.ones(forward_model.slices)
    amplitudes = solve_amplitudes(forward_model, image, known, ones, empty, _ITERATIONS, ridge)
    predicted = forward_model.apply(amplitudes, ones)
    square = float((left_out * predicted**2).sum())
    gain = float((left_out * predicted * image).sum()) / square if square > 0 else 1.0
    return left_out * (image - gain * predicted) ** 2
