"""Isotropic Gaussians on a cubic lattice over what the slices saw."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.pixels import slice_of_pixel
from slicesplat.geometry.psf import FWHM_TO_SIGMA
from slicesplat.geometry.reach import LATTICE_SIGMA
from slicesplat.geometry.slices import Slices

_CPU = torch.device("cpu")
_SHARPENINGS = 3  # a lattice that takes other values as its amplitudes blurs them: so many corrections
NOTHING = 1e-3  # of the largest amplitude
BRIDGED = 2
"""Slices lost in a row that a volume's lattice goes across: across more of them, nothing is known."""
# What the lattice's Gaussians, all of amplitude 1, add up to at any place.
LATTICE_SUM = (2 * math.pi) ** 1.5 * LATTICE_SIGMA**3


@dataclass(frozen=True, eq=False)
class Lattice:
    """Places of Gaussians on a cubic lattice.

    Attributes
    ----------
    spacing : float
        Lattice constant, mm.
    cell : (N, 3) int32
        Where each Gaussian is, in lattice constants from the world's origin.
    """

    spacing: float
    cell: Tensor

    def __len__(self) -> int:
        return len(self.cell)

    def __repr__(self) -> str:
        return f"Lattice({len(self)} Gaussians, {self.spacing:.3g} mm apart)"

    def means(self) -> Tensor:
        """(N, 3) float32, mm."""
        return (self.cell.double() * self.spacing).float()

    def field(self, amplitudes: Tensor | None = None) -> GaussianField:
        """The field of these amplitudes (N,), zero when not given."""
        means = self.means()
        return GaussianField(
            means=means,
            log_scales=torch.full_like(means, float(np.log(LATTICE_SIGMA * self.spacing))),
            rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=means.device).repeat(len(means), 1),
            amplitudes=torch.zeros(len(means), device=means.device) if amplitudes is None else amplitudes,
        )

    def boxed(self, margin: int = 0) -> tuple[list[int], Tensor]:
        """The smallest box of cells that holds the lattice and a margin: its shape, and (N, 3) int64 the cells."""
        cells = (self.cell - self.cell.amin(dim=0) + margin).long()
        return (cells.amax(dim=0) + 1 + margin).tolist(), cells


def lattice_over(slices: Slices, spacing: float, device: torch.device = _CPU, bridged: int = 0) -> Lattice:
    """A lattice over everything that the slices saw.

    A slice sees half its thickness to either side.

    Parameters
    ----------
    slices : Slices
        At their present poses.
    spacing : float
        Lattice constant, mm.
    device : torch.device
        Where the lattice is to be.
    bridged : int
        Where up to so many slices in a row have no pixel inside, the lattice goes on to the next one of their stack: a
        slot without a Gaussian is black.
    """
    below, above = _reaches(slices, bridged)
    half, centre = ((above + sign * below)[:, None] / 2 * slices.pose.rotation[..., 2] for sign in (1, -1))
    layers = max(3, 1 + math.ceil((above + below).max(initial=0.0) / spacing))
    middle, owner = _middles_inside(slices, device)
    across, aside = (torch.as_tensor(each, dtype=torch.float64, device=device) for each in (half, centre))

    def cells(shift: float, axis: int) -> Tensor:
        """Where on the lattice the pixels' points in one layer lie: whole numbers (n,) along one axis."""
        there = shift * across[:, axis] + aside[:, axis]
        return there.index_select(0, owner).add_(middle[axis]).div_(spacing).round_()

    # The outermost layers hold the outermost points.
    ends = torch.stack([torch.stack(cells(shift, axis).aminmax()) for shift in (-1.0, 1.0) for axis in range(3)])
    low, high = ends[:, 0].reshape(2, 3).amin(dim=0), ends[:, 1].reshape(2, 3).amax(dim=0)
    shape = [int(size) for size in (high - low + 3).tolist()]
    occupied = torch.zeros(shape, dtype=torch.bool, device=device)
    for shift in np.linspace(-1.0, 1.0, layers):
        place = torch.zeros_like(middle[0])
        for axis in range(3):
            place.mul_(shape[axis]).add_(cells(shift, axis).sub_(low[axis] - 1))
        occupied.view(-1)[place.long()] = True
    if spacing < 2 * slices.step.max():
        # Cells between pixels that no pixel's centre has hit: a closing, with room for it on all sides.
        occupied = ~_dilated(~_dilated(occupied))
    return Lattice(spacing, (occupied.nonzero() + low - 1).int())


