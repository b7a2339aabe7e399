"""Where the brain is, by all stacks together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.segment.place import Place, near, places, together, world_maps

SETTINGS = SegmentationSettings()
HERE = np.array([10.0, -20.0, 30.0])
ELSEWHERE = HERE + np.array([90.0, 0.0, 0.0])
STEPS = {2: np.array([5.0, 5.0, 6.0]), 0: np.array([6.0, 5.0, 5.0])}


def stack(
    balls: Sequence[tuple[np.ndarray, float, float]], axis: int = 2, middle: np.ndarray = HERE, slices: int = 26
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of balls (middle, radius, probability), and the way from world to voxels."""
    shape = np.full(3, 52)
    shape[axis] = slices
    to_world = np.eye(4)
    to_world[:3, :3] = np.diag(STEPS[axis])
    to_world[:3, 3] = middle - STEPS[axis] * (shape - 1) / 2
    points = np.moveaxis(np.indices(shape), 0, -1) * STEPS[axis] + to_world[:3, 3]
    share = np.zeros(shape, np.float32)
    for centre, radius, probability in balls:
        share[np.linalg.norm(points - centre, axis=-1) < radius] = probability
    return share, np.linalg.inv(to_world)


def found(*stacks: tuple[np.ndarray, np.ndarray]) -> list[Place]:
    return places(together(world_maps(*zip(*stacks, strict=True))), SETTINGS)


@pytest.mark.parametrize("radius", [24.0, 32.0, 45.0])
def test_ball_is_found_with_its_size(radius: float) -> None:
    best = found(stack([(HERE, radius, 0.9)]))[0]
    assert np.linalg.norm(best.middle - HERE) < 5
    assert best.radius == pytest.approx(radius, rel=0.15)
    assert best.score > 0.7


def test_brain_is_where_all_stacks_see_one() -> None:
    # In each stack the network is surer of something else, each time at another place.
    lures = [(ELSEWHERE, 30.0, 1.0), (HERE - np.array([0.0, 80.0, 0.0]), 30.0, 1.0)]
    best = found(*(stack([(HERE, 30.0, 0.7), lure], axis) for axis, lure in zip((2, 0), lures, strict=True)))[0]
    assert np.linalg.norm(best.middle - HERE) < 6


def test_long_band_is_less_of_a_brain_than_a_ball() -> None:
    band = [(HERE + np.array([x, 70.0, 0.0]), 20.0, 1.0) for x in range(-90, 100, 10)]
    assert np.linalg.norm(found(stack([*band, (HERE, 30.0, 0.95)]))[0].middle - HERE) < 6


def test_second_brain_is_found_too() -> None:
    two = found(stack([(HERE, 30.0, 0.9), (ELSEWHERE, 28.0, 0.8)]))
    assert len(two) == 2
    assert np.linalg.norm(two[1].middle - ELSEWHERE) < 6


def test_brain_that_moved_is_looked_for_where_the_stack_shows_it() -> None:
    shift = np.array([0.0, 15.0, -10.0])
    maps = world_maps(*zip(stack([(HERE, 30.0, 0.9)]), stack([(HERE + shift, 30.0, 0.9)], 0), strict=True))
    common = places(together(maps), SETTINGS)[0]
    assert np.linalg.norm(near(maps[0], common, SETTINGS).middle - HERE) < 6
    assert np.linalg.norm(near(maps[1], common, SETTINGS).middle - HERE - shift) < 8


def test_stack_that_shows_nothing_there_says_so() -> None:
    maps = world_maps(*zip(stack([(HERE, 30.0, 0.9)]), stack([], 0), strict=True))
    common = places(together(maps), SETTINGS)[0]
    assert near(maps[1], common, SETTINGS).score == 0


def test_nothing_is_found_in_nothing() -> None:
    assert found(stack([])) == []
    assert found(stack([(HERE, 400.0, 0.5)])) == []
