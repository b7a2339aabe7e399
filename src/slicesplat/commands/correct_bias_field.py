"""``slicesplat correct-bias-field``: stacks in, stacks of even intensity out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from slicesplat.commands.base import log
from slicesplat.commands.per_stack import PerStack
from slicesplat.commands.stacks import StackCommand
from slicesplat.config.segmentation import Anatomy
from slicesplat.geometry.stack import Stack
from slicesplat.io.files import save_json
from slicesplat.io.nifti import save_stack
from slicesplat.io.sidecar import sidecar_of
from slicesplat.prepare.bias import correct_bias_field
from slicesplat.prepare.intensity import signal
from slicesplat.prepare.slice_axis import clearly_larger

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
    # Light is evened out in all that there is.
    segmentation: tyro.conf.Suppress[bool] = False
    anatomy: tyro.conf.Suppress[Anatomy] = "auto"

    def execute(self, console: Console) -> None:
        """Check, correct, write."""
        outputs = self.outputs()
        targets = PerStack.checked(
            self.output_corrected_stacks, self.file_of_each_stack(), outputs, "--output-corrected-stacks"
        )
        stacks, intensities = signal(self.load_stacks())
        corrected = []
        for number, stack in enumerate(stacks):
            corrected.append(intensities.on_input_scale(correct_bias_field(stack), number))
            log.info("%s: corrected", stack.name)

        def save(number: int, path: Path) -> None:
            save_stack(corrected[number], path)
            if targets.folder:
                save_json(_sidecar(corrected[number]), sidecar_of(path))

        with outputs.writing() as write:
            targets.write(write, save)
        if not targets.folder:
            for path, stack in zip(targets.files, corrected, strict=True):
                _warn_of_thickness(path, stack)


def _warn_of_thickness(path: Path, stack: Stack) -> None:
    """A file by itself cannot tell a thickness that is not the distance between slices."""
    if not math.isclose(stack.thickness, float(stack.spacing[2]), rel_tol=_EQUAL):
        log.warning(
            "%s: does not tell that its slices are %.3g mm thick; give --thicknesses where it is read",
            path.name,
            stack.thickness,
        )


def _sidecar(stack: Stack) -> dict[str, Any]:
    """What the next reader could not know from the corrected stack alone, in BIDS's terms."""
    sidecar: dict[str, Any] = {"SliceThickness": stack.thickness}
    if clearly_larger(stack.spacing) is None:
        sidecar["SliceEncodingDirection"] = "ijk"[stack.slice_axis]
    if stack.times is not None:
        sidecar["SliceTiming"] = stack.times.tolist()
    return sidecar
