"""What the commands share that start from stacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from slicesplat.commands.base import BaseCommand
from slicesplat.errors import InputError
from slicesplat.io.files import check_output, check_output_folder
from slicesplat.prepare.load import load_stacks
from slicesplat.stack import Stack


@dataclass(frozen=True, kw_only=True)
class StackCommand(BaseCommand):
    """Flags that name stacks.

    Attributes
    ----------
    input_stacks : paths
        Stacks of slices, NIfTI, one file each.
    stack_masks : paths
        Their masks in the same order, or a single one drawn on one of the stacks. None: non-zero voxels.
    mask_of : int
        Which stack, counted from 1, the single mask is drawn on. None: the first on the mask's grid.
    thicknesses : float
        Slice thickness in mm, one per stack or one for all. None: the JSON file beside the stack, else the
        distance between slices.
    slice_axes : axis
        Axis of the file that slices lie along, 1 to 3 or i, j, k; one per stack or one for all. None: found from
        the JSON file, the header, the spacing or the images.
    """

    input_stacks: tuple[Path, ...]
    stack_masks: tuple[Path, ...] = ()
    mask_of: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    thicknesses: tuple[float, ...] = ()
    slice_axes: tuple[Literal["1", "2", "3", "i", "j", "k"], ...] = ()

    def load_stacks(self) -> list[Stack]:
        """The stacks that the flags name."""
        return load_stacks(self.input_stacks, self.stack_masks, self.thicknesses, self.slice_axes, self.mask_of)

    def check_file(self, path: Path | None, suffixes: tuple[str, ...]) -> None:
        """Refuse an output file that could not be written, or that is an input; None passes."""
        if path is None:
            return
        check_output(path, suffixes)
        if path.resolve() in self._inputs():
            raise InputError(f"{path}: is an input too and would be overwritten; name another output")

    def check_folder(self, path: Path | None) -> None:
        """Refuse a folder that could not be written, or that an input lies in; None passes."""
        if path is None:
            return
        check_output_folder(path)
        if path.resolve() in {given.parent for given in self._inputs()}:
            raise InputError(f"{path}: holds inputs, which could be overwritten; name another folder")

    def _inputs(self) -> set[Path]:
        return {path.resolve() for path in (*self.input_stacks, *self.stack_masks)}
