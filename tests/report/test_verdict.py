"""The verdict follows stated rules from what is known without the truth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slicesplat.config import VerdictSettings
from slicesplat.report.verdict import Evidence, StackEvidence, judge

SOUND = StackEvidence(slices=20, left_out=1, ncc=0.8, least_ncc=0.5)
NAN = float("nan")


def of(*stacks: StackEvidence, pose_error: float = 0.2) -> Evidence:
    return Evidence(stacks, pose_error)


def test_nothing_speaks_against_a_sound_one() -> None:
    assert judge(of(SOUND, SOUND, SOUND)).grade == "pass"


def test_one_stack_alone_has_nobody_to_disagree_with() -> None:
    alone = replace(SOUND, ncc=NAN, least_ncc=NAN)
    assert judge(of(alone, pose_error=NAN)).grade == "pass"


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


def test_the_gravest_reason_comes_first() -> None:
    found = judge(of(replace(SOUND, left_out=18), replace(SOUND, left_out=12, ncc=0.2), pose_error=2.0))
    assert found.grade == "fail" and "30 of 40" in found.reasons[0]
    assert any("known to 2.0 mm" in reason for reason in found.reasons[1:])
