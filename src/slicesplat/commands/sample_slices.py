"""``slicesplat sample-slices``: a model and slices at their places in, what the model shows there out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from slicesplat.commands.model import ModelCommand
from slicesplat.io.model import load_model
from slicesplat.io.outputs import Outputs
from slicesplat.io.slices import SLICE_FILES, load_slices, save_slices, slice_files, slice_number
from slicesplat.records import SliceRecord
from slicesplat.sampling import sample_slices


@dataclass(frozen=True, kw_only=True)
class Command(ModelCommand):
    """Show what a model predicts for slices, through their thickness, where they lie.

    Attributes
    ----------
    input_slices : path
        Folder of slices, 0.nii.gz, mask_0.nii.gz and so on, as reconstruct --output-slices writes it: the pose of each
        is in its affine, and its thickness the voxel size along the third axis.
    simulated_slices : path
        Folder for the same slices with the model's values, numbered alike, without gains.
    """

    input_slices: Path
    simulated_slices: Path

    def execute(self, console: Console) -> None:
        """Check, sample, write."""
        outputs = Outputs([self.input_model, *slice_files(self.input_slices)])
        outputs.add_folder(self.simulated_slices, SLICE_FILES)
        model, given = load_model(self.input_model), load_slices(self.input_slices)
        with self.computing() as backend:
            shown = sample_slices(model, given, backend)
        records = [SliceRecord(number, 0, np.eye(4)) for number in range(len(shown))]
        numbers = [slice_number(stack.name) for stack in given]
        with outputs.writing() as write:
            write(self.simulated_slices, lambda path: save_slices(path, shown, records, numbers))
