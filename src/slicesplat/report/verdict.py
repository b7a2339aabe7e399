"""Whether a reconstruction can be believed: stated rules on what is known of it without the truth.

docs/verdict.md has the rules in words, and what they catch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slicesplat.config import VerdictSettings
from slicesplat.records import Grade, Verdict

_DEFAULT = VerdictSettings()
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
    """

    slices: int
    left_out: int
    ncc: float
    least_ncc: float


@dataclass(frozen=True)
class Evidence:
    """What is known of a reconstruction.

    Attributes
    ----------
    stacks : sequence of StackEvidence
        As they were given; one that was left out altogether has no slices.
    pose_error : float
        Median standard error of the poses of the slices that are used, mm; NaN where it is not known.
    """

    stacks: Sequence[StackEvidence]
    pose_error: float


def judge(evidence: Evidence, settings: VerdictSettings = _DEFAULT) -> Verdict:
    """The verdict on what is known.

    Examples
    --------
    >>> sound = StackEvidence(slices=20, left_out=1, ncc=0.8, least_ncc=0.5)
    >>> judge(Evidence([sound, sound], pose_error=0.2))
    Verdict(grade='pass', reasons=())
    >>> other = StackEvidence(slices=20, left_out=12, ncc=0.8, least_ncc=0.5)
    >>> judge(Evidence([sound, sound, other], pose_error=0.2)).grade
    'check'
    """
    rules = (_left_out, _disagreement, _poses)
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
    """Stacks that do not show what the others show."""
    for number, stack in enumerate(evidence.stacks):
        if stack.ncc < settings.agreement * stack.least_ncc:
            yield (
                "check",
                f"{_named(number, evidence)} does not agree with what the others show (correlation {stack.ncc:.2f}); "
                "look at the volume, and check that the stack shows the same subject and that its orientation is right",
            )


def _poses(evidence: Evidence, settings: VerdictSettings) -> Iterator[Reason]:
    """Poses that are hardly known."""
    if evidence.pose_error >= settings.pose_error:
        yield (
            "check",
            f"where the slices are is known to {evidence.pose_error:.1f} mm only; look at the volume, and give more "
            "stacks",
        )


def _named(number: int, evidence: Evidence) -> str:
    return f"stack {number + 1} of {len(evidence.stacks)}"
