"""What the commands share that start from stacks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import tyro

from slicesplat.commands.base import BaseCommand, OptionalPath
from slicesplat.config.segmentation import Anatomy
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.inputs import dicom_files, image_files, is_dicom
from slicesplat.io.nifti import count_volumes
from slicesplat.io.outputs import Outputs
from slicesplat.io.sidecar import sidecar_of
from slicesplat.prepare.load import load_stacks


@dataclass(frozen=True, kw_only=True)
class StackCommand(BaseCommand):
    """Flags that name stacks.

    Attributes
    ----------
    input_stacks : paths
        Stacks of slices, NIfTI, one file each; a folder or a pattern in quotes stands for the NIfTI files that it
        holds, in the order of their names, without those that have the word mask in them. Or DICOM: a folder, or files;
        every series of slices is a stack, and its slices know when they were acquired.
    stack_masks : paths
        Their masks in the same order, or a single one drawn on one of the stacks. None: the brain is found. Of a folder
        those with the word mask in their names, if there are any.
    mask_of : int
        Which stack, counted from 1, the single mask is drawn on. None: the first on the mask's grid.
    thicknesses : float
        Slice thickness in mm, one per stack or one for all. None: the JSON file beside the stack, else the
        distance between slices.
    slice_axes : axis
        Axis of the file that slices lie along, 1 to 3 or i, j, k; one per stack or one for all. None: found from
        the JSON file, the header, the spacing or the images.
    split_4d : bool
        Take every volume of a 4-D file for a stack.
    volume_mask : path
        A mask on any grid; what lies outside of it is left out of every stack.
    stacks_intersection : bool
        Leave out of every stack what another one does not show; not beside --volume-mask.
    background_threshold : float
        Leave out pixels up to this value.
    otsu_thresholding : bool
        Leave out the air around the tissue, by Otsu's threshold in each stack.
    segmentation : bool
        Find the brain where no mask says what the region is; without, it is what is not zero. Stacks that are cut out
        already are left as they are.
    anatomy : {auto, fetal, neonatal}
        Whether the brain that is looked for is in the womb or in a head in air. auto: by what surrounds it.
    """

    input_stacks: tuple[Path, ...]
    stack_masks: tuple[Path, ...] = ()
    mask_of: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    thicknesses: tuple[float, ...] = ()
    slice_axes: tuple[Literal["1", "2", "3", "i", "j", "k"], ...] = ()
    split_4d: bool = False
    volume_mask: OptionalPath = None
    stacks_intersection: bool = False
    background_threshold: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    otsu_thresholding: bool = False
    segmentation: bool = True
    anatomy: Anatomy = "auto"

    @cached_property
    def stack_files(self) -> list[Path]:
        """The files of the stacks, folders and patterns resolved."""
        return image_files(self.input_stacks)

    @cached_property
    def mask_files(self) -> list[Path]:
        """The files of the masks."""
        return image_files(self.stack_masks, masks=True)

    def file_of_each_stack(self) -> list[Path]:
        """For every stack that `load_stacks` will give, its file.

        Raises
        ------
        InputError
            A stack is DICOM, which has no file whose grid could be written on.
        """
        for path in self.stack_files:
            if os.path.isdir(path) or is_dicom(path):
                raise InputError(f"{path}: is DICOM, which has no grid to write on; convert it to NIfTI")
        counts = [count_volumes(path) if self.split_4d else 1 for path in self.stack_files]
        return [path for path, count in zip(self.stack_files, counts, strict=True) for _ in range(count)]

    def load_stacks(self) -> list[Stack]:
        """The stacks that the flags name."""
        return load_stacks(
            self.stack_files,
            self.mask_files,
            self.thicknesses,
            self.slice_axes,
            self.mask_of,
            volume_mask=self.volume_mask,
            stacks_intersection=self.stacks_intersection,
            background_threshold=self.background_threshold,
            otsu_thresholding=self.otsu_thresholding,
            split_4d=self.split_4d,
            segmentation=self.segmentation,
            anatomy=self.anatomy,
        )

    def outputs(self) -> Outputs:
        """What the command is to write, to be added to it: none of it may be a stack, a mask or a stack's sidecar."""
        volume = [self.volume_mask] if self.volume_mask else []
        read = [file for path in self.stack_files for file in (dicom_files(path) if os.path.isdir(path) else [path])]
        return Outputs([*read, *self.mask_files, *volume, *map(sidecar_of, self.stack_files)])
