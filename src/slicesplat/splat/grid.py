"""A voxel grid seen as slices without blur, so that the backends that render slices sample volumes too."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.splat.registry import CPU, Backend
from slicesplat.splat.rendering import set_geometry

# Sampling is point-wise; a trace of blur, mm^2, keeps a Gaussian's covariance invertible however thin it is.
_POINT_VARIANCE = 1e-6
SAMPLING_CUTOFF = 4.0


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


def grid_slices(affine: NDArray[np.float64], shape: tuple[int, int, int], variance: float = _POINT_VARIANCE) -> Slices:
    """The planes of a voxel grid along its third axis.

    Parameters
    ----------
    affine : (4, 4)
        Voxel index to world, mm; orthogonal axes.
    shape : (3,)
    variance : float
        Isotropic blur, mm^2.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    x, y = (affine[:3, :3] / spacing)[:, :2].T
    planes, pixels = shape[2], shape[0] * shape[1]
    pose = np.tile(np.eye(4), (planes, 1, 1))
    pose[:, :3, :3] = np.stack([x, y, np.cross(x, y)], axis=1)
    middle = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2])
    pose[:, :3, 3] = affine[:3, :2] @ middle + np.outer(np.arange(planes), affine[:3, 2]) + affine[:3, 3]
    return Slices(
        stack=np.zeros(planes, np.int32),
        index=np.arange(planes, dtype=np.int32),
        shape=np.tile(np.array(shape[:2], np.int32), (planes, 1)),
        corner=np.zeros((planes, 2), np.int32),
        offset=np.arange(planes + 1, dtype=np.int64) * pixels,
        origin=np.tile(-middle * spacing[:2], (planes, 1)),
        step=np.tile(spacing[:2], (planes, 1)),
        pixels=np.zeros(planes * pixels, np.float32),
        mask=np.ones(planes * pixels, bool),
        measured=np.ones(planes * pixels, bool),
        psf_weights=np.ones((planes, 1)),
        psf_covariances=np.full((planes, 1, 3), variance),
        psf_offsets=np.zeros((planes, 1)),
        time=np.arange(planes, dtype=np.float64),
        package=np.zeros(planes, np.int32),
        frame=Rigid(pose),
        motion=Rigid.identity(planes),
    )


def sample_on_grid(
    field: GaussianField, affine: NDArray[np.float64], shape: tuple[int, int, int], backend: Backend = CPU
) -> NDArray[np.float32]:
    """Values of the field at the voxel centres of a grid: an array of that shape, on the host."""
    return np.ascontiguousarray(sample(field, affine, shape, backend).cpu().numpy())


def sample(
    field: GaussianField, affine: NDArray[np.float64], shape: tuple[int, int, int], backend: Backend = CPU
) -> Tensor:
    """Values of the field at the voxel centres of a grid: a tensor of that shape, where it was computed."""
    planes = grid_slices(affine, shape)
    forward_model = backend.forward_model(planes, SAMPLING_CUTOFF)
    field = field.to(backend.device)
    set_geometry(forward_model, field, planes.pose)
    flat = forward_model.apply(field.amplitudes.detach(), np.ones(len(planes)))
    return flat.reshape(shape[2], shape[0], shape[1]).permute(1, 2, 0)
