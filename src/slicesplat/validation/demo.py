"""The whole way on made-up data: a phantom, three moved stacks of it, a reconstruction, and its score.

`demo` writes what it makes and returns what it measured; printing is the caller's business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from slicesplat.geometry.stack import Stack
from slicesplat.io.folder import output_folder
from slicesplat.records import SliceRecord
from slicesplat.report.figure import save_png, three_planes
from slicesplat.validation.evaluate import score
from slicesplat.validation.files import SIMULATION_FILES, write_files
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.pose_error import pose_error
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

DEMO_SIMULATION = SimulationConfig(stacks=3, motion="mild", seed=0)
"""Three orthogonal stacks, mild motion, the noise and dropout of a fetal examination, a fixed seed."""

DEMO_SIZE = 92.0
"""Length of the phantom, mm."""

DEMO_FILES = re.compile(rf"{SIMULATION_FILES.pattern}|(average|reconstruction)\.nii\.gz|demo\.png", re.IGNORECASE)
"""The names of the demo's folder."""

# Where the figure's planes cross, in lengths of the phantom: through thalamus and ventricles, beside the fissure.
_SHOWN_POINT = (0.065, -0.065, 0.022)


class Reconstruction(Protocol):
    """What the demo needs from a reconstruction."""

    @property
    def volume(self) -> SpatialImage:
        """The reconstructed volume."""

    def slice_records(self) -> list[SliceRecord]:
        """Where each slice belongs, and its weight."""


@dataclass(frozen=True)
class DemoRow:
    """One line of the demo's table."""

    name: str
    """What was scored."""
    psnr: float
    """Peak signal-to-noise ratio in dB."""
    ssim: float
    """Structural similarity."""
    pose_error: float
    """Mean slice pose error in mm."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured and wrote."""

    before: DemoRow
    """The average of the stacks where the scanner says they are."""
    after: DemoRow
    """The reconstruction."""
    folder: Path
    """Stacks, masks and truth."""
    average: Path
    """The volume scored as before."""
    volume: Path
    """The reconstructed volume."""
    figure: Path
    """A stack, the reconstruction and the truth in three planes."""

    @property
    def rows(self) -> list[DemoRow]:
        """The lines of the table, before and after."""
        return [self.before, self.after]


def average_stacks(stacks: Sequence[Stack], affine: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Mean of the stacks as scanned, each interpolated trilinearly: what one has without motion correction.

    Parameters
    ----------
    stacks : sequence of Stack
    affine : (4, 4)
        Voxel index of the result to world, mm RAS+.
    shape : (nx, ny, nz)

    Returns
    -------
    (nx, ny, nz) float32
        Mean over the stacks whose mask covers a voxel; zero where none does.
    """
    total, weight = np.zeros(shape), np.zeros(shape)
    voxels = np.indices(shape).reshape(3, -1)
    for stack in stacks:
        to_stack = np.linalg.inv(stack.affine) @ np.asarray(affine)
        positions = to_stack[:3, :3] @ voxels + to_stack[:3, 3:]
        for target, values in ((total, stack.data * stack.mask), (weight, stack.mask)):
            target += map_coordinates(values.astype(np.float32), positions, order=1).reshape(shape)
    # Below half a stack's cover, only the rim of a mask reaches the voxel.
    return np.where(weight >= 0.5, total / np.maximum(weight, 0.5), 0).astype(np.float32)


def as_scanned(stacks: Sequence[Stack]) -> list[SliceRecord]:
    """Slice records of a reconstruction that corrects nothing."""
    return [SliceRecord(i, k, np.eye(4)) for i, stack in enumerate(stacks) for k in range(stack.n_slices)]


@dataclass(frozen=True, eq=False)
class _Known:
    """The phantom and its scan: what reconstructions are scored against and shown beside."""

    truth: nib.Nifti1Image
    mask: nib.Nifti1Image
    scan: Simulation

    @classmethod
    def made(cls, simulation: SimulationConfig, size_mm: float, spacing: float) -> _Known:
        """A phantom of that length and voxel size, scanned."""
        volume, affine, mask = brain_phantom(size_mm, spacing)
        scan = simulate(volume, affine, mask, simulation)
        return cls(nib.Nifti1Image(volume, affine), nib.Nifti1Image(mask.astype(np.uint8), affine), scan)

    def average(self) -> nib.Nifti1Image:
        """The mean of the stacks as scanned, on the phantom's grid."""
        affine = self.truth.affine
        return nib.Nifti1Image(average_stacks(self.scan.stacks, affine, self.truth.shape), affine)

    def row(self, name: str, volume: SpatialImage, slices: Sequence[SliceRecord]) -> DemoRow:
        """The scores of a volume and of where it has the slices."""
        quality = score(volume, self.truth, self.mask)
        motion = pose_error(slices, self.scan.truth, self.scan.masks)
        return DemoRow(name, quality.psnr, quality.ssim, motion.tre_mean)

    def picture(self, average: SpatialImage, volume: SpatialImage, point: ArrayLike) -> Image.Image:
        """A stack, its average with the others, the reconstruction and the truth, in three planes through a point."""
        first = self.scan.stacks[0]
        shown = {"average": average, "reconstruction": volume, "truth": self.truth}
        panels = {name: (np.asarray(image.dataobj), image.affine) for name, image in shown.items()}
        return three_planes({"stack": (first.data, first.affine), **panels}, point=point)

    def write(self, folder: Path) -> None:
        """Stacks, masks and truth, as `simulate` writes them."""
        inside = np.asarray(self.mask.dataobj)
        write_files(self.scan, folder, np.asarray(self.truth.dataobj), self.truth.affine, inside)


def demo(
    output: str | os.PathLike[str],
    reconstruct: Callable[..., Reconstruction],
    config: Any,
    progress: Callable[..., Any] | None = None,
    simulation: SimulationConfig = DEMO_SIMULATION,
    size_mm: float = DEMO_SIZE,
    spacing: float = 0.8,
) -> DemoResult:
    """Make a phantom, scan it while it moves, reconstruct it and score the result.

    Parameters
    ----------
    output : path-like
        Folder for everything that is written, at the end, whole or not at all; made if missing. Files that an earlier
        demo wrote there are replaced.
    reconstruct : callable
        ``reconstruct(stacks, config, progress=progress)``, as `slicesplat.pipeline.reconstruct`.
    config
        Passed on to `reconstruct`.
    progress : callable, optional
        Passed on to `reconstruct`.
    simulation : SimulationConfig
    size_mm, spacing : float
        Length of the phantom and its voxel size, mm.

    Returns
    -------
    DemoResult

    Raises
    ------
    OSError
        The files cannot be written, or the folder holds files of these names that no earlier run wrote.
    """
    folder = Path(output)
    known = _Known.made(simulation, size_mm, spacing)
    average, stacks = known.average(), known.scan.stacks
    before = known.row("average of the stacks", average, as_scanned(stacks))
    result = reconstruct(stacks, config, progress=progress)
    after = known.row("reconstruction", result.volume, result.slice_records())
    picture = known.picture(average, result.volume, size_mm * np.array(_SHOWN_POINT))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with output_folder(folder, DEMO_FILES) as files:
        known.write(files)
        nib.save(average, files / "average.nii.gz")
        nib.save(result.volume, files / "reconstruction.nii.gz")
        save_png(picture, files / "demo.png")
    return DemoResult(
        before, after, folder, folder / "average.nii.gz", folder / "reconstruction.nii.gz", folder / "demo.png"
    )
