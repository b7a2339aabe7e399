"""What surrounds the region: a second lattice of Gaussians, for what the fitted field leaves unexplained around it.

The surroundings do not move with the region, so that they cannot be sharp where it moved, and must not disturb its fit:
poses, gains and the region's own field stay as they are, and a lattice over the pixels outside the masks is solved for
the rest. The pixels just inside hold its rim to zero, so that the two join without a seam.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slicesplat.config import SampleSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import Weights
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend, predict

_DEFAULT = SampleSettings()


def background_field(
    wide: Slices,
    region: GaussianField,
    weights: Weights,
    settings: SampleSettings = _DEFAULT,
    backend: Backend = CPU,
) -> GaussianField:
    """The field to be added to the region's own outside it.

    Parameters
    ----------
    wide : Slices
        The slices at their final poses, cropped with a margin around their masks.
    region : GaussianField
        What was fitted inside the masks.
    weights : Weights
        Gains and trust of the slices; the pixels' own weights are those of other crops, and not used.
    settings : SampleSettings
    backend : Backend
        Where to compute.
    """
    rest = backend.tensor(wide.pixels) - predict(region, wide, weights.gain, backend)
    spacing = settings.background_spacing * float(np.median(wide.step))
    trust = broadcast_to_pixels(weights.slice, wide, backend.device) * backend.tensor(wide.measured)
    given = (rest, trust, weights.gain, spacing, settings.background_iterations)
    return fit_lattice(replace(wide, mask=~wide.mask), *given, backend=backend)[0]
