"""Motion is told alike everywhere, and standard space is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reconstructions import result, small

from slicesplat.commands.summary import stack_summaries
from slicesplat.geometry.placement import Placement
from slicesplat.geometry.rigid import Rigid
from slicesplat.report.motion import scanner_motion
from slicesplat.report.of_result import contents_of


def test_a_subject_that_did_not_move_has_no_motion() -> None:
    still = replace(result(), slices=result().slices.moved(Rigid.identity(len(result().slices))))
    found = scanner_motion(still)
    assert found.turn.max() < 1e-6 and found.shift.max() < 1e-9


def test_it_is_turn_and_shift_at_the_middle_of_the_region() -> None:
    made = result()
    inside = np.argwhere(np.asarray(made.mask.dataobj) > 0)
    middle = made.mask.affine @ [*inside.mean(axis=0), 1]
    turned = Rigid.exp([0, 0, 0, 0, 0, np.deg2rad(20.0)]).about(middle[:3])
    moved = Rigid.exp([3.0, 4.0, 0, 0, 0, 0]) @ turned
    alike = Rigid(np.tile(moved.matrix, (len(made.slices), 1, 1)))
    found = scanner_motion(replace(made, slices=made.slices.moved(alike)))
    np.testing.assert_allclose(found.turn, 20.0)
    np.testing.assert_allclose(found.shift, 5.0)


def test_standard_space_is_no_motion() -> None:
    made = result()
    there = Rigid.exp([30.0, -20.0, 10.0, 0.8, -0.5, 0.3])
    placed = Placement(there, "a brain", 0.9, 0.2)
    moved = replace(
        made,
        slices=made.slices.moved(there @ made.slices.motion),
        mask=type(made.mask)(np.asarray(made.mask.dataobj), there.matrix @ made.mask.affine),
        placement=placed,
        settings=replace(made.settings, orientation="standard"),
    )
    for one, other in zip(vars(scanner_motion(moved)).values(), vars(scanner_motion(made)).values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_table_on_a_terminal_says_what_the_page_says() -> None:
    page = [row.moved for row in contents_of(result()).stacks]
    assert [told.motion for told in stack_summaries(result())] == pytest.approx(page)
    assert len(page) == len(small().stacks)
