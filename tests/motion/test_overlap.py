"""Stacks with masks drawn through tissue are brought together by the tissue, not by the masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from balls import distance
from ellipsoids import ellipsoids

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.motion.overlap import register_overlaps
from slicesplat.prepare.intensity import scale_intensities


def slices(there: Rigid) -> Slices:
    """Those of still stacks, the second one put elsewhere."""
    stacks, _ = scale_intensities(ellipsoids("none"))
    moved = replace(stacks[1], affine=there.matrix @ stacks[1].affine)
    return cut_slices([stacks[0], moved, stacks[2]]).binned(2, least=1.0)


def test_masks_in_other_places_do_not_draw_still_stacks_together() -> None:
    given = slices(Rigid.identity())
    found = register_overlaps(given, 0, np.zeros(len(given), bool))
    # Within the basin of the next level, whose Gaussians stand 8 mm apart; the brain of the phantom is smooth inside.
    assert distance(given, given.pose, found @ given.frame).max() < 3.0
    assert (found.matrix[given.stack == 0] == np.eye(4)).all()


def test_stack_that_moved_is_brought_back_by_what_both_masks_hold() -> None:
    there = Rigid.exp([3.0, -2.0, 3.0, 0.08, -0.06, 0.05])
    given = slices(there)
    own, lost = given.stack == 1, np.zeros(len(given), bool)
    truth = (~there @ given.frame).where(own, given.frame)
    assert distance(given, given.pose, truth)[own].mean() > 4.0
    found = register_overlaps(given, 0, lost)
    assert distance(given, found @ given.frame, truth)[own].mean() < 3.0
    # A stack of which nothing has signal stays where it is.
    assert (register_overlaps(given, 0, given.stack == 1).matrix[own] == np.eye(4)).all()
    assert (register_overlaps(given, 0, given.stack == 0).matrix == np.eye(4)).all()
