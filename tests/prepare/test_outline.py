"""Masks that follow the anatomy are told from those that are drawn through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ellipsoids import drawn, ellipsoids
from scipy.ndimage import binary_dilation, binary_erosion

from slicesplat.prepare.cutout import without_fill
from slicesplat.prepare.outline import edge_profiles, outlines

MOVING = "mild"


def test_masks_of_a_brain_are_outlines() -> None:
    assert outlines(drawn(MOVING).stacks).all()


def test_ellipsoids_inside_tissue_are_none() -> None:
    assert not outlines(ellipsoids(MOVING)).any()


def test_every_stack_is_judged_by_itself_where_it_is_clear() -> None:
    stacks = [drawn(MOVING).stacks[0], ellipsoids(MOVING)[1], drawn(MOVING).stacks[2]]
    assert outlines(stacks).tolist() == [True, False, True]


@pytest.mark.parametrize("by", [-2, 2])
def test_masks_that_are_somewhat_too_small_or_too_large_still_follow_the_brain(by: int) -> None:
    plane = np.ones((3, 3, 1), bool)
    change = binary_dilation if by > 0 else binary_erosion
    assert outlines([replace(s, mask=change(s.mask, plane, iterations=abs(by))) for s in drawn(MOVING).stacks]).all()


def test_brightness_of_the_stack_does_not_matter() -> None:
    one, other = (
        edge_profiles(drawn(MOVING).stacks[0]),
        edge_profiles(replace(drawn(MOVING).stacks[0], data=40 * drawn(MOVING).stacks[0].data)),
    )
    assert one.contrast(0.5) == pytest.approx(other.contrast(0.5), rel=1e-4)


def test_what_is_cut_out_or_fitted_to_the_region_is_an_outline_whatever_it_cuts() -> None:
    cut = [without_fill(replace(s, data=np.where(s.mask, s.data, 0.0).astype(np.float32))) for s in ellipsoids(MOVING)]
    assert outlines(cut).all()
    assert outlines([replace(stack, carried=True) for stack in ellipsoids(MOVING)]).all()


def test_too_little_edge_leaves_masks_what_they_were_taken_for() -> None:
    few = np.zeros_like(drawn(MOVING).stacks[0].mask)
    few[:, :, few.shape[2] // 2] = ellipsoids(MOVING)[0].mask[:, :, few.shape[2] // 2]
    assert outlines([replace(drawn(MOVING).stacks[0], mask=few)]).all()
    everything = replace(drawn(MOVING).stacks[0], mask=np.ones_like(few))
    assert edge_profiles(everything).pieces == 0
    assert outlines([everything]).all()
