"""Whole stacks are brought together, by their outlines or by the mask of one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from balls import distance
from brains import in_place, one_mask, scan

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import cut_slices
from slicesplat.motion.stacks import register_by_one_mask, register_stacks
from slicesplat.prepare.intensity import scale_intensities


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [30, -40])
def test_stack_turned_by_30_degrees_and_more_and_shifted_by_20_mm_is_brought_back(axis: int, degrees: float) -> None:
    stacks, _ = scale_intensities(scan("none").stacks)
    shift = np.random.default_rng(axis).normal(size=3)
    there = Rigid.exp([*(20 * shift / np.linalg.norm(shift)), *(np.deg2rad(degrees) * np.eye(3)[axis])])
    moved = [stacks[0], replace(stacks[1], affine=there.matrix @ stacks[1].affine), stacks[2]]
    slices = cut_slices(moved, margin=8).binned(2)
    found, own = register_stacks(slices, 0), slices.stack == 1
    truth = (~there @ slices.frame).where(own, slices.frame)
    assert distance(slices, slices.frame, truth)[own].min() > 8
    # Within the basin of the next level, whose Gaussians stand 8 mm apart.
    assert distance(slices, found @ slices.frame, truth).max() < 3.0
    assert (found.matrix[slices.stack == 0] == np.eye(4)).all()


def test_stack_alone_stays_where_it_is() -> None:
    slices = cut_slices(scale_intensities(scan("none").stacks)[0][:1])
    assert register_stacks(slices, 0) is slices.motion


def test_stacks_are_brought_together_by_the_mask_of_one() -> None:
    """Neither the surroundings that the wide masks hold nor their outlines say where the moved stacks are."""
    truth = in_place(one_mask())
    third = truth.stack == 2
    there = Rigid.exp([4.0, -3.0, 3.0, 0.05, -0.06, 0.04])
    off = (there @ truth.pose).where(third, truth.pose)
    start = replace(truth, frame=off, motion=Rigid.identity(len(truth)))
    found = register_by_one_mask(start, 0, np.zeros(len(start), bool)) @ start.frame
    assert distance(start, start.pose, truth.pose)[third].mean() > 5.0
    assert distance(start, found, truth.pose)[third].mean() < 1.5
    assert distance(start, found, truth.pose)[~third].mean() < 1.5
