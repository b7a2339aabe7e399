"""Whole stacks in a wrong basin come home from any rotation, and stacks that are in place are not touched."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from balls import distance
from brains import scan

from slicesplat.config import Config, RegistrationSettings
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.motion.relocate import StackSearch, agree_better, relocate, strangers
from slicesplat.pipeline import register
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.pose_error import pose_error
from slicesplat.validation.simulate import SimulationConfig, simulate

AXES = "right", "anterior", "superior"


@cache
def still() -> list[Stack]:
    return scale_intensities(scan("none").stacks)[0]


def cut(stacks: list[Stack]) -> Slices:
    return cut_slices(stacks, margin=8).binned(2)


def turned(stack: Stack, axis: int, degrees: float) -> tuple[Stack, Rigid]:
    """The stack as of a subject that has turned, and has moved by 15 mm; and how."""
    step = Rigid.exp([0.0, 0.0, 0.0, *(np.deg2rad(degrees) * np.eye(3)[axis])])
    there = Rigid.exp([9.0, -7.0, 10.0, 0.0, 0.0, 0.0]) @ step.about(stack.masked_points().mean(axis=0))
    return replace(stack, affine=there.matrix @ stack.affine), there


@pytest.mark.parametrize("degrees", [90.0, 180.0])
@pytest.mark.parametrize("axis", range(3), ids=AXES)
def test_a_stack_turned_by_a_quarter_or_half_a_turn_comes_home(axis: int, degrees: float) -> None:
    moved, there = turned(still()[1], axis, degrees)
    slices = cut([still()[0], moved, still()[2]])
    found, searches = relocate(slices, np.ones(len(slices)), 0)
    own = slices.stack == 1
    truth = (~there @ slices.frame).where(own, slices.frame)
    assert distance(slices, slices.frame, truth)[own].min() > 8.0
    assert np.median(distance(slices, found @ slices.frame, truth)[own]) < 2.0
    assert (found.matrix[~own] == np.eye(4)).all()
    assert [(search.stack, search.moved) for search in searches] == [(1, True)]
    assert searches[0].lead > 0.05


def test_stacks_in_place_are_not_searched() -> None:
    slices = cut(still())
    found, searches = relocate(slices, np.ones(len(slices)), 0)
    assert found is slices.motion and searches == []


def test_a_reference_in_the_wrong_place_does_not_break_the_others() -> None:
    moved, there = turned(still()[0], 2, 180.0)
    slices = cut([moved, *still()[1:]])
    found, searches = relocate(slices, np.ones(len(slices)), 0)
    assert (found.matrix[slices.stack > 0] == np.eye(4)).all()
    assert [(search.stack, search.moved) for search in searches] == [(0, True)]
    own = slices.stack == 0
    assert np.median(distance(slices, found @ slices.frame, ~there @ slices.frame)[own]) < 2.0


def test_stacks_of_which_no_two_agree_are_brought_onto_the_reference() -> None:
    (first, there), (second, second_there) = turned(still()[0], 2, 180.0), turned(still()[1], 0, 90.0)
    slices = cut([first, second, still()[2]])
    found, searches = relocate(slices, np.ones(len(slices)), 0)
    home = [there @ ~there, there @ ~second_there, there]
    truth = Rigid(np.array([home[stack].matrix for stack in slices.stack])) @ slices.frame
    off = distance(slices, found @ slices.frame, truth)
    assert max(np.median(off[slices.stack == stack]) for stack in range(3)) < 3.0
    assert {search.stack for search in searches if search.moved} == {1, 2}


def test_a_stack_of_noise_is_told_as_one_that_matches_nowhere() -> None:
    noise = np.random.default_rng(0).uniform(0.0, 1.0, still()[1].data.shape).astype(np.float32)
    slices = cut([still()[0], replace(still()[1], data=noise), still()[2]])
    found, searches = relocate(slices, np.ones(len(slices)), 0)
    assert (found.matrix[slices.stack != 1] == np.eye(4)).all()
    assert searches[0].stack == 1 and searches[0].ncc < 0.45


def test_a_reference_of_noise_is_no_place_to_begin_from_where_two_others_confirm_each_other() -> None:
    noise = np.random.default_rng(0).uniform(0.0, 1.0, still()[0].data.shape).astype(np.float32)
    slices = cut([replace(still()[0], data=noise), *still()[1:]])
    usual = RegistrationSettings()
    # So strict that all stacks are searched.
    strict = replace(usual, relocation=replace(usual.relocation, convincing=0.99))
    found, searches = relocate(slices, np.ones(len(slices)), 0, strict)
    assert [search.stack for search in searches] in ([0, 1], [0, 2])
    assert (found.matrix[slices.stack > 0] == np.eye(4)).all()


def test_two_stacks_find_each_other_where_the_reference_shows_nothing() -> None:
    noise = np.random.default_rng(0).uniform(0.0, 1.0, still()[0].data.shape).astype(np.float32)
    moved, there = turned(still()[1], 2, 90.0)
    slices = cut([replace(still()[0], data=noise), moved, still()[2]])
    found, searches = relocate(slices, np.ones(len(slices)), 0)
    at_home = Rigid(found.matrix[slices.stack == 2][0]) @ ~there
    off = distance(slices, found @ slices.frame, at_home @ slices.frame)[slices.stack == 1]
    assert np.median(off) < 2.0
    assert (strangers(slices, searches) == (slices.stack == 0)).all()


def test_nobody_is_a_stranger_where_all_agree_or_only_one_would_be_left() -> None:
    slices = cut(still())
    agrees, nowhere = (StackSearch(1, False, ncc, lead) for ncc, lead in ((0.7, 0.0), (0.1, 0.0)))
    assert not strangers(slices, [agrees]).any() and not strangers(slices, []).any()
    assert (strangers(slices, [nowhere]) == (slices.stack == 1)).all()
    assert not strangers(slices, [nowhere, replace(nowhere, stack=2)]).any()
    # It leads by far over all other places.
    assert not strangers(slices, [replace(nowhere, lead=0.3)]).any()


def test_a_place_that_is_no_better_is_not_taken() -> None:
    moved, there = turned(still()[1], 2, 90.0)
    slices = cut([still()[0], moved, still()[2]])
    scanned, own = slices.motion, slices.stack == 1
    home = (~there @ scanned).where(own, scanned)
    slipped = (Rigid.exp([0.3, 0.0, 0.0, 0.0, 0.0, 0.0]) @ home).where(own, home)
    everyone, searched = np.ones(len(slices)), [StackSearch(1, True, 0.7, 0.2)]
    assert agree_better(slices, scanned, home, everyone, searched)
    assert not agree_better(slices, home, scanned, everyone, searched)
    assert not agree_better(slices, slipped, home, everyone, searched)
    # Where no stack was moved as one, but slices were, all are asked.
    assert agree_better(slices, scanned, home, everyone, [])
    # Of those that take no part nothing is known.
    assert not agree_better(slices, scanned, home, np.where(own, 0.0, 1.0), searched)


def test_a_subject_that_turns_over_between_moving_stacks_is_registered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "slicesplat")
    config = SimulationConfig(turn=180.0, pixel=1.5, spacing=3.0, thickness=2.8, noise=0.02, dropout=0.0, seed=3)
    made = simulate(*brain_phantom(45.0, 1.5), config)
    found = register(made.stacks, Config(threads=1))
    error = pose_error(found.slice_records(), made.truth, made.masks)
    assert error.tre_median < 0.6
    assert error.tre_p95 < 2.0
    assert any(search.moved for search in found.searches)
    assert [entry["stack"] for entry in found.json()["stack_searches"]] == [s.stack for s in found.searches]
    for search in found.searches:
        name = found.stacks[search.stack].name
        assert (f"{name}: found again at another place" in caplog.text) == search.moved
