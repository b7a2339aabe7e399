"""The phantom looks enough like a brain to test a reconstruction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from slicesplat.validation.phantom import brain_phantom


@pytest.fixture(scope="module")
def brain() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return brain_phantom(spacing=1.2)


def test_it_is_about_as_long_as_asked_for() -> None:
    for size in (60.0, 92.0):
        _, _, mask = brain_phantom(size_mm=size, spacing=1.2)
        length = 1.2 * np.ptp(np.flatnonzero(mask.any(axis=(0, 2))))
        assert length == pytest.approx(size, rel=0.06)


def test_the_mask_is_one_piece_and_nothing_lies_outside(brain: tuple[np.ndarray, ...]) -> None:
    volume, _, mask = brain
    assert label(mask)[1] == 1
    assert not volume[~mask].any()
    assert (volume[mask] > 0).all()


def test_the_origin_is_inside_and_axes_are_world_axes(brain: tuple[np.ndarray, ...]) -> None:
    _, affine, mask = brain
    voxel = np.round(np.linalg.inv(affine)[:3, 3]).astype(int)
    assert mask[tuple(voxel)]
    np.testing.assert_allclose(affine[:3, :3], 1.2 * np.eye(3))


def test_fluid_is_brighter_than_white_and_white_than_grey_matter(brain: tuple[np.ndarray, ...]) -> None:
    volume, _, mask = brain
    counts, edges = np.histogram(volume[mask], bins=60, range=(300, 1200))
    middles = (edges[1:] + edges[:-1]) / 2

    def mode(low: float, high: float) -> float:
        inside = (middles > low) & (middles < high)
        return float(middles[inside][counts[inside].argmax()])

    assert mode(340, 500) == pytest.approx(410, abs=50)
    assert mode(560, 750) == pytest.approx(650, abs=50)
    assert mode(850, 1150) == pytest.approx(1000, abs=80)


def test_both_hemispheres_are_folded_and_not_mirror_images(brain: tuple[np.ndarray, ...]) -> None:
    volume, _, mask = brain
    assert np.array_equal(mask, mask[::-1])
    difference = np.abs(volume - volume[::-1])[mask]
    assert difference.mean() > 50


def test_the_seed_decides_the_folds() -> None:
    first, again, other = (brain_phantom(spacing=2.5, seed=seed)[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert np.abs(first - other).max() > 100


@pytest.mark.parametrize("lengths", [{"size_mm": 0.0}, {"spacing": -1.0}])
def test_lengths_have_to_be_positive(lengths: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        brain_phantom(**lengths)
