"""``slicesplat correct-bias-field``: stacks in, stacks of even intensity out."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from slicesplat.commands.base import log
from slicesplat.commands.stacks import StackCommand
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.files import save_json
from slicesplat.io.folder import output_folder
from slicesplat.io.inputs import distinct_names
from slicesplat.io.nifti import save_stack
from slicesplat.io.outputs import Outputs
from slicesplat.io.sidecar import stem_of
from slicesplat.prepare.bias import correct_bias_field
from slicesplat.prepare.intensity import signal
from slicesplat.prepare.slice_axis import clearly_larger

_NIFTI = (".nii", ".nii.gz")
_EQUAL = 1e-3
"""Relative difference of two lengths that is a header's rounding."""


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Divide stacks by their bias fields, found by N4.

    Attributes
    ----------
    output_corrected_stacks : paths
        Folder for the corrected stacks: named as the inputs, after their folders too where names repeat, .nii.gz, on
        their grids, each with a JSON file beside it that holds the slice thickness, and the axis of the slices where
        the spacing does not show it. Other files there are kept. Or a file, .nii or .nii.gz, for each of the stacks.
    """

    output_corrected_stacks: tuple[Path, ...]

    def execute(self, console: Console) -> None:
        """Check, correct, write."""
        outputs = self.outputs()
        if not self.output_corrected_stacks:
            raise InputError("correct-bias-field: nothing to write; give --output-corrected-stacks a folder or files")
        if _are_files(self.output_corrected_stacks):
            self._write_files(outputs)
        else:
            self._write_folder(outputs)

    def _write_files(self, outputs: Outputs) -> None:
        """Write each stack to the file that is named for it."""
        files = self.output_corrected_stacks
        if len(files) != len(self.input_stacks):
            raise InputError(
                f"{files[-1]}: wrong number of outputs, {len(files)} for {len(self.input_stacks)} stacks; "
                "name one file for each, or a folder"
            )
        for path in files:
            outputs.add_file(path, suffixes=_NIFTI)
        corrected = self._corrected()
        with outputs.writing() as write:
            for path, stack in zip(files, corrected, strict=True):
                write(path, partial(save_stack, stack))
        for path, stack in zip(files, corrected, strict=True):
            if not math.isclose(stack.thickness, float(stack.spacing[2]), rel_tol=_EQUAL):
                log.warning(
                    "%s: does not tell that its slices are %.3g mm thick; give --thicknesses where it is read",
                    path.name,
                    stack.thickness,
                )

    def _write_folder(self, outputs: Outputs) -> None:
        """Write the stacks to a folder, each with what the next reader has to know."""
        folder = self.output_corrected_stacks[0]
        names = _output_names(self.input_stacks)
        owned = re.compile(rf"({'|'.join(map(re.escape, names))})\.(nii\.gz|json)", re.IGNORECASE)
        outputs.add_folder(folder, owned)
        corrected = self._corrected()
        with outputs.writing() as write:
            write(folder, lambda path: _save(dict(zip(names, corrected, strict=True)), path, owned))

    def _corrected(self) -> list[Stack]:
        stacks, intensities = signal(self.load_stacks())
        corrected = []
        for number, stack in enumerate(stacks):
            corrected.append(intensities.on_input_scale(correct_bias_field(stack), number))
            log.info("%s: corrected", stack.name)
        return corrected


def _are_files(outputs: Sequence[Path]) -> bool:
    """Whether outputs are named one by one: more than one, or one that is called as an image is."""
    return len(outputs) > 1 or outputs[0].name.endswith(_NIFTI)


def _save(stacks: Mapping[str, Stack], folder: Path, owned: re.Pattern[str]) -> None:
    with output_folder(folder, owned) as files:
        for name, stack in stacks.items():
            save_stack(stack, files / f"{name}.nii.gz")
            save_json(_sidecar(stack), files / f"{name}.json")


def _sidecar(stack: Stack) -> dict[str, Any]:
    """What the next reader could not know from the corrected stack alone, in BIDS's terms."""
    sidecar: dict[str, Any] = {"SliceThickness": stack.thickness}
    if clearly_larger(stack.spacing) is None:
        sidecar["SliceEncodingDirection"] = "ijk"[stack.slice_axis]
    return sidecar


def _output_names(paths: Sequence[Path]) -> list[str]:
    """What the corrected stacks are called, without suffix; no two alike on any file system."""
    names: list[str] = []
    for name in map(Path, distinct_names(paths)):
        folders = name.parent.parts[1:] if name.is_absolute() else name.parent.parts
        stem = "-".join([*folders, stem_of(name)])
        taken = {other.casefold() for other in names}
        numbered = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        names.append(next(candidate for candidate in numbered if candidate.casefold() not in taken))
    return names
