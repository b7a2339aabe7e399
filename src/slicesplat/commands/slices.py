"""What the commands share that start from stacks, or from slices whose poses are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slicesplat.commands.base import OptionalPath
from slicesplat.commands.stacks import StackCommand
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.outputs import Outputs
from slicesplat.io.slices import slice_files
from slicesplat.prepare.posed import load_posed_slices

_OF_STACKS = (
    "input_stacks", "stack_masks", "mask_of", "thicknesses", "slice_axes", "split_4d", "volume_mask",
    "stacks_intersection", "background_threshold", "otsu_thresholding",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SlicesCommand(StackCommand):
    """Flags that name stacks, or a folder of slices in their place.

    Attributes
    ----------
    input_stacks : paths
        Stacks of slices, NIfTI, one file each.
    input_slices : path
        Instead of stacks a folder of slices, 0.nii.gz, mask_0.nii.gz and so on, as other tools and --output-slices
        write it: the pose of each is in its affine, its thickness the voxel size along the third axis. They are
        registered from there, or with --registration none stay there.
    """

    input_stacks: tuple[Path, ...] = ()
    input_slices: OptionalPath = None

    def load_stacks(self) -> list[Stack]:
        """The stacks that the flags name, or that the slices belong to.

        Raises
        ------
        InputError
            There are both or neither, or flags that go with stacks alone.
        """
        if self.input_slices is None:
            if not self.input_stacks:
                raise InputError("nothing to read; give --input-stacks or --input-slices")
            return super().load_stacks()
        for name in _OF_STACKS:
            if getattr(self, name) not in (None, False, ()):
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{self.input_slices}: slices have masks and thickness with them; leave out {flag}")
        return load_posed_slices(self.input_slices)

    def outputs(self) -> Outputs:
        """What the command is to write, to be added to it: none of it may be something that is read."""
        if self.input_slices is None:
            return super().outputs()
        return Outputs(slice_files(self.input_slices))
