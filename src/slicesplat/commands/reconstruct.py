"""``slicesplat reconstruct``: stacks in, volume out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from slicesplat.commands.base import OptionalPath, ProgressDisplay
from slicesplat.commands.settings import Settings
from slicesplat.commands.slices import SlicesCommand
from slicesplat.io.files import save_json
from slicesplat.io.model import save_model
from slicesplat.io.nifti import save_volume
from slicesplat.io.slices import SLICE_FILES, save_slices
from slicesplat.pipeline import reconstruct


@dataclass(frozen=True, kw_only=True)
class Command(SlicesCommand):
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
        The volume as Gaussians, .safetensors, for sample-volume and sample-slices.
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
        outputs = self.outputs()
        outputs.add_file(self.output_volume, suffixes=(".nii", ".nii.gz"))
        outputs.add_folder(self.output_slices, SLICE_FILES)
        outputs.add_file(self.output_uncertainty, suffixes=(".nii", ".nii.gz"))
        outputs.add_folder(self.simulated_slices, SLICE_FILES)
        outputs.add_file(self.output_model, suffixes=(".safetensors",))
        outputs.add_file(self.output_json, suffixes=(".json",))
        stacks = self.load_stacks()
        config = replace(self.config, uncertainty=self.output_uncertainty is not None)
        with ProgressDisplay(console) as progress:
            result = reconstruct(stacks, config, progress=progress)
        with outputs.writing() as write:
            write(self.output_volume, partial(save_volume, result.volume))
            if self.output_uncertainty and result.uncertainty:
                write(self.output_uncertainty, partial(save_volume, result.uncertainty))
            write(self.output_slices, lambda path: save_slices(path, result.stacks, result.slice_records()))
            write(self.simulated_slices, lambda path: save_slices(path, result.simulated(), result.slice_records()))
            write(self.output_model, partial(save_model, result.model))
            write(self.output_json, lambda path: save_json(result.json(), path))
