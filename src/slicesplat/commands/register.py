"""``slicesplat register``: stacks in, the pose of every slice out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro
from rich.console import Console

from slicesplat.commands.base import OptionalPath, ProgressDisplay
from slicesplat.commands.settings import Settings
from slicesplat.commands.slices import SlicesCommand
from slicesplat.errors import InputError
from slicesplat.io.files import save_json
from slicesplat.io.outputs import Outputs
from slicesplat.io.slices import SLICE_FILES, save_slices
from slicesplat.io.transforms import TRANSFORM_FILES, save_transforms
from slicesplat.pipeline import register


@dataclass(frozen=True, kw_only=True)
class Command(SlicesCommand):
    """Find the pose of every slice and write it, without a volume.

    Attributes
    ----------
    output_slices : path
        Folder for the motion-corrected slices, 0.nii.gz, mask_0.nii.gz and so on: the pose is in each affine.
    output_transforms : path
        Folder for ITK transforms with the same numbers, 0.tfm and so on: each takes a point from where the scanner
        puts it to its motion-corrected position.
    output_json : path
        Settings, time and memory of each step, and the pose, weight and gain of each slice.
    config : Settings
        Settings of the registration, as of a reconstruction.
    """

    output_slices: OptionalPath = None
    output_transforms: OptionalPath = None
    output_json: OptionalPath = None
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def execute(self, console: Console) -> None:
        """Check, register, write."""
        outputs = self._checked_outputs()
        stacks = self.load_stacks()
        with ProgressDisplay(console) as progress:
            result = register(stacks, self.config.plain(), progress=progress)
        records = result.slice_records()
        with outputs.writing() as write:
            write(self.output_slices, lambda path: save_slices(path, result.stacks, records))
            write(self.output_transforms, lambda path: save_transforms(path, records))
            write(self.output_json, lambda path: save_json(result.json(), path))

    def _checked_outputs(self) -> Outputs:
        if not (self.output_slices or self.output_transforms or self.output_json):
            raise InputError("register: nothing to write; give --output-slices, --output-transforms or --output-json")
        outputs = self.outputs()
        outputs.add_folder(self.output_slices, SLICE_FILES)
        outputs.add_folder(self.output_transforms, TRANSFORM_FILES)
        outputs.add_file(self.output_json, suffixes=(".json",))
        return outputs
