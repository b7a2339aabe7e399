"""What surrounds the region: a second lattice of Gaussians, for what the fitted field leaves unexplained around it.

The surroundings do not move with the region, so that they cannot be sharp where it moved, and must not disturb its fit:
poses, gains and the region's own field stay as they are, and a lattice over the pixels outside the masks is solved for
the rest. The pixels just inside hold its rim to zero, so that the two join without a seam.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import Weights
from slicesplat.solvers.amplitudes import placed_lattice, solve_amplitudes
from slicesplat.splat import CPU, Backend, predict

BACKGROUND_MARGIN = 15.0  # mm around the masks
_SPACING = 1.5  # in-plane pixels between the lattice's Gaussians: coarser than where the region's own fit starts
_ITERATIONS = 15


def background_field(wide: Slices, region: GaussianField, weights: Weights, backend: Backend = CPU) -> GaussianField:
    """The field to be added to the region's own outside it.

    Parameters
    ----------
    wide : Slices
        The slices at their final poses, cropped with a margin around their masks.
    region : GaussianField
        What was fitted inside the masks.
    weights : Weights
        Gains and trust of the slices; the pixels' own weights are those of other crops, and not used.
    backend : Backend
        Where to compute.
    """
    rest = backend.tensor(wide.pixels) - predict(region, wide, weights.gain, backend)
    spacing = _SPACING * float(np.median(wide.step))
    field, forward_model = placed_lattice(replace(wide, mask=~wide.mask), spacing, backend)
    trust = broadcast_to_pixels(weights.slice, wide, backend.device) * backend.tensor(wide.measured)
    field.amplitudes = solve_amplitudes(forward_model, rest, trust, weights.gain, field.amplitudes, _ITERATIONS)
    return field
