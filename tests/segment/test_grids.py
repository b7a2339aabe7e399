"""Stacks on the grids of the network, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slicesplat.segment.grids import EDGE_PIXELS, EDGE_STEPS, View, brightness, edge_view, find_view
from slicesplat.segment.network import POOLED

SPACING = np.array([1.1, 1.3, 3.3])
SHAPE = (90, 70, 20)


def blob() -> torch.Tensor:
    """A soft ball in the middle of a stack."""
    axes = [step * (np.arange(n) - (n - 1) / 2) for n, step in zip(SHAPE, SPACING, strict=True)]
    square = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))
    return torch.from_numpy(np.exp(-square / (2 * 14.0**2)).astype(np.float32))


@pytest.mark.parametrize("view", [find_view(SHAPE, SPACING), View.around([45, 45, 31], [2.3, 2.3, 3.7], (48, 48, 12))])
def test_even_image_stays_even_whatever_the_grid(view: View) -> None:
    seen = view.of(torch.ones(SHAPE), SPACING)
    assert seen.shape == (view.shape[2], view.shape[0], view.shape[1])
    middle = seen[seen.shape[0] // 2, 5:-10, 5:-10]
    np.testing.assert_allclose(middle[middle > 0.999].numpy(), 1.0, atol=1e-5)
    assert float(seen.max()) < 1 + 1e-5


def test_what_is_found_comes_back_to_where_it_was() -> None:
    view = edge_view(SHAPE, SPACING, (np.array(SHAPE) - 1) / 2 * SPACING, 40.0)
    back = view.back(view.of(blob(), SPACING), SHAPE, SPACING)
    assert float((back - blob()).abs().max()) < 0.04


def test_beyond_the_view_nothing_is_found() -> None:
    view = View.around([20, 20, 30], [2.0, 2.0, 3.3], (8, 8, 6))
    back = view.back(torch.ones(6, 8, 8), SHAPE, SPACING)
    assert float(back[60:].max()) == 0 and float(back[:, 60:].max()) == 0
    assert float(back.max()) == pytest.approx(1.0, abs=1e-5)


def test_whole_view_holds_the_stack_and_can_be_pooled() -> None:
    view = find_view((320, 300, 30), [1.1, 1.1, 3.0])
    assert view.shape[0] % POOLED == view.shape[1] % POOLED == 0
    assert (np.array(view.shape) * view.steps >= np.array([320, 300, 30]) * [1.1, 1.1, 3.0] - 1e-9).all()


def test_edge_view_takes_slices_as_they_are_and_no_more_than_there_are() -> None:
    middle = (np.array(SHAPE) - 1) / 2 * SPACING
    view = edge_view(SHAPE, SPACING, middle, 30.0)
    assert view.shape[:2] == (EDGE_PIXELS, EDGE_PIXELS)
    assert view.steps[2] == SPACING[2]
    number = view.first[2] / SPACING[2]
    assert number == pytest.approx(round(number)) and number >= 0 and number + view.shape[2] <= SHAPE[2]
    # A place outside of the stack still has slices to look at.
    assert edge_view(SHAPE, SPACING, middle + np.array([0, 0, 500]), 30.0).shape[2] >= 1


def test_slices_that_overlap_are_put_together() -> None:
    view = edge_view((90, 70, 120), [1.1, 1.1, 0.8], [50, 40, 48], 60.0)
    assert view.steps[2] == pytest.approx(60 / EDGE_STEPS)


def test_brightness_has_no_unit_and_no_outliers() -> None:
    data = np.random.default_rng(0).uniform(0, 5, (20, 20, 5)).astype(np.float32)
    spoilt = data * 1000
    spoilt[0, 0, 0], spoilt[0, 0, 1] = np.inf, np.nan
    one, other = brightness(data), brightness(spoilt)
    np.testing.assert_allclose(one[1:].numpy(), other[1:].numpy(), rtol=0.01)
    assert torch.isfinite(other).all() and float(other.max()) < 1.3
