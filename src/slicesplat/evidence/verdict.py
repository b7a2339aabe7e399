"""Whether a reconstruction can be believed: stated rules on what is known of it without the truth.

docs/verdict.md has the rules in words, and what they catch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slicesplat.config import VerdictSettings
from slicesplat.records import Grade, Verdict

_DEFAULT = VerdictSettings()
_ENOUGH_SLICES = 8  # used ones: of fewer, half say too little about the others to judge their thickness
_BESIDE = 0.5  # of the largest gain by thinner slices: what a wrong stack makes of the others is less
_GRADES: tuple[Grade, ...] = ("pass", "check", "fail")
Reason = tuple[Grade, str]


@dataclass(frozen=True)
class StackEvidence:
    """What is known of one stack.

    Attributes
    ----------
    slices, left_out : int
        Slices that show the region, and those of them that are not used.
    ncc, least_ncc : float
        Correlation with what the other stacks show, and what it has to reach; NaN where there is nothing to compare.
    possible_ncc : float
        What it would be if every stack showed the volume.
    excess : float
        What is left of its pixels without the volume's prediction, over their noise.
    thickness_share : float
        Slice thickness over the distance of the slices.
    thinner : float
        Error of its predicted slices if slices were thinner, relative to what is expected if they are as thick as was
        said.
    mirror_lead : float
        By how much more its mirror image correlates with what the other stacks show than it does itself.
    """

    slices: int
    left_out: int
    ncc: float
    least_ncc: float
    possible_ncc: float = math.nan
    excess: float = math.nan
    thickness_share: float = math.nan
    thinner: float = math.nan
    mirror_lead: float = math.nan


@dataclass(frozen=True)
class Evidence:
    """What is known of a reconstruction.

    Attributes
    ----------
    stacks : sequence of StackEvidence
        As they were given; one that was left out altogether has no slices.
    pose_error : float
        Median standard error of the poses of the slices that are used, mm; NaN where it is not known.
    flat_share : float
        Largest share of the region's surface that looks the same way.
    contrast : float
        Standard deviation of the volume inside its mask, over that of the noise in the pixels.
    """

    stacks: Sequence[StackEvidence]
    pose_error: float = math.nan
    flat_share: float = math.nan
    contrast: float = math.nan


def judge(evidence: Evidence, settings: VerdictSettings = _DEFAULT) -> Verdict:
    """The verdict on what is known.

    Examples
    --------
    >>> sound = StackEvidence(slices=20, left_out=1, ncc=0.85, least_ncc=0.5, possible_ncc=0.88)
    >>> judge(Evidence([sound, sound]))
    Verdict(grade='pass', reasons=())
    >>> other = StackEvidence(slices=20, left_out=2, ncc=0.6, least_ncc=0.5, possible_ncc=0.85)
    >>> judge(Evidence([sound, sound, other])).grade
    'check'
    """
    rules = (_left_out, _disagreement, _mirrored, _thickness, _misfit, _coverage, _poses, _noise)
    found = [reason for rule in rules for reason in rule(evidence, settings)]
    found.sort(key=lambda reason: -_GRADES.index(reason[0]))
    return Verdict(found[0][0] if found else "pass", tuple(sentence for _, sentence in found))


def _left_out(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """Slices that do not fit."""
    count, lost = (sum(values) for values in zip(*((s.slices, s.left_out) for s in evidence.stacks), strict=True))
    share = lost / max(count, 1)
    if not count or share >= settings.checked_share:
        grade: Grade = "fail" if not count or share >= settings.failed_share else "check"
        yield grade, f"{lost} of {count} slices are left out; look at the volume, and check masks and stacks"
    for number, stack in enumerate(evidence.stacks):
        if stack.slices and stack.left_out >= settings.lost_stack * stack.slices:
            yield (
                "check",
                f"{_named(number, evidence)}: {stack.left_out} of {stack.slices} slices are left out; look at the "
                "stack, and check its mask",
            )


def _disagreement(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """Stacks that do not show what the others show: by far too little, or by less than they could."""
    behind = [number for number, stack in enumerate(evidence.stacks) if _disagrees(stack, settings)]
    compared = sum(not math.isnan(stack.ncc) for stack in evidence.stacks)
    # Coarse, noisy stacks of much motion fall behind what is possible where the volume is good.
    far = sum(evidence.stacks[number].ncc < evidence.stacks[number].least_ncc for number in behind)
    grade: Grade = "fail" if far and far >= settings.failed_stacks * compared else "check"
    for number in behind:
        stack = evidence.stacks[number]
        could = "" if math.isnan(stack.possible_ncc) else f", where {stack.possible_ncc:.2f} is possible"
        yield (
            grade,
            f"{_named(number, evidence)} does not agree with what the others show (correlation {stack.ncc:.2f}{could})"
            "; look at the volume, and check that the stack shows the same subject, that its orientation is right and "
            "that its mask lies on the brain",
        )


def _disagrees(stack: StackEvidence, settings: VerdictSettings) -> bool:
    short = stack.possible_ncc - stack.ncc
    # Slices that look thinner still are told as that.
    thinner = short >= settings.gap_and_thinner[0] and settings.thinner < stack.thinner <= settings.gap_and_thinner[1]
    more = short >= settings.gap_and_excess[0] and stack.excess >= settings.gap_and_excess[1]
    return stack.ncc < stack.least_ncc or short > settings.gap or thinner or more


def _mirrored(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """Stacks whose mirror image fits better."""
    for number, stack in enumerate(evidence.stacks):
        if stack.mirror_lead >= settings.mirror_lead:
            yield (
                "check",
                f"the mirror image of {_named(number, evidence)} agrees better with the others than the stack does; "
                "check whether left and right are swapped in one of them",
            )


def _thickness(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """Stacks whose slices are not as thick as was said, but for those that another one makes look so."""
    largest = max((1 - stack.thinner for stack in evidence.stacks if stack.thinner < 1), default=0.0)
    for number, stack in enumerate(evidence.stacks):
        if stack.thickness_share <= settings.thickness_share:
            yield (
                "check",
                f"{_named(number, evidence)}: its slices are said to be {stack.thickness_share:.0%} as thick as they "
                "are apart, so that much lies between them; check their thickness",
            )
        enough = stack.slices - stack.left_out >= _ENOUGH_SLICES
        if enough and stack.thinner <= settings.thinner and 1 - stack.thinner >= _BESIDE * largest:
            yield (
                "check",
                f"the slices of {_named(number, evidence)} look thinner than was said, or show something else; check "
                "their thickness, and that they show the same subject",
            )


def _misfit(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """Stacks that the volume does not explain to within their noise."""
    for number, stack in enumerate(evidence.stacks):
        if stack.excess >= settings.excess:
            yield (
                "check",
                f"{_named(number, evidence)} differs from the volume by {stack.excess:.1f} times its noise; look at "
                "the stack beside its prediction, and check its thickness",
            )


def _coverage(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """A region that is not whole, or seen from one side alone."""
    if evidence.flat_share >= settings.flat_share:
        yield (
            "check",
            "the region ends in a plane, as if a part of it were cut off; look at its ends, and check that masks and "
            "field of view hold all of it",
        )
    if sum(stack.slices > stack.left_out for stack in evidence.stacks) == 1:
        yield (
            "check",
            "one stack alone is used, so that nothing confirms what it shows; give stacks of other orientations too",
        )


def _poses(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """Poses that are hardly known."""
    if evidence.pose_error >= settings.pose_error:
        yield (
            "check",
            f"where the slices are is known to {evidence.pose_error:.1f} mm only; look at the volume, and give more "
            "stacks",
        )


def _noise(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """Noise in which the anatomy is lost."""
    if evidence.contrast < settings.contrast:
        yield (
            "check",
            f"the noise is large: the volume's own contrast is {evidence.contrast:.1f} times as much; look at the "
            "volume, and give more stacks",
        )


def _named(number: int, evidence: Evidence) -> str:
    return f"stack {number + 1} of {len(evidence.stacks)}"
