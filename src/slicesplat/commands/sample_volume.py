"""``slicesplat sample-volume``: a model in, a volume out, on any grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from slicesplat.commands.base import OptionalPath, log
from slicesplat.commands.model import ModelCommand
from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.io.masks import as_region
from slicesplat.io.model import Model, load_model
from slicesplat.io.nifti import read_image, save_volume
from slicesplat.io.outputs import Outputs
from slicesplat.sampling import Grid, axes_of, check_memory, resampled_mask, sample_volume
from slicesplat.splat import Backend


@dataclass(frozen=True, kw_only=True)
class Command(ModelCommand):
    """Sample a model again: a volume of any resolution, in any orientation.

    Attributes
    ----------
    output_volume : path
        The volume to write, .nii or .nii.gz, on the scale of the stacks that the model was made of.
    output_resolution : float
        Voxel size, mm. None: the one that the reconstruction was made with.
    sample_orientation : path
        An image, NIfTI, along whose axes the grid is to lie. None: along the world's, or the mask's.
    sample_mask : path
        A mask, NIfTI, on any grid: the grid is laid around it, and only what lies in it is shown. None: the region
        that was reconstructed.
    reference : path
        An image, NIfTI, whose grid is taken as it is: its resolution, orientation and field of view.
    """

    output_volume: Path
    output_resolution: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    sample_orientation: OptionalPath = None
    sample_mask: OptionalPath = None
    reference: OptionalPath = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_resolution is not None:
            Config(resolution=self.output_resolution)  # what a reconstruction refuses is refused here too

    def execute(self, console: Console) -> None:
        """Check, sample, write."""
        images = [path for path in (self.sample_orientation, self.sample_mask, self.reference) if path]
        outputs = Outputs([self.input_model, *images])
        outputs.add_file(self.output_volume, suffixes=(".nii", ".nii.gz"))
        if self.reference and (self.output_resolution or self.sample_orientation):
            raise InputError(
                f"{self.reference}: as the reference it gives resolution and orientation; "
                "leave out --output-resolution and --sample-orientation, or --reference"
            )
        model = load_model(self.input_model)
        with self.computing() as backend:
            grid, inside = self._grid(model, backend)
            log.info("%s voxels", " x ".join(map(str, grid.shape)))
            volume, _ = sample_volume(model, grid, inside, backend)
        with outputs.writing() as write:
            write(self.output_volume, partial(save_volume, volume))

    def _grid(self, model: Model, backend: Backend) -> tuple[Grid, NDArray[np.bool_] | None]:
        """Where to sample, and what to show there; None for the region of the model."""
        resolution = model.resolution if self.output_resolution is None else self.output_resolution
        axes = axes_of(read_image(self.sample_orientation).affine) if self.sample_orientation else None
        mask, notes = as_region(read_image(self.sample_mask)) if self.sample_mask else (None, [])
        if self.reference:
            image = read_image(self.reference)
            grid = Grid(image.affine, (image.data.shape[0], image.data.shape[1], image.data.shape[2]))
        elif mask:
            along = axes_of(mask.affine) if axes is None else axes
            grid = Grid.around_mask(mask.data > 0, mask.affine, resolution, along)
        else:
            grid = Grid.around(model, resolution, axes, backend)
        check_memory(grid, str(self.reference or self.input_model))
        for note in notes:
            log.info(note)
        return grid, resampled_mask(mask.data > 0, mask.affine, grid) if mask else None
