"""From slices to pixels and back, and medians, as numpy has them."""

from __future__ import annotations

import numpy as np
import torch

from slicesplat.geometry.pixels import broadcast_to_pixels, median, sum_over_slices
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack


def slices() -> Slices:
    """Slices of different size."""
    index = np.indices((12, 9, 6)).reshape(3, -1).T
    mask = (np.linalg.norm((index - [5.5, 4.0, 2.5]) * [1.0, 1.0, 2.0], axis=1) < 4.5).reshape(12, 9, 6)
    return cut_slices([Stack(np.zeros((12, 9, 6), np.float32), mask, np.diag([1.0, 1.0, 2.0, 1.0]), 2.0)])


def test_sums_and_medians_are_numpys() -> None:
    scan, rng = slices(), np.random.default_rng(0)
    assert len(np.unique(np.diff(scan.offset))) > 1
    values = rng.normal(size=len(scan.pixels)).astype(np.float32)
    sums = sum_over_slices(torch.from_numpy(values), scan)
    np.testing.assert_allclose(sums, np.add.reduceat(values, scan.offset[:-1], dtype=np.float64), rtol=1e-12)
    per_slice = rng.normal(size=len(scan))
    expected = np.repeat(per_slice, np.diff(scan.offset)).astype(np.float32)
    np.testing.assert_array_equal(broadcast_to_pixels(per_slice, scan, torch.device("cpu")), expected)
    for some in (values, values[1:], values[:1], np.repeat(values[:3], 4)):
        assert median(torch.from_numpy(some.copy())) == np.median(some)
