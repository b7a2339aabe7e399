"""A still subject stays where the scanner saw it, and one that moved does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from brains import registered, scan
from ellipsoids import ellipsoids

from slicesplat.config import Config, StillnessSettings
from slicesplat.geometry.rigid import Rigid
from slicesplat.motion.stillness import crossed, simplest_motion, squares
from slicesplat.pipeline import register
from slicesplat.validation.motion import Motion


def test_still_subject_is_not_moved_at_all() -> None:
    assert (registered("none").slices.motion.matrix == np.eye(4)).all()


def test_still_subject_is_not_moved_where_masks_are_drawn_through_tissue() -> None:
    found = register(ellipsoids("none"), Config(threads=1))
    assert (found.slices.motion.matrix == np.eye(4)).all()
    assert not any(found.left_out())


@pytest.mark.parametrize("motion", ["mild", "moderate"])
def test_motion_that_there_was_is_not_given_up(motion: Motion) -> None:
    found = registered(motion)
    still = found.slices.moved(Rigid.identity(len(found.slices)))
    assert simplest_motion(still, found.slices.motion, found.weight) is None


def test_stacks_that_moved_as_one_are_moved_as_one() -> None:
    stacks = scan("none").stacks
    there = Rigid.exp([2.0, -3.0, 1.0, 0.05, 0.04, -0.06])
    found = register(
        [stacks[0], replace(stacks[1], affine=there.matrix @ stacks[1].affine), stacks[2]], Config(threads=1)
    )
    for stack in range(3):
        own = found.slices.motion.matrix[found.slices.stack == stack]
        assert (own == own[0]).all()
    moved = np.linalg.norm((found.slices.motion[found.slices.stack == 1][0] @ there).log()[:3])
    assert moved < 0.5


def test_no_slice_that_counts_leaves_it_open() -> None:
    found = registered("mild")
    assert simplest_motion(found.slices, found.slices.motion, np.zeros(len(found.slices))) is None


def test_squares_left_out_are_a_quarter_and_crossed_pixels_lie_in_two_stacks() -> None:
    slices = registered("mild").slices
    assert squares(slices, StillnessSettings()).mean() == pytest.approx(0.25, abs=0.03)
    alone = slices.take(np.flatnonzero(slices.stack == 0))
    assert not crossed(alone, alone.mask, 5.0).any()
    assert crossed(slices, slices.mask, 5.0)[slices.mask].mean() > 0.9
