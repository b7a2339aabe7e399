"""Which stacks to use: ranked by a measure, the worst left out."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.prepare.assess import assess_stack
from slicesplat.prepare.intensity import signal
from slicesplat.prepare.measures import measure

log = logging.getLogger("slicesplat")

Metric = Literal["none", "motion", "ncc", "matrix-rank", "volume"]
_HIGHER_IS_BETTER = {"motion": False, "ncc": True, "matrix-rank": False, "volume": True}


@dataclass(frozen=True)
class Choice:
    """How stacks are ranked, and which of them are left out.

    Attributes
    ----------
    metric : {"none", "motion", "ncc", "matrix-rank", "volume"}
        What stacks are ranked by. motion: mm that slices lie beside their neighbours; ncc: correlation of neighbouring
        slices; matrix-rank: how independent the slices are of each other; volume: mm^3 inside the mask.
    filter_method : {"none", "top", "bottom", "threshold", "percentage"}
        Use the best C stacks, leave out the worst C, those worse than C, or this share of them (0 to 1); C is --cutoff.
    cutoff : float
        C of --filter-method.
    """

    metric: Metric = "none"
    filter_method: Literal["none", "top", "bottom", "threshold", "percentage"] = "none"
    cutoff: float | None = None

    def __post_init__(self) -> None:
        if self.filter_method == "none":
            return
        if self.metric == "none":
            raise ValueError(f"filter method {self.filter_method}: nothing to rank stacks by; give --metric")
        if self.cutoff is None or not math.isfinite(self.cutoff):
            raise ValueError(f"filter method {self.filter_method}: no number to go by; give --cutoff")
        if self.filter_method != "threshold" and self.cutoff < 0:
            raise ValueError(f"cutoff {self.cutoff:g} of filter method {self.filter_method}: give no negative number")
        if self.filter_method == "percentage" and self.cutoff > 1:
            raise ValueError(f"cutoff {self.cutoff:g} of filter method percentage: is a share; give it between 0 and 1")


@dataclass(frozen=True)
class RankedStack:
    """A stack and what it is worth."""

    stack: int
    """Its place in the input, from 0."""
    score: float
    """By the metric; NaN where it cannot be told, which is the worst."""
    rank: int
    """0 for the best."""
    excluded: bool
    """Whether it is left out."""


def rank(stacks: Sequence[Stack], choice: Choice) -> list[RankedStack]:
    """Rank stacks, in the order given; nothing without a metric.

    Parameters
    ----------
    stacks : sequence of Stack
        As `load_stacks` gives them, or their signals.
    choice : Choice

    Raises
    ------
    InputError
        No stack is left.
    """
    if choice.metric == "none":
        return []
    scores = [_score(stack, choice.metric) for stack in signal(stacks)[0]]
    sign = -1.0 if _HIGHER_IS_BETTER[choice.metric] else 1.0
    worth = np.array([math.inf if math.isnan(score) else sign * score for score in scores])
    order = np.argsort(worth, kind="stable")
    ranks = np.empty(len(order), int)
    ranks[order] = np.arange(len(order))
    kept = _kept(worth, choice, sign)
    if not kept:
        raise InputError(
            f"{stacks[0].name} and the other stacks: none is left by --filter-method {choice.filter_method} --cutoff "
            f"{choice.cutoff:g}; their scores are {min(scores):.4g} to {max(scores):.4g}"
        )
    return [
        RankedStack(number, score, int(place), bool(place >= kept))
        for number, (score, place) in enumerate(zip(scores, ranks, strict=True))
    ]


def log_excluded(stacks: Sequence[Stack], ranked: Sequence[RankedStack], choice: Choice) -> None:
    """Say which stacks are left out and by what."""
    for seen in ranked:
        if seen.excluded:
            log.info(
                "%s: left out, %d of %d by %s (%.4g)",
                stacks[seen.stack].name,
                seen.rank + 1,
                len(ranked),
                choice.metric,
                seen.score,
            )


def _kept(worth: np.ndarray, choice: Choice, sign: float) -> int:
    """How many of the best are used."""
    count, cutoff = len(worth), choice.cutoff or 0.0
    if choice.filter_method == "top":
        return min(count, int(cutoff))
    if choice.filter_method == "bottom":
        return max(0, count - int(cutoff))
    if choice.filter_method == "percentage":
        return count - int(count * cutoff)
    if choice.filter_method == "threshold":
        return int((worth <= sign * cutoff).sum())
    return count


def _score(stack: Stack, metric: str) -> float:
    if metric == "motion":
        return assess_stack(stack).motion_score
    measures = measure(stack)
    by_metric = {
        "ncc": measures.ncc_intersection,
        "matrix-rank": measures.rank_error_relative,
        "volume": measures.mask_volume,
    }
    return by_metric[metric]
