"""What the commands share that start from stacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from slicesplat.commands.base import BaseCommand
from slicesplat.geometry.stack import Stack
from slicesplat.io.outputs import Outputs
from slicesplat.io.sidecar import sidecar_of
from slicesplat.prepare.load import load_stacks


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

    def outputs(self) -> Outputs:
        """What the command is to write, to be added to it: none of it may be a stack, a mask or a stack's sidecar."""
        return Outputs([*self.input_stacks, *self.stack_masks, *map(sidecar_of, self.input_stacks)])
