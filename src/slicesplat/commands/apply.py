"""``slicesplat apply``: other stacks and known motion in, volumes out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from slicesplat.commands.base import OptionalPath, ProgressDisplay
from slicesplat.commands.stacks import StackCommand
from slicesplat.config import Config
from slicesplat.config.segmentation import Anatomy
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.nifti import read_image, save_volume
from slicesplat.io.outputs import Outputs
from slicesplat.io.sidecar import sidecar_of
from slicesplat.pipeline.apply import apply, apply_labels
from slicesplat.prepare.known_motion import load_motion
from slicesplat.prepare.load import load_stacks
from slicesplat.sampling import Grid, check_memory


@dataclass(frozen=True, kw_only=True)
class Command(StackCommand):
    """Reconstruct other data on motion that was found before: echoes, quantitative maps, labels.

    Attributes
    ----------
    input_stacks : paths
        Stacks on the grids of those that the motion was found with, in the same order; for several volumes one set of
        stacks after the other.
    poses : path
        What reconstruct or register --output-json has written; or a folder of ITK transforms, numbered or as NiftyMIC
        names them, or of motion-corrected slices.
    output_volumes : paths
        A volume to write for each set of stacks, .nii or .nii.gz.
    labels : bool
        The stacks hold labels, whole numbers: each is reconstructed as a field, and the largest decides.
    robust : bool
        Weigh pixels and slices by how well they fit, and let slices and stacks differ in brightness. Without, numbers
        mean the same in all of them, as in quantitative maps.
    reference : path
        An image, NIfTI, on whose grid the volumes are to be, such as the volume that the motion was found with. None:
        around the region.
    output_resolution : float
        Voxel size, mm, without a reference.
    slice_profile : {"gaussian", "box", "sinc"}
        Shape of the slice profile; its width is the slice thickness.
    seed : int
        Seed of everything random; the same seed gives the same bytes.
    threads : int
        Threads to use. 0: all cores.
    device : {"auto", "cpu", "cuda"}
        Where to compute. auto: on a CUDA device where there is one, else on the CPU.
    max_memory : float
        Memory that the work may take, GB of 10^9 bytes. 0: what the machine has available.
    """

    poses: Path
    output_volumes: tuple[Path, ...]
    labels: bool = False
    robust: bool = True
    reference: OptionalPath = None
    output_resolution: float = Config.resolution
    slice_profile: Literal["gaussian", "box", "sinc"] = Config.slice_profile
    seed: int = Config.seed
    threads: int = Config.threads
    device: Literal["auto", "cpu", "cuda"] = Config.device
    max_memory: float = Config.max_memory
    # The region is that of the motion.
    segmentation: tyro.conf.Suppress[bool] = False
    anatomy: tyro.conf.Suppress[Anatomy] = "auto"

    def execute(self, console: Console) -> None:
        """Check, reconstruct each set, write."""
        config = Config(
            resolution=self.output_resolution,
            slice_profile=self.slice_profile,
            seed=self.seed,
            threads=self.threads,
            device=self.device,
            max_memory=self.max_memory,
        )
        outputs, sets = self._checked_outputs(), self._sets()
        grid = self._grid()
        loaded = [(stacks, load_motion(self.poses, stacks)) for stacks in map(self._load, sets)]
        with outputs.writing() as write, ProgressDisplay(console) as progress:
            for (stacks, motion), path in zip(loaded, self.output_volumes, strict=True):
                if self.labels:
                    volume = apply_labels(stacks, motion, config, grid, progress)
                else:
                    volume = apply(stacks, motion, config, self.robust, grid, progress)
                write(path, partial(save_volume, volume))

    def _checked_outputs(self) -> Outputs:
        """The volumes, none of which may be something that is read."""
        given = [*self.input_stacks, *self.stack_masks, *map(sidecar_of, self.input_stacks), self.poses]
        outputs = Outputs([*given, *([self.reference] if self.reference else [])])
        for path in self.output_volumes:
            outputs.add_file(path, suffixes=(".nii", ".nii.gz"))
        return outputs

    def _sets(self) -> list[tuple[Path, ...]]:
        """The stacks of each volume."""
        volumes, stacks = len(self.output_volumes), len(self.input_stacks)
        if not volumes or not stacks or stacks % volumes:
            raise InputError(
                f"{stacks} stacks for {volumes} volumes; give --input-stacks as many for each of --output-volumes"
            )
        size = stacks // volumes
        return [self.input_stacks[first : first + size] for first in range(0, stacks, size)]

    def _load(self, paths: tuple[Path, ...]) -> list[Stack]:
        """A set of stacks; masks, thicknesses and axes are the same for every set, or for all in turn."""
        first, every = self.input_stacks.index(paths[0]), len(self.input_stacks)

        def own(values: tuple) -> tuple:
            return values[first : first + len(paths)] if len(values) == every > len(paths) else values

        given = (own(self.stack_masks), own(self.thicknesses), own(self.slice_axes), self.mask_of)
        return load_stacks(paths, *given)

    def _grid(self) -> Grid | None:
        if self.reference is None:
            return None
        image = read_image(self.reference)
        grid = Grid(image.affine, (image.data.shape[0], image.data.shape[1], image.data.shape[2]))
        check_memory(grid, str(self.reference))
        return grid
