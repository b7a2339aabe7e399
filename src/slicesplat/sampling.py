"""From a model to volumes and slices: at any resolution, along any axes, in the memory of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.errors import InputError
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import FIT_MARGIN, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.io.model import Model
from slicesplat.machine import available_memory
from slicesplat.prepare.intensity import Intensities
from slicesplat.prepare.memory import PER_OUTPUT_VOXEL, in_gb
from slicesplat.prepare.region import grid_over, region_mask
from slicesplat.splat import CPU, Backend, predict
from slicesplat.splat.grid import sample_on_grid

_SLICES_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Grid:
    """Where a volume's voxels are.

    Attributes
    ----------
    affine : (4, 4) float64
        Voxel index to world, mm RAS+; orthogonal axes, which may be mirrored.
    shape : (3,) int
    """

    affine: Float
    shape: tuple[int, int, int]

    @classmethod
    def around(
        cls, model: Model, resolution: float | None = None, axes: Float | None = None, backend: Backend = CPU
    ) -> Grid:
        """The smallest isotropic grid that holds a model's region, and the margin that its background is shown in.

        Parameters
        ----------
        model : Model
        resolution : float, optional
            Voxel size, mm; the model's own when not given.
        axes : (3, 3), optional
            Columns are directions of the grid's axes in the world; the world's when not given.
        backend : Backend
        """
        spacing = model.resolution if resolution is None else resolution
        turn, mirrored = _proper(axes)
        region = model.region if axes is None else model.region.moved(~turn)
        affine, shape = grid_over(region, spacing, backend)
        grid = cls(affine, shape).padded(int(np.ceil(model.margin / spacing)))
        return grid if axes is None else grid._turned(turn, mirrored)

    @classmethod
    def around_mask(cls, inside: NDArray[np.bool_], affine: Float, resolution: float, axes: Float) -> Grid:
        """The smallest isotropic grid along some axes that holds the voxels of a mask, which is on another grid."""
        turn, mirrored = _proper(axes)
        points = np.argwhere(inside) @ affine[:3, :3].T + affine[:3, 3]
        half = np.abs(turn.rotation.T @ affine[:3, :3]).sum(axis=1) / 2
        local = points @ turn.rotation
        first = np.floor((local.min(axis=0) - half) / resolution)
        size = np.ceil((local.max(axis=0) + half) / resolution) - first + 1
        inner = np.diag([resolution, resolution, resolution, 1.0])
        inner[:3, 3] = first * resolution
        return cls(inner, (int(size[0]), int(size[1]), int(size[2])))._turned(turn, mirrored)

    def padded(self, margin: int) -> Grid:
        """The same grid with so many more voxels on every side."""
        affine = self.affine.copy()
        affine[:3, 3] -= margin * affine[:3, :3].sum(axis=1)
        x, y, z = self.shape
        return Grid(affine, (x + 2 * margin, y + 2 * margin, z + 2 * margin))

    def _turned(self, turn: Rigid, mirrored: bool) -> Grid:
        """The grid turned with the world's axes, its first axis the other way round where they are mirrored."""
        affine = turn.matrix @ self.affine
        if mirrored:
            affine[:3, 3] += (self.shape[0] - 1) * affine[:3, 0]
            affine[:3, 0] *= -1
        return Grid(affine, self.shape)


def check_memory(grid: Grid, name: str) -> None:
    """Refuse a grid that does not fit into memory.

    Raises
    ------
    InputError
        It would take more than is available.
    """
    needed, there = PER_OUTPUT_VOXEL * float(np.prod(grid.shape, dtype=np.float64)), available_memory()
    if there is not None and needed > there:
        size = " x ".join(map(str, grid.shape))
        raise InputError(
            f"{name}: {size} voxels would take about {in_gb(needed)} of memory, and there are {in_gb(there)}; "
            "choose a coarser --output-resolution"
        )


