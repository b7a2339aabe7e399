"""A region that was cut off has a flat face, whichever way it was cut; one that is whole has none."""

from __future__ import annotations

import numpy as np
import pytest

from slicesplat.evidence.faces import flat_share

X, Y, Z = np.indices((56, 56, 56)) - 27.5
BRAIN = (X / 18) ** 2 + (Y / 23) ** 2 + (Z / 17) ** 2 < 1


@pytest.mark.parametrize("spacing", [0.8, 2.0])
def test_a_whole_region_looks_all_ways(spacing: float) -> None:
    assert flat_share(BRAIN, spacing) < 0.09


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, 1, 0), (0.6, -0.3, 0.74)])
@pytest.mark.parametrize("depth", [0.0, 5.0])
def test_a_cut_off_part_leaves_a_face(normal: tuple[float, float, float], depth: float) -> None:
    kept = normal[0] * X + normal[1] * Y + normal[2] * Z < depth
    assert flat_share(BRAIN & kept, 2.0) > 0.18


def test_of_no_region_nothing_is_known() -> None:
    assert np.isnan(flat_share(np.zeros((4, 4, 4)), 1.0))
