"""What a reconstruction found, at its end: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slicesplat.commands.base import log
from slicesplat.records import Grade, SliceRecord, Verdict
from slicesplat.report.motion import scanner_motion
from slicesplat.result import Reconstruction
from slicesplat.terminal import printable

_COLOURS: dict[Grade, str] = {"pass": "green", "check": "yellow", "fail": "red"}
_MEGABYTES = 1024.0


@dataclass(frozen=True)
class StackSummary:
    """What became of a stack.

    Attributes
    ----------
    name : str
    slices, used : int
    left_out : str
        How many slices for which reason; empty where all are used.
    ncc, motion, gain : float
        Of the slices that are used: mean correlation with their prediction, median distance, mm at the centre of the
        region, from where the scanner put them, and median intensity over the volume's. NaN where none is.
    """

    name: str
    slices: int
    used: int
    left_out: str
    ncc: float
    motion: float
    gain: float

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        numbers = (f"{self.ncc:.3f}", f"{self.motion:.1f} mm", f"{self.gain:.2f}") if self.used else ("", "", "")
        return printable(self.name), str(self.slices), str(self.used), self.left_out, *numbers

    def sentence(self) -> str:
        """The same in words."""
        why = f" (left out: {self.left_out})" if self.left_out else ""
        told = f"{self.name}: {self.used} of {self.slices} slices used{why}"
        if not self.used:
            return told
        return f"{told}, mean NCC {self.ncc:.3f}, median motion {self.motion:.1f} mm, gain {self.gain:.2f}"


def stack_summaries(result: Reconstruction) -> list[StackSummary]:
    """What became of every stack, as they were given."""
    records = result.slice_records()
    moved = scanner_motion(result).shift
    return [
        _of_stack(stack.name, [(record, float(step)) for record, step in zip(records, moved, strict=True)
                               if record.stack == number])
        for number, stack in enumerate(result.stacks)
    ]  # fmt: skip


def _of_stack(name: str, own: list[tuple[SliceRecord, float]]) -> StackSummary:
    used = [(record, step) for record, step in own if record.used]
    lost = Counter(record.left_out for record, _ in own if record.left_out)
    nan = float("nan")
    return StackSummary(
        name=name,
        slices=len(own),
        used=len(used),
        left_out=", ".join(f"{count} {reason}" for reason, count in sorted(lost.items())),
        ncc=float(np.mean([record.ncc for record, _ in used])) if used else nan,
        motion=float(np.median([step for _, step in used])) if used else nan,
        gain=float(np.median([record.gain for record, _ in used])) if used else nan,
    )


def summarise(result: Reconstruction, console: Console) -> None:
    """Tell what was found and what the verdict on it is."""
    if console.is_terminal:
        console.print(_table(stack_summaries(result)))
        console.print(Text("  ".join(_figures(result)), style="dim"))
        console.print(_shown(result.verdict), soft_wrap=True)
        return
    for stack in stack_summaries(result):
        log.info("%s", stack.sentence())
    log.info("%s", ", ".join(_figures(result)))
    if not result.verdict.reasons:
        log.info("verdict: %s", result.verdict.grade)
    for reason in result.verdict.reasons:
        log.warning("verdict: %s: %s", result.verdict.grade, reason)


def _table(stacks: list[StackSummary]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, side in zip(
        ("stack", "slices", "used", "left out", "mean NCC", "median motion", "gain"), "lrrlrrr", strict=True
    ):
        table.add_column(head, justify="left" if side == "l" else "right", overflow="fold")
    for stack in stacks:
        table.add_row(*(Text(cell) for cell in stack.cells()))
    return table


def _figures(result: Reconstruction) -> Iterator[str]:
    """What the fit as a whole came to, with its unit."""
    yield f"noise {result.noise:.3g}"
    if result.expected_error > 0:  # too few pixels to leave any out
        yield f"expected error {result.expected_error:.3g}"
    yield f"{len(result.field):,} Gaussians"
    yield f"{sum(step.seconds for step in result.steps):.0f} s"
    memory = [step.peak_memory_mb for step in result.steps if step.peak_memory_mb is not None]
    if memory:
        yield f"{max(memory) / _MEGABYTES:.1f} GB"


def _shown(verdict: Verdict) -> Text:
    shown = Text("verdict: ").append(verdict.grade, style=f"bold {_COLOURS[verdict.grade]}")
    for reason in verdict.reasons:
        shown.append(f"\n  - {printable(reason)}")
    return shown
