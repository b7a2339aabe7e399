"""``slicesplat compare``: two reconstructions of one brain, ours or another tool's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from nibabel.spatialimages import SpatialImage
from rich.console import Console
from rich.table import Table

from slicesplat.commands.base import OptionalPath, log, show
from slicesplat.commands.stacks import StackCommand
from slicesplat.commands.view import serve
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.files import save_json
from slicesplat.io.masks import load_masked_volume
from slicesplat.io.nifti import load_volume
from slicesplat.io.outputs import Outputs
from slicesplat.pipeline.slice_agreement import SliceAgreement
from slicesplat.report.charts import Chart, Line
from slicesplat.report.contents import Contents, Measures
from slicesplat.report.layers import Layer, padded, shown_window
from slicesplat.report.page import page, save_page
from slicesplat.report.serving import LIVE
from slicesplat.validation.compare import Comparison, compare
from slicesplat.validation.evaluate import Score


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Compare two reconstructions: side by side, their difference, and how well each predicts the slices.

    The second is aligned rigidly to the first, or both to a reference. Without one, PSNR and SSIM say how alike the two
    are, not which is better; the correlation with the slices does.

    Attributes
    ----------
    first : path
        A reconstruction, NIfTI; where the stacks lie, if they are given.
    second : path
        Another one of the same brain, on any grid, in any place that a rigid registration finds from where it is.
    reference : path
        What both are compared with, NIfTI.
    reference_mask : path
        Where, on the reference's grid, or the first one's where there is no reference. None: where it is not zero.
    input_stacks : paths
        The stacks that both were made of: each slice is brought onto each reconstruction and correlated with what that
        predicts for it.
    register : bool
        Align rigidly; without, the world frames are taken as they are.
    output_report : path
        The page to write, .html.
    output_json : path
        Where to write the figures.
    view : bool
        Open the page in the browser, until it is closed.
    """

    first: tyro.conf.Positional[Path]
    second: tyro.conf.Positional[Path]
    reference: OptionalPath = None
    reference_mask: OptionalPath = None
    input_stacks: tuple[Path, ...] = ()
    register: bool = True
    output_report: OptionalPath = None
    output_json: OptionalPath = None
    view: bool = False

    def execute(self, console: Console) -> None:
        """Check, compare, print, write, show."""
        outputs = self.outputs()
        outputs.add_file(self.output_report, suffixes=(".html",))
        outputs.add_file(self.output_json, suffixes=(".json",))
        found = self._compared()
        stacks = self.load_stacks() if self.input_stacks else []
        of_slices = [self._of_slices(image, stacks) for image in found.in_one_space] if stacks else []
        contents = self._contents(found, stacks, of_slices)
        show(_table(contents.measures))
        with outputs.writing() as write:
            write(self.output_json, partial(save_json, self._figures(found, of_slices)))
            write(self.output_report, lambda path: save_page(contents, path))
        if self.view:
            serve(page(contents, LIVE), 0, True)

    def outputs(self) -> Outputs:
        """What the command is to write: none of what it compares, nor a stack."""
        made = super().outputs()
        for path in (self.first, self.second, self.reference, self.reference_mask):
            made = made if path is None else made.reading(path)
        return made

    def _compared(self) -> Comparison:
        fixed = self.first if self.reference is None else self.reference
        if self.reference_mask is None:
            known = load_volume(fixed)
            mask = type(known)((np.asarray(known.dataobj) > 0).astype(np.uint8), known.affine)
        else:
            known, mask, notes = load_masked_volume(fixed, self.reference_mask)
            for note in notes:
                log.info(note)
        first = known if self.reference is None else load_volume(self.first)
        reference = None if self.reference is None else known
        try:
            return compare(first, load_volume(self.second), mask, reference, self.register)
        except ValueError as error:
            raise InputError(f"{self.first} and {self.second}: {error}; check that they show one brain") from error

    def _of_slices(self, volume: SpatialImage, stacks: Sequence[Stack]) -> list[SliceAgreement]:
        from slicesplat.pipeline.slice_agreement import slice_agreement

        try:
            return slice_agreement(volume, stacks)
        except InputError as error:
            raise InputError(f"{self.first} and {self.second}: {error}") from error

    @property
    def _names(self) -> tuple[str, str]:
        first, second = self.first.name, self.second.name
        return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")

    def _figures(self, found: Comparison, of_slices: Sequence[Sequence[SliceAgreement]]) -> dict[str, Any]:
        """The content of the JSON file."""
        scores = {name: score.json() for name, score in self._scores(found)}
        slices = {
            name: {"ncc_mean": _mean(seen), "slices": [asdict(each) for each in seen]}
            for name, seen in zip(("first", "second"), of_slices, strict=False)
        }
        return {"scores": scores, **({"slice_agreement": slices} if slices else {})}

    def _scores(self, found: Comparison) -> list[tuple[str, Score]]:
        first, second = self._names
        if found.first is None:
            return [(f"{second} against {first}", found.second)]
        return [(f"{first} against the reference", found.first), (f"{second} against the reference", found.second)]

    def _contents(
        self, found: Comparison, stacks: Sequence[Stack], of_slices: Sequence[Sequence[SliceAgreement]]
    ) -> Contents:
        """The page."""
        names = self._names
        rows = [
            (name, f"{score.psnr:.2f} dB", f"{score.ssim:.4f}", f"{score.ncc:.4f}", f"{score.nrmse:.4f}")
            for name, score in self._scores(found)
        ]
        measures = [Measures("How alike", ("", "PSNR", "SSIM", "NCC", "NRMSE"), rows, "Inside the mask.")]
        charts = []
        if of_slices:
            measures.append(_stack_measures(names, stacks, of_slices))
            lines = [
                Line(name, [(float(place), each.ncc) for place, each in enumerate(seen)], number)
                for number, (name, seen) in enumerate(zip(names, of_slices, strict=True))
            ]
            charts.append(Chart("Correlation with the slices", "slice, stack after stack", "NCC", lines))
        return Contents(
            title=f"{names[0]} and {names[1]}",
            layers=_layers(found, names),
            measures=measures,
            agreement=charts,
            beside=True,
        )


