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
from slicesplat.io.atomic import atomic_path
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
    simulated_slices : path
        Folder for the same slices as the volume predicts them, numbered alike, gains included.
    output_model : path
        The volume as Gaussians, .safetensors.
    output_json : path
        Settings, time and memory of each step, and the pose, weight and gain of each slice.
    config : Settings
        Settings of the reconstruction.
    """

    output_volume: Path
    output_slices: OptionalPath = None
    output_uncertainty: OptionalPath = None
    simulated_slices: OptionalPath = None
    output_model: OptionalPath = None
    output_json: OptionalPath = None
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def execute(self, console: Console) -> None:
        """Check, reconstruct, write."""
        self.check_file(self.output_volume, suffixes=(".nii", ".nii.gz"))
        self.check_folder(self.output_slices)
        self.check_file(self.output_uncertainty, suffixes=(".nii", ".nii.gz"))
        if self.output_uncertainty and self.output_uncertainty.resolve() == self.output_volume.resolve():
            raise InputError(f"{self.output_uncertainty}: is the volume's file too; name another for the uncertainty")
        self.check_folder(self.simulated_slices)
        folders = [folder.resolve() for folder in (self.output_slices, self.simulated_slices) if folder]
        if len(set(folders)) < len(folders):
            raise InputError(f"{self.output_slices}: is to hold measured and simulated slices; name two folders")
        self.check_file(self.output_model, suffixes=(".safetensors",))
        self.check_file(self.output_json, suffixes=(".json",))
        stacks = self.load_stacks()
        config = replace(self.config, uncertainty=self.output_uncertainty is not None)
        with ProgressDisplay(console) as progress:
            result = reconstruct(stacks, config, progress=progress)
        save_volume(result.volume, self.output_volume)
        if self.output_uncertainty and result.uncertainty:
            save_volume(result.uncertainty, self.output_uncertainty)
        if self.output_slices:
            save_slices(self.output_slices, result.stacks, result.slice_records())
        if self.simulated_slices:
            save_slices(self.simulated_slices, result.simulated(), result.slice_records())
        if self.output_model:
            with atomic_path(self.output_model) as temporary:
                result.field.save(temporary)
        if self.output_json:
            save_json(result.json(), self.output_json)
