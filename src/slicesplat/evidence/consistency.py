"""How well stacks could agree: as images of the field itself, with as much noise, where they lie.

How far stacks that show the same correlate with each other depends on the anatomy, on what was measured of it and on
the noise. So the agreement that was found is held against that of stacks in which every slice shows what the field
predicts for it: a posterior predictive check (Gelman, Meng and Stern, Statistica Sinica 6, 1996, 733-760). A stack that
shows something else falls behind, however well it correlates. docs/method.md, Motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RegistrationSettings
from slicesplat.evidence.mirror import mirror_leads
from slicesplat.evidence.slice_profile import thinner_errors
from slicesplat.geometry.pixels import MAD_TO_SIGMA
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.noise import Noise, noise_levels
from slicesplat.motion.agreement import PIXEL, Agreement, agreement_with, all_but_one, mean_ncc
from slicesplat.motion.agreement import UNKNOWN as NO_AGREEMENT
from slicesplat.motion.trusted import Trusted, comparable
from slicesplat.splat import CPU, Backend


@dataclass(frozen=True)
class Consistency:
    """What a stack would look like if it showed the field.

    Attributes
    ----------
    ncc : float
        Mean correlation of its slices with what the other stacks predict; NaN where there is nothing to compare.
    excess : float
        What is left of its pixels without the prediction, over their noise, as medians; NaN where noise is not known.
    thinner : float
        Error of its predicted slices if all slices were thinner, over that as was said, and that over what it would be
        if they were as thick; NaN as `ncc`.
    mirror_lead : float
        By how much more its mirror image correlates with the others than it does itself; NaN as `ncc`, and where the
        stack agrees so well that no mirror image could lead.
    """

    ncc: float = float("nan")
    excess: float = float("nan")
    thinner: float = float("nan")
    mirror_lead: float = float("nan")


UNKNOWN = Consistency()
_DEFAULT = RegistrationSettings()
LEAST_GAP = 0.025
"""By so much less than it could a stack agrees whose mirror image can lead by what matters (`VerdictSettings`). The
mirror image of a stack that was swapped is the sound stack, and agrees no better than that could. Measured: swapped
stacks that lead by more than 0.03 agree by 0.1 less than they could, sound ones by up to 0.021."""


def consistency(
    slices: Slices,
    image: Float,
    gain: Float,
    weight: Float,
    noise: Noise,
    stacks: int,
    random: np.random.Generator,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> tuple[list[Agreement], list[Consistency]]:
    """How every stack agrees with the others, and what it would look like if it showed the field, by its number.

    Parameters
    ----------
    slices : Slices
        At their final poses.
    image : (P,)
        What the field predicts for them at gain 1.
    gain, weight : (S,)
        Intensity of each slice over that of the field, and trust in it.
    noise : Noise
        As the fit took it.
    stacks : int
        How many there are.
    random : numpy Generator
        Of the noise.
    settings : RegistrationSettings
    backend : Backend
    """
    owner, unknown = slices.slice_of_pixel(), float("nan")
    trusted = slices.mask & slices.measured & (weight > 0)[owner]
    level = noise_levels(slices, backend.tensor(trusted, torch.bool), backend, noise.step)
    seen, found = [NO_AGREEMENT] * stacks, [UNKNOWN] * stacks
    if comparable(slices, weight):
        even = Trusted(replace(slices, pixels=(slices.pixels / gain[owner]).astype(np.float32)), weight, PIXEL, backend)
        instead = even.pixels_of(_with_noise(image, level, owner, random))
        seen, found = _compared(even, instead, stacks, settings, backend)
    residual = np.abs(slices.pixels - gain[owner] * image)
    out = []
    for stack in range(stacks):
        own = trusted & (slices.stack == stack)[owner]
        mine = level[(slices.stack == stack) & np.isfinite(level)]
        known = noise.known and own.any() and len(mine) and np.median(mine) > 0
        excess = MAD_TO_SIGMA * float(np.median(residual[own]) / np.median(mine)) if known else unknown
        out.append(replace(found[stack], excess=excess))
    return seen, out


def _with_noise(
    image: Float, level: Float, owner: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.float32]:
    """An image (P,) with noise of each slice's level (S,), the usual one where it is not known."""
    usual = float(np.nanmedian(level)) if np.isfinite(level).any() else 0.0
    known = np.where(np.isfinite(level), level, usual)
    return (image + known[owner] * random.standard_normal(len(image))).astype(np.float32)


def _compared(
    trusted: Trusted, instead: Tensor, stacks: int, settings: RegistrationSettings, backend: Backend
) -> tuple[list[Agreement], list[Consistency]]:
    """How stacks agree with the others, and all that is known if they showed other pixels (P,) instead."""
    others = all_but_one(trusted, settings, backend)
    fields = {stack: others.amplitudes(stack) for stack in others.stacks}
    seen = agreement_with(fields, others, stacks, settings, backend)
    # Fields are nearly linear in the pixels: what is new in these is little, and found in half as many steps.
    steps, new = settings.iterations // 2, instead - trusted.pixels
    would = {stack: fields[stack] + others.amplitudes(stack, new, steps) for stack in others.stacks}
    possible = mean_ncc(would, others, instead, backend)
    behind = {stack: fields[stack] for stack in fields if possible[stack] - seen[stack].ncc >= LEAST_GAP}
    leads = mirror_leads(behind, others, stacks, backend)
    thinner, expected = thinner_errors(trusted, (trusted.pixels, instead), stacks, settings, backend)
    found = [UNKNOWN] * stacks
    for stack in others.stacks:
        ratio = float(thinner[stack] / expected[stack])
        found[stack] = Consistency(possible[stack], thinner=ratio, mirror_lead=float(leads[stack]))
    return seen, found
