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

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.pixels import MAD_TO_SIGMA
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.noise import measured_noise, noise_levels
from slicesplat.motion.agreement import agreement
from slicesplat.motion.mirror import mirror_leads
from slicesplat.motion.slice_profile import thinner_errors
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
        By how much more its mirror image correlates with the others than it does itself; NaN as `ncc`.
    """

    ncc: float
    excess: float
    thinner: float = float("nan")
    mirror_lead: float = float("nan")


UNKNOWN = Consistency(float("nan"), float("nan"))
_DEFAULT = RegistrationSettings()


def consistency(
    slices: Slices,
    image: Float,
    gain: Float,
    weight: Float,
    stacks: int,
    random: np.random.Generator,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> list[Consistency]:
    """What every stack would look like if it showed the field, by its number.

    Parameters
    ----------
    slices : Slices
        At their final poses.
    image : (P,)
        What the field predicts for them, gains included.
    gain, weight : (S,)
        Intensity of each slice over that of the field, and trust in it.
    stacks : int
        How many there are.
    random : numpy Generator
        Of the noise.
    settings : RegistrationSettings
    backend : Backend
    """
    owner = slices.slice_of_pixel()
    inside = slices.mask & slices.measured
    there = backend.tensor(inside, torch.bool)
    white = measured_noise(slices, there, backend)
    noise = noise_levels(slices, there, backend, white.reach if white.known else 1)
    usual = float(np.nanmedian(noise)) if np.isfinite(noise).any() else 0.0
    level = np.where(np.isfinite(noise), noise, usual)
    shown = (image / gain[owner] + level[owner] * random.standard_normal(len(image))).astype(np.float32)
    even = (slices.pixels / gain[owner]).astype(np.float32)
    seen = agreement(replace(slices, pixels=shown), weight, stacks, settings, backend)
    found, expected = thinner_errors(slices, (even, shown), weight, stacks, settings, backend)
    leads = mirror_leads(replace(slices, pixels=even), weight, stacks, settings, backend)
    residual, trusted = np.abs(slices.pixels - image), inside & (weight > 0)[owner]
    out = []
    for stack in range(stacks):
        own = trusted & (slices.stack == stack)[owner]
        mine = noise[(slices.stack == stack) & np.isfinite(noise)]
        known = white.known and own.any() and len(mine) and np.median(mine) > 0
        excess = MAD_TO_SIGMA * float(np.median(residual[own]) / np.median(mine)) if known else float("nan")
        thinner = float(found[stack] / expected[stack])
        out.append(Consistency(seen[stack].ncc, excess, thinner, float(leads[stack])))
    return out
