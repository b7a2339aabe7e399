"""Slices without trust are not there; images of the others become as coarse as they do."""

from __future__ import annotations

import numpy as np
import pytest
from reconstructions import result

from slicesplat.motion.trusted import Trusted, comparable


def test_slices_without_trust_change_nothing() -> None:
    slices = result().slices
    weight = np.ones(len(slices))
    weight[3] = 0.0
    spoilt = slices.pixels.copy()
    slices.image(spoilt, 3)[:] = 5.0
    trusted = Trusted(slices, weight, 3.0)
    assert len(trusted.slices) == len(slices) - 1
    np.testing.assert_array_equal(trusted.pixels_of(spoilt), trusted.pixels)


def test_images_are_binned_as_the_slices_are() -> None:
    slices = result().slices
    trusted = Trusted(slices, np.ones(len(slices)), 3.0)
    assert trusted.slices.step.max() == pytest.approx(3.0, rel=0.34)
    np.testing.assert_array_equal(trusted.pixels_of(slices.pixels), trusted.pixels)
    np.testing.assert_array_equal(trusted.pixels_of(2 * slices.pixels), 2 * trusted.pixels)


def test_trust_is_the_slices_weight_inside_their_masks() -> None:
    slices = result().slices
    weight = np.linspace(0.2, 1.0, len(slices))
    trusted = Trusted(slices, weight, 3.0)
    expected = np.where(trusted.slices.mask, weight[trusted.slices.slice_of_pixel()], 0.0)
    np.testing.assert_allclose(trusted.trust, expected, rtol=1e-6)


def test_only_slices_of_several_stacks_can_be_compared() -> None:
    slices = result().slices
    assert comparable(slices, np.ones(len(slices)))
    assert not comparable(slices, (slices.stack == 1).astype(float))
