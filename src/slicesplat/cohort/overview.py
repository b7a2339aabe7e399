"""A cohort at a glance: a table for programs, and a page for people that sorts, filters and leads to every report."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from slicesplat.cohort.figures import Figures
from slicesplat.cohort.task import Outcome, Task, found
from slicesplat.io.atomic import atomic_path
from slicesplat.version import __version__

TABLE, PAGE = "cohort.tsv", "cohort.html"
COLUMNS = (
    "participant_id", "state", "verdict", "stacks", "slices", "left_out", "ncc", "error_over_noise", "gaussians",
    "seconds", "memory_gb", "volume", "reasons",
)  # fmt: skip
_NOT_KNOWN = "n/a"
"""As BIDS has it in tables."""
_STATES = {"written": "done", "there": "done", "failed": "failed", "elsewhere": "running elsewhere"}
WAITING = "waiting"


@dataclass(frozen=True)
class Line:
    """A subject in the overview.

    Attributes
    ----------
    name, state : str
    figures : Figures
    why : str
        Error, or what speaks against the volume.
    volume, report : str
        Below the folder of outputs; "" where there is none.
    """

    name: str
    state: str
    figures: Figures
    why: str
    volume: str
    report: str

    @property
    def grade(self) -> str:
        """What the page colours and sorts by."""
        return self.state if self.state != "done" else self.figures.verdict or "done"

    @property
    def report_link(self) -> str:
        """The report's address, relative to the page."""
        return quote(self.report)

    def cells(self) -> list[str]:
        """The values of `COLUMNS`, as text."""
        seen = self.figures
        memory = None if seen.memory is None else round(seen.memory / 1e9, 2)
        values = (
            *(self.name, self.state, seen.verdict, seen.stacks, seen.slices, seen.left_out, seen.ncc, seen.error),
            *(seen.gaussians, seen.seconds, memory, self.volume or None, " ".join(self.why.split()) or None),
        )
        return [_NOT_KNOWN if value is None else str(value) for value in values]


def lines_of(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> list[Line]:
    """The lines of all subjects: also of those that this run had nothing to do with, as earlier runs left them."""
    known = {outcome.name: outcome for outcome in outcomes}
    return [_line(task, known.get(task.name)) for task in tasks]


def _line(task: Task, outcome: Outcome | None) -> Line:
    record = outcome.record if outcome is not None else found(task)
    without = WAITING if record is None else "done"
    state = without if outcome is None else _STATES[outcome.state]
    figures = Figures() if record is None else record.figures
    files = {} if record is None else record.files
    why = outcome.error if outcome is not None and outcome.error else "; ".join(figures.reasons)
    volume, report = (name if name in files else "" for name in (task.made.volume, task.made.report))
    return Line(task.name, state, figures, why, volume, report)


def save_overview(lines: Sequence[Line], root: Path) -> None:
    """Write table and page.

    Raises
    ------
    OSError
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(line.cells() for line in lines)
    with atomic_path(root / TABLE) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    with atomic_path(root / PAGE) as temporary:
        temporary.write_text(page_of(lines), encoding="utf-8")


def page_of(lines: Sequence[Line]) -> str:
    """The page: one file that needs no network; names and messages are escaped."""
    environment = Environment(
        loader=PackageLoader("slicesplat.cohort", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    folder = resources.files("slicesplat.cohort") / "page"
    palette = resources.files("slicesplat.report") / "page" / "palette.css"
    files = (palette, folder / "cohort.css", folder / "cohort.js")
    colours, style, script = (Markup(file.read_text(encoding="utf-8")) for file in files)
    grades = [grade for grade in ("fail", "failed", "check", "pass", "done") if any(x.grade == grade for x in lines)]
    others = sorted({line.grade for line in lines} - set(grades))
    counted = [(grade, sum(line.grade == grade for line in lines)) for grade in (*grades, *others)]
    template = environment.get_template("cohort.html.j2")
    return template.render(lines=lines, counted=counted, style=colours + style, script=script, version=__version__)