def _reaches(slices: Slices, bridged: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far, mm, each slice (S,) is asked for against and along its normal."""
    # To where the outermost Gaussian of the profile has fallen to half its height.
    half = np.sqrt(slices.psf_covariances[:, :, 2]) / (2 * FWHM_TO_SIGMA)
    reach = (np.abs(slices.psf_offsets) + half).max(axis=1)
    if not bridged:
        return reach, reach
    below, above = reach.copy(), reach.copy()
    seen = np.flatnonzero(np.logical_or.reduceat(slices.mask, slices.offset[:-1]))
    seen = seen[np.lexsort((slices.index[seen], slices.stack[seen]))]
    for one, other in itertools.pairwise(seen):
        lost = slices.index[other] - slices.index[one] - 1
        if slices.stack[one] == slices.stack[other] and 0 < lost <= bridged:
            for at, to in ((one, other), (other, one)):
                way = float(
                    (slices.frame[to].translation - slices.frame[at].translation) @ slices.frame[at].rotation[:, 2]
                )
                side = above if way > 0 else below
                side[at] = max(side[at], abs(way) / 2)
    return below, above


def _middles_inside(slices: Slices, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Positions in the world, mm, of all pixels inside the masks: three times (n,); and the slices (n,) they are in."""
    pixel = torch.as_tensor(slices.mask, dtype=torch.bool, device=device).nonzero()[:, 0]
    owner = slice_of_pixel(slices, device).index_select(0, pixel)

    def of_slice(values: ArrayLike, dtype: torch.dtype = torch.float64) -> Tensor:
        """(n,) what each pixel's slice has, of (S,)."""
        return torch.as_tensor(values, dtype=dtype, device=device).index_select(0, owner)

    place, columns = pixel.sub_(of_slice(slices.offset, torch.int64)), of_slice(slices.shape[:, 1], torch.int64)
    index = torch.div(place, columns, rounding_mode="floor"), place % columns
    u, v = (of_slice(slices.step[:, k]).mul_(index[k]).add_(of_slice(slices.origin[:, k])) for k in range(2))
    x, y, origin = (slices.pose.matrix[:, :3, k].T for k in (0, 1, 3))
    middle = [of_slice(x[k]).mul_(u).add_(of_slice(y[k]).mul_(v)).add_(of_slice(origin[k])) for k in range(3)]
    return middle, owner


def _dilated(box: Tensor) -> Tensor:
    """Cells (X, Y, Z) bool that are set or have a neighbour that is, across faces, edges or corners."""
    for axis, size in enumerate(box.shape):
        before, grown = box, box.clone()
        for to, since in ((0, 1), (1, 0)):
            grown.narrow(axis, to, size - 1).logical_or_(before.narrow(axis, since, size - 1))
        box = grown
    return box


def sharpened(values: Tensor) -> Tensor:
    """Amplitudes of a box of cells (X, Y, Z) with which its Gaussians nearly take these values where they are."""
    amplitudes = values / LATTICE_SUM
    for _ in range(_SHARPENINGS):
        amplitudes = amplitudes + (values - _values(amplitudes)) / LATTICE_SUM
    return amplitudes


def _values(amplitudes: Tensor) -> Tensor:
    """The field of a box of amplitudes (X, Y, Z), at its Gaussians' means."""
    distance = torch.arange(-2, 3, device=amplitudes.device)
    kernel = torch.exp(-0.5 * (distance / LATTICE_SIGMA) ** 2)
    values = amplitudes[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(kernel)
        padding = [2 * (k == axis) for k in range(3)]
        values = torch.nn.functional.conv3d(values, kernel.reshape(shape), padding=padding)
    return values[0, 0]


def prune(field: GaussianField) -> GaussianField:
    """The field without the Gaussians that carry nothing."""
    size = field.amplitudes.abs()
    return field.select(size > NOTHING * size.max())
