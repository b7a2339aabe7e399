"""``slicesplat evaluate``: how good a reconstruction is when the truth is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from slicesplat.commands.base import BaseCommand, OptionalPath, log, show
from slicesplat.errors import InputError
from slicesplat.io.files import load_json, save_json
from slicesplat.io.masks import load_masked_volume
from slicesplat.io.nifti import load_volume
from slicesplat.io.outputs import Outputs
from slicesplat.records import SliceRecord
from slicesplat.validation.evaluate import Score, score
from slicesplat.validation.files import SIMULATION_FILES
from slicesplat.validation.pose_error import PoseError, pose_error
from slicesplat.validation.simulate import Truth


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Score a reconstruction against the known truth.

    Attributes
    ----------
    volume : path
        The reconstruction, NIfTI.
    truth : path
        The known volume. None: truth.nii.gz of the simulation.
    truth_mask : path
        Where the score is taken, on the truth's grid. None: truth-mask.nii.gz of the simulation.
    simulation : path
        Folder as `slicesplat simulate` writes it.
    result_json : path
        What `slicesplat reconstruct --output-json` wrote; with it the slice poses are scored too.
    output_json : path
        Where to write the figures.
    register : bool
        Align the reconstruction rigidly first; without, the world frames are taken as they are.
    """

    volume: Path
    truth: OptionalPath = None
    truth_mask: OptionalPath = None
    simulation: OptionalPath = None
    result_json: OptionalPath = None
    output_json: OptionalPath = None
    register: bool = True

    def execute(self, console: Console) -> None:
        """Check, score, write, print."""
        outputs = Outputs(self._inputs())
        outputs.add_file(self.output_json, suffixes=(".json",))
        truth_path, mask_path = self._truth(self.truth, "truth"), self._truth(self.truth_mask, "truth-mask")
        truth, mask, notes = load_masked_volume(truth_path, mask_path)
        volume = load_volume(self.volume)
        poses = self._pose_error(self.result_json) if self.result_json else None
        try:
            quality = score(volume, truth, mask, register=self.register)
        except ValueError as error:
            raise InputError(f"{self.volume}: {error}; check that truth and reconstruction belong together") from error
        for note in notes:
            log.info(note)
        with outputs.writing() as write:
            write(self.output_json, partial(save_json, _figures(quality, poses)))
        show(_table(quality, poses))

    def _inputs(self) -> list[Path]:
        given = [path for path in (self.volume, self.truth, self.truth_mask, self.result_json) if path]
        if self.simulation and os.path.isdir(self.simulation):
            given += [path for path in self.simulation.iterdir() if SIMULATION_FILES.fullmatch(path.name)]
        return given

    def _truth(self, given: Path | None, name: str) -> Path:
        if given:
            return given
        if self.simulation:
            return self.simulation / f"{name}.nii.gz"
        raise InputError(f"{self.volume}: nothing to compare it with; give --{name}, or --simulation")

    def _pose_error(self, result_json: Path) -> PoseError:
        if self.simulation is None:
            raise InputError(f"{result_json}: no true poses to compare with; give --simulation")
        truth_json = self.simulation / "truth.json"
        found, known = load_json(result_json), load_json(truth_json)
        try:
            slices, truth = [SliceRecord.from_json(entry) for entry in found["slices"]], Truth.from_json(known)
            masks = [load_volume(self.simulation / f"mask-{1 + stack}.nii.gz") for stack in range(len(truth.motion))]
            return pose_error(slices, truth, masks)
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # What is wrong may quote the files' texts.
            raise InputError(f"{result_json}: does not belong to {truth_json}; check both paths") from error


def _table(quality: Score, poses: PoseError | None) -> Table:
    table = Table("measure", "value")
    table.add_row("PSNR", f"{quality.psnr:.2f} dB")
    table.add_row("SSIM", f"{quality.ssim:.4f}")
    table.add_row("NCC", f"{quality.ncc:.4f}")
    table.add_row("NRMSE", f"{quality.nrmse:.4f}")
    if poses:
        table.add_row("slices compared", f"{poses.slices}")
        table.add_row("slices used", f"{poses.used}")
        table.add_row("pose error, median", f"{poses.tre_median:.2f} mm")
        table.add_row("pose error, mean", f"{poses.tre_mean:.2f} mm")
        table.add_row("pose error, 95th percentile", f"{poses.tre_p95:.2f} mm")
        table.add_row("pose error, mean of used slices", f"{poses.tre_mean_used:.2f} mm")
        table.add_row("used slices over 2 mm", f"{poses.over_2mm_used}")
    return table


def _figures(quality: Score, poses: PoseError | None) -> dict[str, Any]:
    """The content of the JSON file."""
    return {"score": quality.json(), **({"pose_error": poses.json()} if poses else {})}
