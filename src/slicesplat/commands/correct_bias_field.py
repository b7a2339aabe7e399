"""``slicesplat correct-bias-field``: stacks in, stacks of even intensity out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from slicesplat.bias import correct_bias_field
from slicesplat.commands.base import log
from slicesplat.commands.stacks import StackCommand
from slicesplat.errors import InputError
from slicesplat.io.files import save_json
from slicesplat.io.nifti import save_stack
from slicesplat.prepare.intensity import signal


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Divide stacks by their bias fields, found by N4.

    Attributes
    ----------
    output_corrected_stacks : path
        Folder for the corrected stacks: named as the inputs, .nii.gz, on their grids, each with a JSON file beside it
        that holds the slice thickness.
    """

    output_corrected_stacks: Path

    def execute(self, console: Console) -> None:
        """Check, correct, write."""
        folder = self.output_corrected_stacks
        self.check_folder(folder)
        names = [path.name.removesuffix(".gz").removesuffix(".nii") for path in self.input_stacks]
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise InputError(f"{folder}: {count} stacks would be called {name}.nii.gz; correct them into two folders")
        stacks, intensities = signal(self.load_stacks())
        folder.mkdir(exist_ok=True)
        for number, (name, stack) in enumerate(zip(names, stacks, strict=True)):
            corrected = intensities.on_input_scale(correct_bias_field(stack), number)
            save_stack(corrected, folder / f"{name}.nii.gz")
            save_json({"SliceThickness": stack.thickness}, folder / f"{name}.json")
            log.info("%s: corrected", stack.name)
