"""Half of the slices tell whether the other half is as thick as was said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slicesplat.evidence.slice_profile import thinner_errors
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.motion.agreement import PIXEL
from slicesplat.motion.trusted import Trusted
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


def said(*thickness: float) -> Slices:
    """Three still stacks of slices 4 mm thick, said to be as thick as that."""
    config = SimulationConfig(motion="none", pixel=1.6, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.01, seed=2)
    stacks = simulate(*brain_phantom(36.0, 1.4), config).stacks
    peak = max(stack.data.max() for stack in stacks)
    return cut_slices(
        [replace(stack, data=stack.data / peak, thickness=t) for stack, t in zip(stacks, thickness, strict=True)]
    )


def ratios(slices: Slices) -> Float:
    trusted = Trusted(slices, np.ones(len(slices)), PIXEL)
    (found,) = thinner_errors(trusted, [trusted.pixels], 3)
    return found


def test_thinner_slices_predict_better_where_they_are_thinner_than_was_said() -> None:
    right, all_thick = ratios(said(4.0, 4.0, 4.0)), ratios(said(8.0, 8.0, 8.0))
    assert (all_thick < right - 0.05).all()
    one_thick = ratios(said(4.0, 8.0, 4.0))
    assert np.argmin(one_thick / right) == 1 and one_thick[1] < 0.95 * right[1]
