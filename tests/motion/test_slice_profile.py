"""Half of the slices tell whether the other half is as thick as was said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.motion.slice_profile import thinner_errors
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
    (found,) = thinner_errors(slices, [slices.pixels], np.ones(len(slices)), 3)
    return found


def test_thinner_slices_predict_better_where_they_are_thinner_than_was_said() -> None:
    right, all_thick = ratios(said(4.0, 4.0, 4.0)), ratios(said(8.0, 8.0, 8.0))
    assert (all_thick < right - 0.05).all()
    one_thick = ratios(said(4.0, 8.0, 4.0))
    assert np.argmin(one_thick / right) == 1 and one_thick[1] < 0.95 * right[1]


def test_slices_without_trust_change_nothing() -> None:
    slices = said(4.0, 4.0, 4.0)
    trusted = np.ones(len(slices))
    trusted[3] = 0.0
    pixels = slices.pixels.copy()
    slices.image(pixels, 3)[:] = 5.0
    found, spoilt = thinner_errors(slices, [slices.pixels, pixels], trusted, 3)
    np.testing.assert_array_equal(found, spoilt)


def test_of_one_stack_alone_nothing_is_told() -> None:
    slices = said(4.0, 4.0, 4.0)
    alone = thinner_errors(slices, [slices.pixels], (slices.stack == 0).astype(float), 3)
    assert np.isnan(alone).all()
