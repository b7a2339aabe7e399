"""Small slices at the ends of stacks are put where the others show what they show, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from balls import distance, four_stacks, full, observed, put, stepped, three_stacks
from numpy.typing import NDArray

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.motion.ends import search_ends, show_little

AWAY = np.array([3.0, -3.0, -5.0, 0.4, -0.3, 0.4])  # inwards by 7 mm, and 37 degrees


def seen(slices: Slices) -> Slices:
    """The slices as the known field shows them where they are, with noise."""
    noise = np.random.default_rng(0).normal(0, 0.02, len(slices.pixels))
    return replace(slices, pixels=(observed(slices) + noise).astype(np.float32))


def searched(slices: Slices, trust: NDArray[np.float64] | None = None) -> tuple[Rigid, list[int]]:
    """Where the slices are then, and which of them have been moved."""
    inside = torch.from_numpy(slices.mask.astype(np.float32))
    given = (full(slices) if trust is None else trust, full(slices), np.random.default_rng(0))
    motion, moved = search_ends(slices, inside, *given)
    return motion, np.flatnonzero(moved).tolist()


def last(slices: Slices, stack: int, count: int) -> list[int]:
    """The last slices of a stack."""
    return slices.in_time(stack)[-count:].tolist()


@pytest.mark.parametrize("stack", [0, 2, 3])
def test_end_of_a_stack_that_was_found_elsewhere_together_is_put_back(stack: int) -> None:
    truth = four_stacks()
    lost = last(truth, stack, 2)  # each is where the other one expects it
    found = stepped(truth.pose, lost, AWAY)
    slices = seen(truth).moved(found @ ~truth.frame)
    motion, moved = searched(slices)
    assert moved == lost
    assert distance(truth, motion @ truth.frame, truth.pose)[lost].max() < 0.6
    still = np.setdiff1d(np.arange(len(truth)), moved)
    np.testing.assert_array_equal(motion.matrix[still], slices.motion.matrix[still])


def test_where_all_are_together_nothing_moves() -> None:
    slices = seen(four_stacks())
    motion, moved = searched(slices)
    assert moved == []
    np.testing.assert_array_equal(motion.matrix, slices.motion.matrix)


def test_jump_of_a_small_slice_that_the_others_confirm_stands() -> None:
    truth = four_stacks()
    slices = seen(put(truth, stepped(truth.pose, last(truth, 1, 1), AWAY)))
    assert searched(slices)[1] == []


def test_large_slices_are_not_searched() -> None:
    truth = four_stacks()
    middle = truth.in_time(0)[5:6].tolist()
    slices = seen(truth).moved(stepped(truth.pose, middle, AWAY) @ ~truth.frame)
    assert searched(slices)[1] == []


def test_where_few_stacks_cross_only_those_that_stray_are_searched() -> None:
    truth = three_stacks()
    alone, together = last(truth, 0, 1), last(truth, 2, 3)
    slices = seen(truth).moved(stepped(truth.pose, [*alone, *together], AWAY) @ ~truth.frame)
    motion, moved = searched(slices)
    assert alone[0] in moved
    assert together[1] not in moved  # its neighbours in time expect it there
    assert distance(truth, motion @ truth.frame, truth.pose)[alone[0]] < 0.6


def test_what_the_others_do_not_see_stays_where_it_is() -> None:
    truth = four_stacks()
    lost = last(truth, 0, 2)
    slices = seen(truth).moved(stepped(truth.pose, lost, [60.0, 0, 0, 0, 0, 0]) @ ~truth.frame)
    assert searched(slices)[1] == []


def test_without_trust_nothing_is_said() -> None:
    truth = four_stacks()
    lost = last(truth, 0, 2)
    slices = seen(truth).moved(stepped(truth.pose, lost, AWAY) @ ~truth.frame)
    assert searched(slices, full(slices, 0.0))[1] == []
    # Slices without trust are not in the fit: where they are is of no consequence.
    trust = full(slices)
    trust[lost] = 0.0
    assert not set(searched(slices, trust)[1]) & set(lost)


def test_slices_show_little_against_those_that_are_trusted() -> None:
    slices = three_stacks()
    inside, trust = torch.from_numpy(slices.mask).float(), full(slices)
    count = np.add.reduceat(slices.mask, slices.offset[:-1])
    few = show_little(slices, inside, trust)
    np.testing.assert_array_equal(few, count < 0.5 * np.median(count))
    assert 0 < few.sum() < len(slices) / 2
    trust[few] = 0.0
    np.testing.assert_array_equal(show_little(slices, inside, trust), count < 0.5 * np.median(count[~few]))
    assert not show_little(slices, inside, full(slices, 0.0)).any()