def sample_volume(
    model: Model, grid: Grid, inside: NDArray[np.bool_] | None = None, backend: Backend = CPU
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """The volume at the voxel centres of a grid, on the scale of the input, and the region that it shows.

    Parameters
    ----------
    model : Model
    grid : Grid
    inside : bool array of the grid's shape, optional
        Where the volume is shown; in the model's region, and around it where there is a background, when not given.
    backend : Backend
        Where to compute.

    Returns
    -------
    volume, mask : nibabel images
        float32 and uint8. Elsewhere the volume holds what the input holds where there is no signal.
    """
    known = _intensities(model)
    region = region_mask(model.region, grid.affine, grid.shape, backend) if inside is None else inside
    values = _values(model.field, grid, backend)
    if model.background is not None and inside is None:
        both = GaussianField.concatenate([model.field, model.background])
        values = np.where(region, values, _values(both, grid, backend))
    else:
        values[~region] = 0.0
    volume = nib.Nifti1Image(known.volume(values), grid.affine)
    return volume, nib.Nifti1Image(region.astype(np.uint8), grid.affine)


def sample_slices(model: Model, slices: Sequence[Stack], backend: Backend = CPU) -> list[Stack]:
    """What a model shows in slices, through their thickness and in-plane blur, where they are.

    Parameters
    ----------
    model : Model
    slices : sequence of Stack
        Each at its place, such as `io.slices.load_slices` gives them; of their masks the pixels and those next to them
        are shown.
    backend : Backend
        Where to compute.

    Returns
    -------
    list of Stack
        The same with the model's values on the scale of the input, without gains; what it holds where there is no
        signal around the masks.

    Raises
    ------
    InputError
        No slice shows anything of its mask.
    """
    known = _intensities(model)
    shown = [np.zeros_like(stack.data) for stack in slices]
    try:
        cut = cut_slices(slices, model.slice_profile, FIT_MARGIN)
    except ValueError as error:
        raise InputError(f"{slices[0].name if slices else 'slices'}: {error}") from error
    for first in range(0, len(cut), _SLICES_AT_ONCE):
        part = cut.take(np.arange(first, min(first + _SLICES_AT_ONCE, len(cut))))
        image = predict(model.field, part, np.ones(len(part)), backend).cpu().numpy()
        for s in range(len(part)):
            part.put(s, part.image(image, s), shown)
    return [replace(stack, data=known.volume(data)) for stack, data in zip(slices, shown, strict=True)]


def resampled_mask(inside: NDArray[np.bool_], affine: Float, grid: Grid) -> NDArray[np.bool_]:
    """A mask on another grid: where it is more inside than outside, between its voxels linearly."""
    away = np.linalg.inv(affine) @ grid.affine
    values = ndimage.affine_transform(
        inside.astype(np.float32), away[:3, :3], away[:3, 3], grid.shape, np.float32, order=1, mode="constant"
    )
    return np.asarray(values >= 0.5)


def axes_of(affine: Float) -> Float:
    """(3, 3) directions of a grid's axes, as columns, of its affine."""
    return np.asarray(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))


def _intensities(model: Model) -> Intensities:
    return Intensities((model.offset,), model.unit, (1.0,), model.scale)


def _values(field: GaussianField, grid: Grid, backend: Backend) -> NDArray[np.float32]:
    """The field on a grid; no tissue is darker than none."""
    values = sample_on_grid(field, grid.affine, grid.shape, backend)
    return np.maximum(values, np.float32(0.0), out=values)


def _proper(axes: Float | None) -> tuple[Rigid, bool]:
    """The rotation of the world's axes onto these, the first of them reversed where they are mirrored."""
    turn = np.eye(4)
    if axes is None:
        return Rigid(turn), False
    mirrored = bool(np.linalg.det(axes) < 0)
    turn[:3, :3] = axes * [-1.0 if mirrored else 1.0, 1.0, 1.0]
    return Rigid(turn), mirrored
