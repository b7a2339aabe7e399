"""The network in the package finds brains that it has never seen, wherever the stack lies."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.segment.agree import FoundMask, find_masks
from slicesplat.segment.look import Finder, Seen, largest_piece
from slicesplat.segment.network import BrainNetwork

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
import atlas
import mothers
from images import draw_image

SETTINGS = mothers.MotherSettings(
    field_of_view=(260.0, 280.0), pixel=3.0, spacing=(4.0, 4.5), slices=(18, 20), off_centre=(0.0, 5.0), usual=1.0,
    bias=(0.2, 0.6), noise=(0.01, 0.02), motion=(0.5, 1.0), turn=(0.5, 1.0), lost=0.0, neonatal=0.0, absent=0.0,
    twins=0.0,
)  # fmt: skip


@cache
def examination() -> tuple[list[Seen], list[np.ndarray]]:
    """Two stacks of a synthetic mother, and where the brain is in them."""
    random = np.random.default_rng(5)
    mother = mothers.draw_mother([atlas.phantom_brain(80.0, 7, spacing=2.4)], SETTINGS, random)
    made = [mothers.draw_stack(mother, SETTINGS, random) for _ in range(2)]
    images = [draw_image(stack, SETTINGS, random).transpose(1, 2, 0) for stack in made]
    seen = [Seen(image, stack.affine) for image, stack in zip(images, made, strict=True)]
    return seen, [stack.brain.transpose(1, 2, 0) for stack in made]


@cache
def found(threads: int) -> list[FoundMask]:
    return find_masks(examination()[0], SegmentationSettings(), threads)


def test_brain_of_a_synthetic_mother_is_found_in_every_stack() -> None:
    for mask, brain in zip(found(2), examination()[1], strict=True):
        overlap = 2 * (mask.mask & brain).sum() / (mask.mask.sum() + brain.sum())
        assert overlap > 0.85
        assert mask.confidence > 0.85 and not mask.in_air
        assert np.isfinite(mask.slice_confidence).tolist() == mask.mask.any(axis=(0, 1)).tolist()


def test_masks_do_not_depend_on_the_number_of_threads() -> None:
    for one, two in zip(found(1), found(2), strict=True):
        np.testing.assert_array_equal(one.mask, two.mask)
        np.testing.assert_array_equal(one.slice_confidence, two.slice_confidence)


def test_noise_holds_no_brain() -> None:
    noise = np.random.default_rng(0).rayleigh(10.0, (60, 60, 12)).astype(np.float32)
    only = find_masks([Seen(noise, np.diag([2.5, 2.5, 4.0, 1.0]))], SegmentationSettings())[0]
    assert not only.mask.any() and only.volume == 0


def test_network_in_the_package_is_small() -> None:
    parameters = sum(value.numel() for value in Finder.built_in().network.parameters())
    assert 2 * parameters < 8e6  # bytes


def test_network_takes_any_number_of_slices() -> None:
    network = BrainNetwork((4, 8))
    assert network(torch.zeros(1, 1, 8, 16)).shape == (1, 4, 8, 16)
    assert network(torch.zeros(7, 1, 8, 8)).shape == (7, 4, 8, 8)


@pytest.mark.parametrize("hole", [True, False])
def test_largest_piece_has_no_holes(hole: bool) -> None:
    inside = np.zeros((12, 12, 3), bool)
    inside[2:9, 2:9] = True
    whole = inside.copy()
    inside[5, 5, 1] = not hole
    inside[11, 11, 0] = True
    np.testing.assert_array_equal(largest_piece(inside), whole)
