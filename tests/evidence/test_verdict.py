"""The verdict follows stated rules from what is known without the truth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slicesplat.config import VerdictSettings
from slicesplat.evidence.verdict import Evidence, StackEvidence, judge

SOUND = StackEvidence(slices=20, left_out=1, ncc=0.86, least_ncc=0.45, possible_ncc=0.87, excess=1.0)
NAN = float("nan")
LIMITS = VerdictSettings()


def of(*stacks: StackEvidence, pose_error: float = 0.2, flat_share: float = 0.06, contrast: float = 4.5) -> Evidence:
    return Evidence(stacks, pose_error, flat_share, contrast)


def test_nothing_speaks_against_a_sound_one() -> None:
    assert judge(of(SOUND, SOUND, SOUND)).grade == "pass"


def test_what_is_not_known_speaks_against_nothing() -> None:
    unknown = replace(SOUND, ncc=NAN, least_ncc=NAN, possible_ncc=NAN, excess=NAN)
    assert judge(Evidence([unknown, unknown])).grade == "pass"


def test_one_stack_alone_is_confirmed_by_nobody() -> None:
    alone = judge(of(replace(SOUND, ncc=NAN, least_ncc=NAN, possible_ncc=NAN)))
    assert alone.grade == "check" and "one stack alone" in alone.reasons[0]


@pytest.mark.parametrize(("lost", "grade"), [(4, "pass"), (5, "check"), (9, "check"), (10, "fail"), (20, "fail")])
def test_slices_left_out_of_all_count(lost: int, grade: str) -> None:
    every = [replace(SOUND, left_out=lost)] * 3
    assert judge(of(*every), VerdictSettings(lost_stack=2.0)).grade == grade


def test_no_slices_at_all_is_a_failure() -> None:
    assert judge(of(replace(SOUND, slices=0, left_out=0))).grade == "fail"


def test_the_stack_that_lost_its_slices_or_disagrees_is_named_with_what_to_do() -> None:
    lost, other = replace(SOUND, left_out=11), replace(SOUND, ncc=0.4)
    found = judge(of(SOUND, lost, SOUND, other, SOUND))
    assert found.grade == "check" and len(found.reasons) == 2
    assert found.reasons[0].startswith("stack 2 of 5: 11 of 20") and "; look at" in found.reasons[0]
    assert found.reasons[1].startswith("stack 4 of 5 does not agree") and "0.40" in found.reasons[1]


def test_a_stack_that_correlates_well_but_less_than_it_could_shows_something_else() -> None:
    behind = replace(SOUND, ncc=0.79, possible_ncc=0.79 + LIMITS.gap + 0.01)
    assert judge(of(SOUND, SOUND, behind)).grade == "check"
    assert judge(of(SOUND, SOUND, replace(behind, possible_ncc=0.79 + LIMITS.gap - 0.01))).grade == "pass"


def test_two_weak_signs_are_enough_together() -> None:
    gap, thinner = LIMITS.gap_and_thinner
    behind = replace(SOUND, possible_ncc=SOUND.ncc + gap + 0.001)
    both = replace(behind, thinner=thinner)
    (reason,) = judge(of(SOUND, both, SOUND)).reasons
    assert reason.startswith("stack 2 of 3 does not agree")
    assert judge(of(SOUND, behind, replace(SOUND, thinner=thinner))).grade == "pass"
    assert judge(of(SOUND, replace(both, possible_ncc=SOUND.ncc + gap - 0.001), SOUND)).grade == "pass"
    (reason,) = judge(of(SOUND, replace(both, thinner=LIMITS.thinner), SOUND)).reasons
    assert "thinner" in reason
    gap, excess = LIMITS.gap_and_excess
    more = replace(SOUND, possible_ncc=SOUND.ncc + gap + 0.001, excess=excess)
    assert judge(of(SOUND, more)).reasons[0].startswith("stack 2 of 2 does not agree")
    assert judge(of(SOUND, replace(more, excess=NAN))).grade == "pass"
    assert judge(of(SOUND, replace(more, possible_ncc=SOUND.ncc + gap - 0.001))).grade == "pass"


def test_of_stacks_whose_slices_look_thinner_those_that_another_makes_look_so_are_not_named() -> None:
    wrong, beside = replace(SOUND, thinner=0.85), replace(SOUND, thinner=LIMITS.thinner)
    (reason,) = judge(of(beside, wrong, beside)).reasons
    assert reason.startswith("the slices of stack 2 of 3")
    assert len(judge(of(beside, beside, SOUND)).reasons) == 2
    assert judge(of(replace(SOUND, thinner=LIMITS.thinner + 0.01), SOUND)).grade == "pass"
    assert judge(of(replace(wrong, slices=7, left_out=0), SOUND)).grade == "pass"  # too few to tell


def test_without_a_majority_that_agrees_it_has_failed() -> None:
    behind = replace(SOUND, ncc=SOUND.least_ncc - 0.01)
    assert judge(of(SOUND, SOUND, behind)).grade == "check"
    assert judge(of(SOUND, behind)).grade == judge(of(SOUND, behind, behind)).grade == "fail"
    # What is less than possible, and not by far, is no failure however many they are.
    less = replace(SOUND, possible_ncc=SOUND.ncc + LIMITS.gap + 0.01)
    assert judge(of(less, less, less)).grade == "check"


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (of(SOUND, SOUND, flat_share=LIMITS.flat_share), "ends in a plane"),
        (of(SOUND, SOUND, contrast=0.9 * LIMITS.contrast), "noise is large"),
        (of(SOUND, SOUND, pose_error=LIMITS.pose_error), "known to"),
        (of(SOUND, replace(SOUND, excess=LIMITS.excess)), "stack 2 of 2 differs from the volume"),
        (of(SOUND, replace(SOUND, mirror_lead=LIMITS.mirror_lead)), "mirror image of stack 2 of 2"),
        (of(SOUND, replace(SOUND, thinner=LIMITS.thinner)), "stack 2 of 2 look thinner"),
        (of(SOUND, replace(SOUND, thickness_share=LIMITS.thickness_share)), "stack 2 of 2: its slices are said"),
    ],
)
def test_each_rule_says_what_it_saw_and_what_to_do(evidence: Evidence, words: str) -> None:
    found = judge(evidence)
    assert found.grade == "check" and len(found.reasons) == 1
    problem, remedy = found.reasons[0].split("; ")
    assert words in problem and remedy.split()[0] in ("look", "check", "give")


def test_the_gravest_reason_comes_first() -> None:
    found = judge(of(replace(SOUND, left_out=18), replace(SOUND, left_out=12), flat_share=0.3))
    assert found.grade == "fail" and "30 of 40" in found.reasons[0]
    assert any("plane" in reason for reason in found.reasons[1:])
