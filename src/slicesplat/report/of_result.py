"""What a page shows of a reconstruction: taken from the result, computed once."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from slicesplat.config import Config
from slicesplat.geometry.placement import Placement
from slicesplat.geometry.slices import Slices
from slicesplat.geometry.stack import Stack
from slicesplat.progress import StepRecord
from slicesplat.records import SliceRecord, SweepRecord, Verdict
from slicesplat.report.charts import Chart, Line, viridis
from slicesplat.report.contents import Cell, Contents, StackRow
from slicesplat.report.coverage import Coverage, coverage
from slicesplat.report.layers import OVER, Layer, cropped, padded
from slicesplat.report.motion import ScannerMotion, scanner_motion
from slicesplat.report.sheets import sheet

Float = NDArray[np.float64]

ACQUIRED, PREDICTED = "Acquired, where the scanner put it", "Predicted by the volume"
"""Headings of the images."""
LEAST_NCC = 0.5
"""What the dark end of the heat map stands for: slices that are used correlate better."""


class Reconstruction(Protocol):
    """What a page needs of a result."""

    @property
    def volume(self) -> SpatialImage:
        """The volume."""

    @property
    def mask(self) -> SpatialImage:
        """Where the region is."""

    @property
    def uncertainty(self) -> SpatialImage | None:
        """The standard error of every voxel."""

    @property
    def placement(self) -> Placement | None:
        """How the brain lies in standard space."""

    @property
    def stacks(self) -> Sequence[Stack]:
        """What the slices come from."""

    @property
    def slices(self) -> Slices:
        """At their final poses."""

    @property
    def settings(self) -> Config:
        """What was asked for."""

    @property
    def steps(self) -> Sequence[StepRecord]:
        """What each step took."""

    @property
    def sweeps(self) -> Sequence[SweepRecord]:
        """The error after every sweep of the fit."""

    @property
    def warnings(self) -> Sequence[str]:
        """What was to be looked at."""

    @property
    def verdict(self) -> Verdict:
        """Whether it can be believed."""

    @property
    def noise(self) -> float:
        """On the scale of the input."""

    @property
    def expected_error(self) -> float:
        """The same."""

    def slice_records(self) -> list[SliceRecord]:
        """Every slice."""

    def simulated(self) -> list[Stack]:
        """The stacks as the volume predicts them."""

    def json(self) -> dict[str, Any]:
        """Everything that is known, as values."""


def contents_of(result: Reconstruction, command: Sequence[str] = ()) -> Contents:
    """What a page shows of a reconstruction.

    Parameters
    ----------
    result : Reconstruction
    command : sequence of str
        The command line that it came from; folders are left out.
    """
    records, simulated = result.slice_records(), result.simulated()
    used = np.array([record.used for record in records], bool)
    thickness = np.array([result.stacks[number].thickness for number in result.slices.stack])
    inside = np.asarray(result.mask.dataobj) > 0
    seen = coverage(inside, np.asarray(result.mask.affine), result.slices, used, thickness)
    moved = scanner_motion(result)
    sheets = {
        number: sheet(result.stacks[number], simulated[number], result.slices, which.tolist())
        for number in range(len(result.stacks))
        if len(which := np.flatnonzero(result.slices.stack == number))
    }
    known = result.json()
    return Contents(
        title="Reconstruction",
        layers=layers_of(result, simulated, seen),
        figures=_figures(result, records),
        verdict=result.verdict,
        warnings=[without_folders(text) for text in result.warnings],
        stacks=_stack_rows(result, records, moved),
        cells=_cells(result, records, moved),
        sheets=sheets,
        motion=_motion_charts(result, records, moved),
        fit=_fit_charts(result),
        covered=seen,
        tables={
            "Seconds": {step.step: f"{step.seconds:.1f}" for step in result.steps},
            "Versions": {**known["versions"], "device": known["device"]},
            "Settings": flat(known["settings"]),
        },
        command=" ".join(shlex.quote(without_folders(word)) for word in command),
    )


def layers_of(result: Reconstruction, simulated: Sequence[Stack], seen: Coverage) -> list[Layer]:
    """The images of a reconstruction, all in one world space; the grid of the first holds the others."""
    affine = np.asarray(result.volume.affine, dtype=np.float64)
    wide, wide_affine = padded(np.asarray(result.volume.dataobj), affine)
    acquired, predicted = [], []
    for number, (stack, shown) in enumerate(zip(result.stacks, simulated, strict=True)):
        if not stack.mask.any():
            continue
        box, there = cropped(stack)
        acquired.append(Layer(f"stack-{number}", stack.name, ACQUIRED, stack.data[box], there))
        predicted.append(Layer(f"predicted-{number}", f"{stack.name}, predicted", PREDICTED, shown.data[box], there))
    layers = [Layer("volume", "Reconstruction", "Volume", wide, wide_affine), *acquired, *predicted]
    if result.uncertainty is not None:
        error = np.asarray(result.uncertainty.dataobj)
        layers.append(Layer("uncertainty", "Standard error", OVER, error, affine, "viridis", True))
    inside = np.asarray(result.mask.dataobj)
    most = float(max(seen.slices.max(initial=0), 1))
    return [
        *layers,
        Layer("coverage", "Slices that saw it", OVER, seen.slices, seen.affine, "viridis", True, (0.0, most)),
        Layer("mask", "Mask", OVER, inside, affine, "region", True, (0.0, 1.0)),
    ]


def without_folders(text: str) -> str:
    """A text whose paths are names: what follows the last separator of every word.

    Examples
    --------
    >>> without_folders("--stack-masks=/home/ann/m.nii.gz"), without_folders("a/b.nii.gz: is empty")
    ('--stack-masks=m.nii.gz', 'b.nii.gz: is empty')
    """
    return " ".join(_name(word) for word in text.split(" "))


def _name(word: str) -> str:
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    # Punctuation behind a path stays; a fraction such as 3/4 is no path.
    if ("/" not in value and "\\" not in value) or value.replace("/", "").replace(".", "").isdigit():
        return word
    name = PurePath(value.replace("\\", "/")).name
    return f"{flag}{equals}{name or value}"


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names.

    Examples
    --------
    >>> flat({"seed": 0, "fit": {"prior": "curvature"}})
    {'seed': 0, 'fit.prior': 'curvature'}
    """
    out: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            out.update(flat(value, f"{above}{name}."))
        else:
            out[f"{above}{name}"] = value
    return out


