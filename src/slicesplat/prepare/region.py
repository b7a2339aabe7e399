"""The region of the output: the slices' masks, motion-corrected and fused.

A mask is an image too: a lattice of Gaussians is solved for that explains every slice's mask at its pose, PSF included,
and cut at one half. So the outline is as smooth as the field allows, and slices that disagree vote.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.geometry.reach import PADDING, RIM_MM
from slicesplat.geometry.slices import Slices
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend
from slicesplat.splat.grid import grid_affine, sample_on_grid

REGION_SPACING = 3.0  # mm; finer than the distance between most slices is noise
_ITERATIONS = 10


def region_field(slices: Slices, weight: NDArray[np.float64], backend: Backend = CPU) -> GaussianField:
    """A field that is about 1 inside the region and 0 outside.

    Parameters
    ----------
    slices : Slices
        At their final poses.
    weight : (S,)
        Trust in the slices.
    backend : Backend
        Where the field is to be.
    """
    trust, inside = broadcast_to_pixels(weight, slices, backend.device), backend.tensor(slices.mask)
    given = (inside, trust, np.ones(len(slices)))
    return fit_lattice(slices, *given, REGION_SPACING, _ITERATIONS, backend=backend)[0]


def grid_over(
    region: GaussianField, resolution: float, backend: Backend = CPU
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """The smallest isotropic grid along the world's axes that holds the region: affine (4, 4) and shape.

    Raises
    ------
    ValueError
        The region is empty.
    """
    coarse = max(resolution, REGION_SPACING / 2)
    low = region.means.amin(dim=0).cpu().numpy() - REGION_SPACING
    high = region.means.amax(dim=0).cpu().numpy() + REGION_SPACING
    affine = grid_affine(low, coarse)
    shape = tuple(int(n) for n in np.ceil((high - low) / coarse).astype(int) + 1)
    inside = np.argwhere(region_mask(region, affine, (shape[0], shape[1], shape[2]), backend))
    if len(inside) == 0:
        raise ValueError("the motion-corrected masks have no voxel in common")
    first = low + inside.min(axis=0) * coarse
    last = low + inside.max(axis=0) * coarse
    corner = (np.floor(first / resolution) - PADDING) * resolution
    size = np.ceil((last - corner) / resolution).astype(int) + 1 + PADDING
    return grid_affine(corner, resolution), (int(size[0]), int(size[1]), int(size[2]))


def region_mask(
    region: GaussianField, affine: NDArray[np.float64], shape: tuple[int, int, int], backend: Backend = CPU
) -> NDArray[np.bool_]:
    """The region on a grid: its largest connected piece, without holes, grown by `RIM_MM`."""
    inside = sample_on_grid(region, affine, shape, backend) > 0.5
    if not inside.any():
        return inside
    pieces, count = ndimage.label(inside)
    if count > 1:
        inside = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return within_reach(_without_holes(inside), np.linalg.norm(affine[:3, :3], axis=0), RIM_MM)


def within_reach(inside: NDArray[np.bool_], spacing: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """The voxels (X, Y, Z) that lie no further than `reach` mm from those inside, on a grid of that spacing (3,), mm.

    A few shifts and unions: of a distance transform most would not be asked for.

    Examples
    --------
    >>> point = np.pad(np.ones((1, 1, 1), bool), 2)
    >>> int(within_reach(point, np.ones(3), 1.0).sum()), int(within_reach(point, np.ones(3), 1.5).sum())
    (7, 19)
    """
    most = np.minimum(np.floor(reach / spacing).astype(int), np.array(inside.shape) - 1)
    squares = [(np.arange(n + 1) * step) ** 2 for n, step in zip(most, spacing, strict=True)]
    near = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2]) <= reach
    grown: NDArray[np.bool_] = np.zeros_like(inside)
    along = inside.copy()  # grown by k along the third axis
    for k in range(most[2] + 1):
        _unite(along, inside, 2, k)
        for i, j in np.argwhere(near.sum(axis=2) == k + 1):
            across = along if i == 0 else _united(along, 0, i)
            _unite(grown, across, 1, j)
    return grown


def _united(values: NDArray[np.bool_], axis: int, shift: int) -> NDArray[np.bool_]:
    """Where `values`, moved by so many voxels to either side along an axis, is set."""
    out = np.zeros_like(values)
    _unite(out, values, axis, shift)
    return out


def _unite(out: NDArray[np.bool_], values: NDArray[np.bool_], axis: int, shift: int) -> None:
    """Add to `out`, in place, where `values`, moved by so many voxels to either side along an axis, is set."""
    size = values.shape[axis]
    ahead, behind = ((slice(None),) * axis + (part,) for part in (slice(shift, size), slice(0, size - shift)))
    out[ahead] |= values[behind]
    out[behind] |= values[ahead]


def _without_holes(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region and what it encloses: all but what hangs together with the faces of the grid."""
    pieces, count = ndimage.label(~inside)
    open_ = np.zeros(count + 1, bool)
    for axis in range(3):
        for face in (0, -1):
            open_[np.take(pieces, face, axis=axis).ravel()] = True
    open_[0] = False
    return np.asarray(~open_[pieces])
