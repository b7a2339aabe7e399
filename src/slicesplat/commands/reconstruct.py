"""``slicesplat reconstruct``: stacks in, volume out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from slicesplat.commands.base import OptionalPath, ProgressDisplay
from slicesplat.commands.settings import Settings
from slicesplat.commands.stacks import StackCommand
from slicesplat.errors import InputError
from slicesplat.io.files import save_json
from slicesplat.io.nifti import save_volume
from slicesplat.io.slices import save_slices
from slicesplat.pipeline import reconstruct


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Reconstruct a volume from stacks of slices.

    Attributes
    ----------
    output_volume : path
        The volume to write, .nii or .nii.gz.
    output_slices : path
        Folder for the motion-corrected slices, 0.nii.gz, mask_0.nii.gz and so on: the pose is in each affine.
    output_uncertainty : path
        The standard error of every voxel, .nii or .nii.gz, on the volume's scale; takes about as long as the fit.
    output_json : path
        Settings, time and memory of each step, and the pose, weight and gain of each slice.
    config : Settings
        Settings of the reconstruction.
    """

    output_volume: Path
    output_slices: OptionalPath = None
    output_uncertainty: OptionalPath = None
    output_json: OptionalPath = None
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def execute(self, console: Console) -> None:
        """Check, reconstruct, write."""
        self.check_file(self.output_volume, suffixes=(".nii", ".nii.gz"))
        self.check_folder(self.output_slices)
        self.check_file(self.output_uncertainty, suffixes=(".nii", ".nii.gz"))
        if self.output_uncertainty and self.output_uncertainty.resolve() == self.output_volume.resolve():
            raise InputError(f"{self.output_uncertainty}: is the volume's file too; name another for the uncertainty")
        self.check_file(self.output_json, suffixes=(".json",))
        stacks = self.load_stacks()
        config = replace(self.config, uncertainty=self.output_uncertainty is not None)
        with ProgressDisplay(console) as progress:
            result = reconstruct(stacks, config, progress=progress)
        save_volume(result.volume, self.output_volume)
        if self.output_uncertainty and result.uncertainty:
            save_volume(result.uncertainty, self.output_uncertainty)
        if self.output_slices:
            save_slices(self.output_slices, stacks, result.slice_records())
        if self.output_json:
            save_json(result.json(), self.output_json)
