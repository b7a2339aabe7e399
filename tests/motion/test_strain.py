"""Two stacks leave one strain of the world open: their slices follow it as rigid bodies."""

from __future__ import annotations

import numpy as np
import pytest
from balls import distance, full, sheared, three_stacks

from slicesplat.geometry.rigid import Rigid
from slicesplat.motion.strain import least_shown_strain


def trust_in(*stacks: int) -> np.ndarray:
    return np.isin(three_stacks().stack, stacks).astype(float)


@pytest.mark.parametrize(("stacks", "share"), [((0, 1), 0.0), ((1, 2), 0.0), ((0,), 0.0), ((0, 1, 2), 1 / 3)], ids=str)
def test_a_third_direction_shows_what_two_do_not(stacks: tuple[int, ...], share: float) -> None:
    np.testing.assert_allclose(least_shown_strain(three_stacks(), trust_in(*stacks)), share, atol=0.01)


def test_turning_the_world_changes_nothing_and_trust_counts() -> None:
    slices, weight = three_stacks(), trust_in(0, 1) + 0.1 * trust_in(2)
    share = least_shown_strain(slices, weight)
    assert 0.02 < share < 0.2
    turned = slices.moved(Rigid.exp(np.tile([5.0, 3, 1, 0.4, -0.7, 0.2], (len(slices), 1))))
    np.testing.assert_allclose(least_shown_strain(turned, weight), share, atol=1e-9)
    assert least_shown_strain(slices, full(slices, 0.0)) == 0.0


def test_slices_of_two_stacks_follow_a_shear_and_those_of_a_third_do_not() -> None:
    """What is said of strains, by points: the first two stacks have normals along z and y."""
    slices, strain = three_stacks(), np.eye(3)
    strain[[1, 2], [2, 1]] = 0.03 / 2
    followed = sheared(slices, 0.03)
    left = [
        np.linalg.norm(followed.world_points(s) - slices.world_points(s) @ strain.T, axis=1).max()
        for s in range(len(slices))
    ]
    assert max(np.array(left)[slices.stack < 2]) < 0.01
    assert max(np.array(left)[slices.stack == 2]) > 0.1
    assert distance(slices, followed.pose, slices.pose).max() > 0.2