def _figures(result: Reconstruction, records: Sequence[SliceRecord]) -> list[tuple[str, str]]:
    used = sum(record.used for record in records)
    size = " x ".join(str(n) for n in result.volume.shape[:3])
    spacing = float(np.linalg.norm(np.asarray(result.volume.affine)[:3, 0]))
    return [
        ("Slices used", f"{used} of {len(records)}"),
        ("Voxels", f"{size}, {spacing:.3g} mm"),
        ("Noise", f"{result.noise:.3g}"),
        ("Error at pixels left out", f"{result.expected_error:.3g}" if result.expected_error else "none were"),
        ("Seconds", f"{sum(step.seconds for step in result.steps):.0f}"),
    ]


def _stack_rows(result: Reconstruction, records: Sequence[SliceRecord], moved: ScannerMotion) -> list[StackRow]:
    rows = []
    for number, stack in enumerate(result.stacks):
        own = [s for s, record in enumerate(records) if record.stack == number]
        used = [s for s in own if records[s].used]
        reasons = sorted({str(records[s].left_out) for s in own if records[s].left_out})
        counted = [f"{sum(records[s].left_out == reason for s in own)} {reason}" for reason in reasons]
        rows.append(
            StackRow(
                stack.name,
                len(own),
                len(used),
                ", ".join(counted) or "none",
                _mean([records[s].ncc for s in used]),
                float(np.median(moved.shift[used])) if used else math.nan,
                float(np.median([records[s].gain for s in used])) if used else math.nan,
            )
        )
    return rows


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _cells(result: Reconstruction, records: Sequence[SliceRecord], moved: ScannerMotion) -> list[list[Cell]]:
    """By stack, its slices from the first to the last."""
    rows: list[list[Cell]] = [[] for _ in result.stacks]
    for s, record in enumerate(records):
        name, state = result.stacks[record.stack].name, record.left_out or ("held" if record.held else "used")
        centre = result.slices.pose[s].map(result.slices.plane_points(s).mean(axis=0))
        facts = (
            ("Stack", name),
            ("Slice", f"{record.slice} (counting from 0)"),
            ("State", f"left out: {state}" if record.left_out else state),
            ("NCC", _told(record.ncc, ".3f")),
            ("Weight", _told(record.weight, ".2f")),
            ("Gain", _told(record.gain, ".3f")),
            ("Turned by", f"{moved.turn[s]:.1f}°"),
            ("Moved by", f"{moved.shift[s]:.1f} mm"),
            ("Pose known to", f"{_told(record.standard_error, '.2f')} mm"),
        )
        label = f"{name}, slice {record.slice}: NCC {_told(record.ncc, '.2f')}, weight {_told(record.weight, '.2f')}"
        rows[record.stack].append(
            Cell(
                record.stack,
                record.slice,
                label + (f", left out: {state}" if record.left_out else ""),
                viridis((record.ncc - LEAST_NCC) / (1 - LEAST_NCC)),
                viridis(record.weight),
                record.left_out is not None,
                facts,
                (round(float(centre[0]), 2), round(float(centre[1]), 2), round(float(centre[2]), 2)),
            )
        )
    return rows


def _told(value: float, how: str) -> str:
    return format(value, how) if math.isfinite(value) else "not known"


def _motion_charts(result: Reconstruction, records: Sequence[SliceRecord], moved: ScannerMotion) -> list[Chart]:
    error = np.array([record.standard_error for record in records], dtype=np.float64)
    given = (("Rotation", "degrees", moved.turn), ("Translation", "mm", moved.shift), ("Standard error", "mm", error))
    charts = []
    for title, unit, values in given:
        lines = []
        for number, stack in enumerate(result.stacks):
            order = result.slices.in_time(number)
            if len(order):
                points = [(float(place), float(values[s])) for place, s in enumerate(order)]
                hollow = frozenset(place for place, s in enumerate(order) if not records[s].used)
                lines.append(Line(stack.name, points, number, hollow))
        if any(math.isfinite(y) for line in lines for _, y in line.points):
            charts.append(Chart(title, "place in the order of acquisition", unit, lines))
    return charts


def _fit_charts(result: Reconstruction) -> list[Chart]:
    if not any(sweep.error for sweep in result.sweeps):  # too few pixels to leave any out
        return []
    parts = list(dict.fromkeys(sweep.part for sweep in result.sweeps))
    lines = [
        Line(
            part,
            [(float(place), sweep.error) for place, sweep in enumerate(result.sweeps, 1) if sweep.part == part],
            number,
        )
        for number, part in enumerate(parts)
    ]
    level = ("noise", result.noise)
    return [Chart("Error over the fit", "sweep", "root-mean-square error", lines, level)]