def _layers(found: Comparison, names: tuple[str, str]) -> list[Layer]:
    """Both on one grid, their difference, and what they are compared with."""
    shown = [("a", names[0], found.images[0]), ("b", names[1], found.images[1])]
    if found.reference is not None:
        shown.append(("reference", "Reference", found.reference))
    layers = [Layer(key, label, "Images", *padded(image, found.affine)) for key, label, image in shown]
    window = shown_window(layers[0].values)
    layers = [Layer(x.key, x.label, x.group, x.values, x.affine, window=window) for x in layers]
    pairs = [("difference", f"{names[1]} less {names[0]}", found.images[1] - found.images[0])]
    if found.reference is not None:
        pairs += [(f"off-{key}", f"{label} less reference", image - found.reference) for key, label, image in shown[:2]]
    inside = found.mask
    reach = max(float(np.percentile(np.abs(image[inside]), 99.5)) for *_, image in pairs) or 1.0
    for key, label, image in pairs:
        values, affine = padded(np.where(inside, image, 0), found.affine)
        layers.append(Layer(key, label, "Differences", values, affine, "difference", False, (-reach, reach), True))
    return layers


def _stack_measures(
    names: tuple[str, str], stacks: Sequence[Stack], of_slices: Sequence[Sequence[SliceAgreement]]
) -> Measures:
    first, second = of_slices
    rows = []
    for number, stack in enumerate(stacks):
        own = [[each for each in seen if each.stack == number] for seen in (first, second)]
        if own[0]:
            rows.append((stack.name, str(len(own[0])), *(f"{_mean(seen):.4f}" for seen in own)))
    better = sum(a.ncc > b.ncc for a, b in zip(first, second, strict=True))
    rows.append(("all slices", str(len(first)), f"{_mean(first):.4f}", f"{_mean(second):.4f}"))
    note = (
        "Mean correlation of the slices with what each reconstruction predicts for them, each slice brought onto it "
        f"first. {names[0]} is ahead in {better} of {len(first)} slices."
    )
    return Measures("Agreement with the slices", ("Stack", "Slices", *names), rows, note)


def _mean(seen: Sequence[SliceAgreement]) -> float:
    return float(np.mean([each.ncc for each in seen])) if seen else float("nan")


def _table(measures: Sequence[Measures]) -> Table:
    """All tables in one, under each other."""
    table = Table(*measures[0].head)
    for row in measures[0].rows:
        table.add_row(*row)
    for other in measures[1:]:
        table.add_section()
        table.add_row(*other.head)
        for row in other.rows:
            table.add_row(*row)
    return table
