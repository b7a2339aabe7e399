"""``slicesplat assess``: what the stacks are like, before anything is reconstructed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slicesplat.commands.base import OptionalPath, show
from slicesplat.commands.stacks import StackCommand
from slicesplat.geometry.stack import Stack
from slicesplat.io.files import save_json
from slicesplat.pipeline.setup import numbers_with_a_region
from slicesplat.prepare.assess import StackAssessment, assess, by_motion, least_motion, warn_of_shading
from slicesplat.prepare.choose import Choice, RankedStack, log_excluded, rank
from slicesplat.prepare.duplicates import find_copies, warn_of_copies
from slicesplat.prepare.intensity import signal
from slicesplat.prepare.measures import measure
from slicesplat.records import mask_confidence
from slicesplat.terminal import printable


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Show how much each stack moved, what it covers and what it lost.

    Attributes
    ----------
    output_json : path
        Where to write the figures, and measures of quality under the names that FetMRQC gives them.
    choice : Choice
        What the stacks are ranked by, and which would be left out.
    """

    output_json: OptionalPath = None
    choice: Annotated[Choice, tyro.conf.arg(name="")] = field(default_factory=lambda: Choice(metric="motion"))

    def execute(self, console: Console) -> None:
        """Check, assess, write, print."""
        outputs = self.outputs()
        outputs.add_file(self.output_json, suffixes=(".json",))
        given = self.load_stacks()
        # Those that do not show the brain keep their numbers.
        shown = numbers_with_a_region(given)
        stacks, _ = signal([given[number] for number in shown])
        warn_of_copies(stacks, find_copies(stacks), "a reconstruction leaves it out unless --keep-duplicates is given")
        assessments = assess(stacks)
        warn_of_shading(assessments)
        ranked = rank(stacks, self.choice)
        log_excluded(stacks, ranked, self.choice)
        order = sorted(range(len(stacks)), key=lambda i: ranked[i].rank) if ranked else by_motion(assessments)
        figures = {
            "least_motion": shown[least_motion(stacks, assessments)],
            "metric": self.choice.metric,
            "stacks": [_figures(shown, index, stacks[index], assessments[index], ranked) for index in order],
        }
        with outputs.writing() as write:
            write(self.output_json, partial(save_json, figures))
        show(_table([assessments[index] for index in order]))
        if ranked and self.choice.metric != "motion":
            show(_ranking([ranked[index] for index in order], assessments, self.choice.metric))


def _figures(
    shown: Sequence[int], index: int, stack: Stack, seen: StackAssessment, ranked: Sequence[RankedStack]
) -> dict[str, Any]:
    """A stack's entry in the JSON file."""
    place = asdict(replace(ranked[index], stack=shown[index])) if ranked else {}
    found = {"mask_confidence": mask_confidence(stack.found)} if stack.found is not None else {}
    return {"stack": shown[index], **asdict(seen), **place, "measures": asdict(measure(stack)), **found}


def _ranking(ranked: Sequence[RankedStack], assessments: Sequence[StackAssessment], metric: str) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("stack", overflow="fold")
    for title in (metric, "rank", "used"):
        table.add_column(title, justify="right", no_wrap=True)
    for place in ranked:
        name = Text(printable(assessments[place.stack].name))
        table.add_row(name, f"{place.score:.4g}", str(1 + place.rank), "no" if place.excluded else "yes")
    return table


def _table(assessments: Sequence[StackAssessment]) -> Table:
    table = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        caption="The best first; lengths in mm. motion: median shift between neighbouring slices; "
        "shading: brightest over darkest part of the region, smoothly; lost: slices without signal.",
    )
    table.add_column("stack", overflow="fold")
    for title in ("motion", "NCC", "slices", "cm3", "thick", "every", "packages", "shading"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("lost")
    for stack in assessments:
        table.add_row(
            Text(printable(stack.name)),
            _number(stack.motion_score),
            _number(stack.neighbour_ncc),
            str(stack.n_slices),
            f"{stack.volume_cm3:.0f}",
            f"{stack.thickness:.3g}",
            f"{stack.spacing:.3g}",
            str(stack.interleave),
            _number(stack.shading),
            " ".join(map(str, stack.dropouts)),
        )
    return table


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
