"""``slicesplat assess``: what the stacks are like, before anything is reconstructed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slicesplat.commands.base import OptionalPath, show
from slicesplat.commands.stacks import StackCommand
from slicesplat.io.files import save_json
from slicesplat.prepare.assess import StackAssessment, assess, by_motion, least_motion, warn_of_shading
from slicesplat.prepare.duplicates import find_copies, warn_of_copies
from slicesplat.prepare.intensity import signal
from slicesplat.terminal import printable


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Show how much each stack moved, what it covers and what it lost.

    Attributes
    ----------
    output_json : path
        Where to write the figures.
    """

    output_json: OptionalPath = None

    def execute(self, console: Console) -> None:
        """Check, assess, write, print."""
        outputs = self.outputs()
        outputs.add_file(self.output_json, suffixes=(".json",))
        stacks, _ = signal(self.load_stacks())
        warn_of_copies(stacks, find_copies(stacks), "a reconstruction leaves it out unless --keep-duplicates is given")
        assessments = assess(stacks)
        warn_of_shading(assessments)
        order = by_motion(assessments)
        entries = [{"stack": index, **asdict(assessments[index])} for index in order]
        figures = {"least_motion": least_motion(stacks, assessments), "stacks": entries}
        with outputs.writing() as write:
            write(self.output_json, partial(save_json, figures))
        show(_table([assessments[index] for index in order]))


def _table(assessments: Sequence[StackAssessment]) -> Table:
    table = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        caption="Least motion first; lengths in mm. motion: median shift between neighbouring slices; "
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
