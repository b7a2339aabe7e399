"""How sure masks are."""

from __future__ import annotations

import numpy as np
import pytest

from slicesplat.segment.agree import confidences
from slicesplat.segment.look import Drawn


def drawn(inside: float, outside: float) -> Drawn:
    share = np.full((20, 20, 4), outside, np.float32)
    share[5:15, 5:15, 1:3] = inside
    return Drawn(share, 0.0)


def test_confidence_is_the_overlap_that_probabilities_promise() -> None:
    whole, of_slices = confidences(drawn(1.0, 0.0))
    assert whole == pytest.approx(1.0)
    np.testing.assert_allclose(of_slices, [np.nan, 1.0, 1.0, np.nan])
    # Masks drawn from such probabilities, and the truth drawn from them too.
    unsure = drawn(0.7, 0.1)
    random = np.random.default_rng(0)
    truth = random.random((200, *unsure.share.shape)) < unsure.share
    hits = (truth & unsure.mask).sum(axis=(1, 2, 3))
    overlaps = 2 * hits / (truth.sum(axis=(1, 2, 3)) + unsure.mask.sum())
    assert confidences(unsure)[0] == pytest.approx(overlaps.mean(), abs=0.01)


def test_confidence_of_nothing_is_none() -> None:
    whole, of_slices = confidences(drawn(0.1, 0.0))
    assert whole == 0 and np.isnan(of_slices).all()
