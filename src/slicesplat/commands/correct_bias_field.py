"""``slicesplat correct-bias-field``: stacks in, stacks of even intensity out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from slicesplat.bias import correct_bias_field
from slicesplat.commands.base import log
from slicesplat.commands.stacks import StackCommand
from slicesplat.errors import InputError
from slicesplat.io.files import save_json
from slicesplat.io.folder import output_folder
from slicesplat.io.nifti import save_stack
from slicesplat.stack import Stack


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Divide stacks by their bias fields, found by N4.

    Attributes
    ----------
    output_corrected_stacks : path
        Folder for the corrected stacks: named as the inputs, .nii.gz, on their grids, each with a JSON file beside it
        that holds the slice thickness. Other files there are kept.
    """

    output_corrected_stacks: Path

    def execute(self, console: Console) -> None:
        """Check, correct, write."""
        folder = self.output_corrected_stacks
        names = [path.name.removesuffix(".gz").removesuffix(".nii") for path in self.input_stacks]
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise InputError(f"{folder}: {count} stacks would be called {name}.nii.gz; correct them into two folders")
        owned = re.compile(rf"({'|'.join(map(re.escape, names))})\.(nii\.gz|json)", re.IGNORECASE)
        outputs = self.outputs()
        outputs.add_folder(folder, owned)
        corrected = []
        for stack in self.load_stacks():
            corrected.append(correct_bias_field(stack))
            log.info("%s: corrected", stack.name)
        with outputs.writing() as write:
            write(folder, lambda path: _save(dict(zip(names, corrected, strict=True)), path, owned))


def _save(stacks: Mapping[str, Stack], folder: Path, owned: re.Pattern[str]) -> None:
    with output_folder(folder, owned) as files:
        for name, stack in stacks.items():
            save_stack(stack, files / f"{name}.nii.gz")
            save_json({"SliceThickness": stack.thickness}, files / f"{name}.json")
