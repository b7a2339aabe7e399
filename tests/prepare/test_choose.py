"""Stacks are ranked by a measure, and the worst left out as it is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.prepare.choose import Choice, rank


def stack(slices: int) -> Stack:
    """A stack whose mask covers so many slices."""
    data = np.random.default_rng(slices).uniform(1, 2, (12, 10, 12)).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[2:10, 2:8, :slices] = True
    return Stack(data, mask, np.diag([1.0, 1.0, 3.0, 1.0]), 3.0, f"{slices}.nii.gz")


def stacks() -> list[Stack]:
    return [stack(slices) for slices in (5, 9, 3, 7)]


VOLUME = 8 * 6 * 3.0  # mm^3 of a slice


def left(choice: Choice) -> list[bool]:
    return [not seen.excluded for seen in rank(stacks(), choice)]


@pytest.mark.parametrize(
    ("method", "cutoff", "used"),
    [
        ("none", None, [1, 1, 1, 1]),
        ("top", 1, [0, 1, 0, 0]),
        ("top", 9, [1, 1, 1, 1]),
        ("bottom", 1, [1, 1, 0, 1]),
        ("bottom", 0, [1, 1, 1, 1]),
        ("percentage", 0.5, [0, 1, 0, 1]),
        ("percentage", 0.2, [1, 1, 1, 1]),
        ("threshold", 6 * VOLUME, [0, 1, 0, 1]),
        ("threshold", 5 * VOLUME, [1, 1, 0, 1]),
    ],
)
def test_filter_leaves_the_best_stacks(method: str, cutoff: float | None, used: list[int]) -> None:
    choice = Choice("volume", method, cutoff)  # type: ignore[arg-type]
    assert left(choice) == [bool(each) for each in used]


def test_ranks_and_scores_are_in_the_order_given() -> None:
    ranked = rank(stacks(), Choice("volume"))
    assert [seen.stack for seen in ranked] == [0, 1, 2, 3]
    assert [seen.rank for seen in ranked] == [2, 0, 3, 1]
    assert [seen.score for seen in ranked] == pytest.approx([n * VOLUME for n in (5, 9, 3, 7)])
    assert rank(stacks(), Choice()) == []


def test_less_is_better_for_motion_and_rank_and_what_cannot_be_told_is_the_worst() -> None:
    column = np.linspace(1, 2, 12, dtype=np.float32)[:, None, None] * np.ones((12, 10, 12), np.float32)
    same = replace(stack(9), data=column, name="same.nii.gz")
    single = stack(1)
    for metric in ("motion", "matrix-rank", "ncc"):
        ranked = rank([stack(9), single, same], Choice(metric))  # type: ignore[arg-type]
        assert ranked[2].rank == 0, metric
        assert np.isnan(ranked[1].score) and ranked[1].rank == 2


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (("none", "top", 2), "--metric"),
        (("ncc", "top", None), "--cutoff"),
        (("ncc", "threshold", float("nan")), "--cutoff"),
        (("ncc", "bottom", -1), "negative"),
        (("ncc", "percentage", 50), "between 0 and 1"),
    ],
)
def test_choice_that_says_nothing_is_refused(values: tuple[str, str, float | None], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Choice(*values)  # type: ignore[arg-type]


def test_filter_that_leaves_no_stack_is_refused_with_the_scores() -> None:
    with pytest.raises(InputError, match=r"none is left by --filter-method threshold .*scores are 432 to 1296"):
        rank(stacks(), Choice("volume", "threshold", 1e6))
