"""What a page shows, as values: `report.page` draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slicesplat.records import Verdict
from slicesplat.report.charts import Chart
from slicesplat.report.coverage import Coverage
from slicesplat.report.layers import Layer
from slicesplat.report.sheets import Sheet


@dataclass(frozen=True)
class StackRow:
    """A stack in figures."""

    name: str
    slices: int
    used: int
    left_out: str
    ncc: float
    moved: float
    gain: float


@dataclass(frozen=True)
class Cell:
    """A slice in the heat map, and what stands beside its pictures."""

    stack: int
    slice: int
    label: str
    ncc_colour: str
    weight_colour: str
    left_out: bool
    facts: tuple[tuple[str, str], ...]
    centre: tuple[float, float, float]


@dataclass(frozen=True)
class Measures:
    """A table of figures: the first of every row is what it is about."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Contents:
    """What a page shows; what is empty is left out.

    Attributes
    ----------
    title : str
    layers : sequence of Layer
        For the viewer; the first one that is no overlay is shown first.
    subtitle : str
    beside : bool
        Whether the first two images are shown side by side to begin with.
    measures : sequence of Measures
        Tables of figures, right below the images.
    figures : sequence of (str, str)
        In large type.
    warnings : sequence of str
    verdict : Verdict or None
    stacks : sequence of StackRow
    cells : sequence of sequence of Cell
        By stack.
    sheets : mapping of int to Sheet
        By stack.
    agreement, motion, fit : sequence of Chart
    covered : Coverage or None
    tables : mapping of str to mapping
        Settings, versions, seconds: what stands at the end, by its heading.
    command : str
        What to type to have it again.
    """

    title: str
    layers: Sequence[Layer]
    subtitle: str = ""
    beside: bool = False
    measures: Sequence[Measures] = ()
    figures: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    verdict: Verdict | None = None
    stacks: Sequence[StackRow] = ()
    cells: Sequence[Sequence[Cell]] = ()
    sheets: Mapping[int, Sheet] = field(default_factory=dict)
    agreement: Sequence[Chart] = ()
    motion: Sequence[Chart] = ()
    fit: Sequence[Chart] = ()
    covered: Coverage | None = None
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command: str = ""
