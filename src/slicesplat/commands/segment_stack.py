"""``slicesplat segment-stack``: stacks in, a mask of each out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from slicesplat.commands.per_stack import PerStack
from slicesplat.commands.stacks import StackCommand
from slicesplat.errors import InputError
from slicesplat.io.nifti import save_mask


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Write a mask of every stack: of the brain, found; or from a mask that is drawn, or thresholds.

    Attributes
    ----------
    output_stack_masks : paths
        Folder for the masks: named as the stacks with mask_ before it, .nii.gz, on their grids. Other files there are
        kept. Or a file, .nii or .nii.gz, for each of the stacks.
    """

    output_stack_masks: tuple[Path, ...]

    def execute(self, console: Console) -> None:
        """Check, find the regions, write."""
        drawn = self.mask_files or self.volume_mask or self.otsu_thresholding or self.stacks_intersection
        if not (drawn or self.segmentation):
            raise InputError(
                "segment-stack: nothing says what the region is; leave out --no-segmentation, or give a mask drawn on "
                "one stack (--stack-masks), one of the volume (--volume-mask), or --otsu-thresholding where the head "
                "lies in air"
            )
        outputs = self.outputs()
        files = self.file_of_each_stack()
        targets = PerStack.checked(self.output_stack_masks, files, outputs, "--output-stack-masks", prefix="mask_")
        stacks = self.load_stacks()
        with outputs.writing() as write:
            targets.write(write, lambda number, path: save_mask(stacks[number], path))
