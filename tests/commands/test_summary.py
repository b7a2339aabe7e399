"""What a run found is told at its end: a table on a terminal, plain lines elsewhere, nothing to who wants quiet."""

from __future__ import annotations

import io
import logging
from dataclasses import replace

import numpy as np
import pytest
from reconstructions import result
from rich.console import Console

from slicesplat.commands.base import ProgressDisplay
from slicesplat.commands.summary import stack_summaries, summarise
from slicesplat.progress import Progress
from slicesplat.result import Reconstruction


def terminal(**settings: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None, **settings)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def with_losses() -> Reconstruction:
    """The first stack loses two slices, one of them to dropout; the second is lost as a whole."""
    made = result()
    weight, dropout = np.ones(len(made.slices)), np.zeros(len(made.slices), bool)
    first = np.flatnonzero(made.slices.stack == 0)
    weight[first[:2]], dropout[first[0]] = 0.0, True
    weight[made.slices.stack == 1] = 0.0
    names = ["<b>a</b>.nii.gz", "b[red].nii.gz", "c\x1b[31m.nii.gz"]
    stacks = [replace(stack, name=name) for stack, name in zip(made.stacks, names, strict=True)]
    return replace(made, weight=weight, dropout=dropout, stacks=stacks)


def test_of_every_stack_it_is_said_what_was_used_and_why_not_all() -> None:
    made = with_losses()
    first, second, third = stack_summaries(made)
    own = made.slices.stack == 0
    assert first.slices == own.sum() and first.used == first.slices - 2
    assert first.left_out == "1 no match, 1 signal dropout"
    assert first.ncc == pytest.approx(made.ncc[own & (made.weight > 0)].mean())
    assert second.used == 0 and np.isnan(second.motion) and second.cells()[-1] == ""
    assert third.left_out == "" and 0 < third.motion < 20 and 0.8 < third.gain < 1.2


def test_a_terminal_gets_a_table_with_names_as_they_are_and_the_verdict_with_its_reasons() -> None:
    console, made = terminal(), with_losses()
    summarise(made, console)
    text = shown(console)
    assert "<b>a</b>.nii.gz" in text and "b[red].nii.gz" in text
    assert "\x1b" not in text
    for word in ("mean NCC", "median motion", "left out", "Gaussians", "GB", f"verdict: {made.verdict.grade}"):
        assert word in text
    assert all(reason in text for reason in made.verdict.reasons)
    assert len(made.verdict.reasons) >= 1


def test_elsewhere_it_is_a_line_for_each_stack_and_warnings_for_the_reasons(caplog: pytest.LogCaptureFixture) -> None:
    console = Console(file=io.StringIO(), width=80)
    with caplog.at_level(logging.INFO, logger="slicesplat"):
        summarise(with_losses(), console)
        summarise(result(), console)
    assert shown(console) == ""
    assert any("slices used (left out: 1 no match, 1 signal dropout)" in line for line in caplog.messages)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == len(with_losses().verdict.reasons)
    assert all(line.startswith(f"verdict: {with_losses().verdict.grade}: ") for line in warned)
    assert caplog.messages[-1] == "verdict: pass"


def test_who_wants_quiet_sees_no_table() -> None:
    console = terminal(quiet=True)
    summarise(result(), console)
    assert shown(console) == ""


def test_steps_are_named_and_complete_when_the_next_begins() -> None:
    console = terminal()
    with ProgressDisplay(console) as progress:
        for step, total in (("prepare", 1), ("register", 10)):
            for done in range(0, total, 2):
                progress(Progress(step, done, total))
    lines = shown(console).splitlines()
    assert any("prepare" in line and "1/1" in line for line in lines)
    assert any("register" in line and "10/10" in line for line in lines)


def test_seconds_left_are_told_while_a_step_is_at_work() -> None:
    console, clock = terminal(), iter(range(10_000))
    display = ProgressDisplay(console)
    assert display._bar is not None
    display._bar.get_time = lambda: float(next(clock))
    with display as progress:
        for done in range(6):
            progress(Progress("fit", done, 10))
        display._bar.refresh()
        assert " s left" in shown(console)
