"""Stacks are brought to one scale, by their tissue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reconstructions import small
from scipy.ndimage import binary_dilation

from slicesplat.prepare.intensity import scale_intensities


def test_scaling_puts_the_brightest_tissue_at_one_and_gives_the_way_back() -> None:
    stacks = [replace(stack, data=stack.data * np.float32(5 * 3**k)) for k, stack in enumerate(small().stacks)]
    scaled, intensities = scale_intensities(stacks)
    inside = np.concatenate([stack.data[stack.mask] for stack in scaled])
    assert np.percentile(inside, 99) == pytest.approx(1.0, rel=1e-4)
    tissue = [stack.data[stack.mask] for stack in scaled]
    medians = [float(np.median(values[values > 0.2 * np.percentile(values, 99)])) for values in tissue]
    np.testing.assert_allclose(medians, medians[0], rtol=1e-4)
    # The stack of median brightness is scaled by this factor alone.
    np.testing.assert_allclose(scaled[1].data * intensities.scale, stacks[1].data, rtol=1e-4)


def test_air_inside_a_loose_mask_does_not_change_the_scale() -> None:
    tight = small().stacks
    grown = binary_dilation(tight[1].mask, iterations=2)
    # Enough air to halve the median of what is inside.
    assert np.median(tight[1].data[grown]) < 0.6 * np.median(tight[1].data[tight[1].mask])
    loose, _ = scale_intensities([tight[0], replace(tight[1], mask=grown), tight[2]])
    scaled, _ = scale_intensities(tight)
    for with_air, without in zip(loose, scaled, strict=True):
        assert with_air.data.sum() == pytest.approx(without.data.sum(), rel=0.1)
