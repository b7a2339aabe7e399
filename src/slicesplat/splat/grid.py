"""A voxel grid seen as slices without blur, so that the backends that render slices sample volumes too."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import Lattice
from slicesplat.geometry.reach import LIST_MARGIN, SAMPLING_CUTOFF
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.splat.registry import CPU, Backend
from slicesplat.splat.rendering import set_geometry

# Sampling is point-wise; a trace of blur, mm^2, keeps a Gaussian's covariance invertible however thin it is.
_POINT_VARIANCE = 1e-6
_AT_ONCE = 1_500_000  # voxels: 30 MB of pairs and more with a lattice of 1 mm


def grid_affine(corner: ArrayLike, spacing: float) -> NDArray[np.float64]:
    """Voxel index to world (4, 4), mm, of an isotropic grid along the world's axes whose first voxel is at `corner`.

    Examples
    --------
    >>> grid_affine([1.0, 2.0, 3.0], 0.5)[:3].tolist()
    [[0.5, 0.0, 0.0, 1.0], [0.0, 0.5, 0.0, 2.0], [0.0, 0.0, 0.5, 3.0]]
    """
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = corner
    return affine


def grid_slices(
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    variance: float = _POINT_VARIANCE,
    planes: range | None = None,
) -> Slices:
    """The planes of a voxel grid along its third axis.

    Parameters
    ----------
    affine : (4, 4)
        Voxel index to world, mm; orthogonal axes.
    shape : (3,)
    variance : float
        Isotropic blur, mm^2.
    planes : range, optional
        Those of them that are asked for.
    """
    index = np.arange(shape[2]) if planes is None else np.array(planes)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    x, y = (affine[:3, :3] / spacing)[:, :2].T
    count, pixels = len(index), shape[0] * shape[1]
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = np.stack([x, y, np.cross(x, y)], axis=1)
    middle = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2])
    pose[:, :3, 3] = affine[:3, :2] @ middle + np.outer(index, affine[:3, 2]) + affine[:3, 3]
    return Slices(
        stack=np.zeros(count, np.int32),
        index=index.astype(np.int32),
        shape=np.tile(np.array(shape[:2], np.int32), (count, 1)),
        corner=np.zeros((count, 2), np.int32),
        offset=np.arange(count + 1, dtype=np.int64) * pixels,
        origin=np.tile(-middle * spacing[:2], (count, 1)),
        step=np.tile(spacing[:2], (count, 1)),
        pixels=np.zeros(count * pixels, np.float32),
        mask=np.ones(count * pixels, bool),
        measured=np.ones(count * pixels, bool),
        psf_weights=np.ones((count, 1)),
        psf_covariances=np.full((count, 1, 3), variance),
        psf_offsets=np.zeros((count, 1)),
        time=index.astype(np.float64),
        package=np.zeros(count, np.int32),
        frame=Rigid(pose),
        motion=Rigid.identity(count),
    )


def lattice_planes(lattice: Lattice, shift: ArrayLike = 0.0, variance: float = _POINT_VARIANCE) -> Slices:
    """The planes of the grid that a lattice's cells lie on, all of its box.

    Parameters
    ----------
    lattice : Lattice
    shift : float or (3,)
        By which the grid is moved, in lattice constants.
    variance : float
        Isotropic blur, mm^2.
    """
    shape, _ = lattice.boxed()
    corner = lattice.means().amin(dim=0).double().cpu().numpy() + np.asarray(shift) * lattice.spacing
    return grid_slices(grid_affine(corner, lattice.spacing), (shape[0], shape[1], shape[2]), variance)


def pixels_of_cells(lattice: Lattice) -> Tensor:
    """(N,) int64: which pixel of `lattice_planes` each cell of the lattice is."""
    shape, cells = lattice.boxed()
    return (cells[:, 2] * shape[0] + cells[:, 0]) * shape[1] + cells[:, 1]


def sample_on_grid(
    field: GaussianField, affine: NDArray[np.float64], shape: tuple[int, int, int], backend: Backend = CPU
) -> NDArray[np.float32]:
    """Values of the field at the voxel centres of a grid: an array of that shape, on the host.

    Some planes at a time, each with the Gaussians that reach them: the memory is that of the result and a little more,
    the values are the same bits.
    """
    values, field = np.zeros(shape, np.float32), field.to(backend.device)
    at_once = max(1, _AT_ONCE // max(1, shape[0] * shape[1]))
    for first in range(0, shape[2], at_once):
        planes = grid_slices(affine, shape, planes=range(first, min(first + at_once, shape[2])))
        near = field.select(_reaches(field, planes.pose))
        if len(near):
            values[:, :, first : first + at_once] = _sampled(near, planes, backend).permute(1, 2, 0).cpu().numpy()
    return values


def sample(
    field: GaussianField, affine: NDArray[np.float64], shape: tuple[int, int, int], backend: Backend = CPU
) -> Tensor:
    """Values of the field at the voxel centres of a grid: a tensor of that shape, where it was computed."""
    return _sampled(field.to(backend.device), grid_slices(affine, shape), backend).permute(1, 2, 0)


def _sampled(field: GaussianField, planes: Slices, backend: Backend) -> Tensor:
    """Values of the field at the pixels of planes (S, rows, columns)."""
    forward_model = backend.forward_model(planes, SAMPLING_CUTOFF)
    set_geometry(forward_model, field, planes.pose)
    flat = forward_model.apply(field.amplitudes.detach(), np.ones(len(planes)))
    return flat.reshape(len(planes), *planes.shape[0].tolist())


def _reaches(field: GaussianField, planes: Rigid) -> Tensor:
    """(N,) bool: the Gaussians that may be in the lists of parallel planes; few of the others."""
    normal = torch.as_tensor(planes.rotation[0, :, 2], device=field.means.device)
    level = planes.translation @ planes.rotation[0, :, 2]
    reach = SAMPLING_CUTOFF * (2 * field.log_scales.double()).exp().amax(dim=1).add(_POINT_VARIANCE).sqrt()
    reach += 2 * LIST_MARGIN
    height = field.means.double() @ normal
    return (height + reach >= float(level.min())) & (height - reach <= float(level.max()))
