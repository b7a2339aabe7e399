"""Fields of fixed shape: the model is linear in the amplitudes, so they are solved for, not descended to.

    minimise over a   sum_pixels w (g_s (A a) - p)^2 + ridge |a|^2

by conjugate gradients, where A splats amplitudes onto the slices. Few iterations are themselves a regulariser: smooth
structure converges first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from weakref import proxy

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.field import GaussianField
from slicesplat.fit.replay import Replay
from slicesplat.psf import FWHM_TO_SIGMA
from slicesplat.splat import CPU, Backend, Splatter, place
from slicesplat.splat.grid import grid_affine, sample
from slicesplat.splat.pixels import slice_of_pixel
from slicesplat.stack import Slices

# Standard deviation of a lattice Gaussian in units of the lattice spacing: 0.6 makes neighbours sum to a constant
# within 1 % and keeps the system well conditioned.
LATTICE_SIGMA = 0.6
# What the lattice's Gaussians, all of amplitude 1, add up to at any place.
LATTICE_SUM = (2 * math.pi) ** 1.5 * LATTICE_SIGMA**3
_SHARPENINGS = 3  # a lattice that takes other values as its amplitudes blurs them: so many corrections


def lattice(slices: Slices, spacing: float, backend: Backend = CPU) -> GaussianField:
    """Isotropic Gaussians of amplitude zero on a cubic lattice over everything that the slices saw.

    A slice sees half its thickness to either side.

    Parameters
    ----------
    slices : Slices
        At their present poses.
    spacing : float
        Lattice constant, mm.
    backend : Backend
        Where the field is to be.
    """
    # To where the outermost Gaussian of the profile has fallen to half its height.
    half = np.sqrt(slices.psf_covariances[:, :, 2]) / (2 * FWHM_TO_SIGMA)
    reach = (np.abs(slices.psf_offsets) + half).max(axis=1)
    across = backend.tensor(reach[:, None] * slices.pose[:, :3, 2], torch.float64)
    layers = max(3, 1 + math.ceil(2 * reach.max(initial=0.0) / spacing))
    middle, owner = _middles_inside(slices, backend)

    def cells(shift: float, axis: int) -> Tensor:
        """Where on the lattice the pixels' points in one layer lie: whole numbers (n,) along one axis."""
        return (shift * across[:, axis]).index_select(0, owner).add_(middle[axis]).div_(spacing).round_()

    # The outermost layers hold the outermost points.
    ends = torch.stack([torch.stack(cells(shift, axis).aminmax()) for shift in (-1.0, 1.0) for axis in range(3)])
    low, high = ends[:, 0].reshape(2, 3).amin(dim=0), ends[:, 1].reshape(2, 3).amax(dim=0)
    shape = [int(size) for size in (high - low + 3).tolist()]
    occupied = torch.zeros(shape, dtype=torch.bool, device=backend.device)
    for shift in np.linspace(-1.0, 1.0, layers):
        place = torch.zeros_like(middle[0])
        for axis in range(3):
            place.mul_(shape[axis]).add_(cells(shift, axis).sub_(low[axis] - 1))
        occupied.view(-1)[place.long()] = True
    if spacing < 2 * slices.step.max():
        # Cells between pixels that no pixel's centre has hit: a closing, with room for it on all sides.
        occupied = ~_dilated(~_dilated(occupied))
    means = ((occupied.nonzero() + low - 1) * spacing).float()
    n = len(means)
    return GaussianField(
        means=means,
        log_scales=torch.full_like(means, float(np.log(LATTICE_SIGMA * spacing))),
        rotations=backend.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(n, 1),
        amplitudes=torch.zeros(n, device=backend.device),
    )


def _middles_inside(slices: Slices, backend: Backend) -> tuple[list[Tensor], Tensor]:
    """Positions in the world, mm, of all pixels inside the masks: three times (n,); and the slices (n,) they are in."""
    pixel = backend.tensor(slices.mask, torch.bool).nonzero()[:, 0]
    owner = slice_of_pixel(slices, backend.device).index_select(0, pixel)

    def of_slice(values: ArrayLike, dtype: torch.dtype = torch.float64) -> Tensor:
        """(n,) what each pixel's slice has, of (S,)."""
        return backend.tensor(values, dtype).index_select(0, owner)

    place, columns = pixel.sub_(of_slice(slices.offset, torch.int64)), of_slice(slices.shape[:, 1], torch.int64)
    index = torch.div(place, columns, rounding_mode="floor"), place % columns
    u, v = (of_slice(slices.step[:, k]).mul_(index[k]).add_(of_slice(slices.origin[:, k])) for k in range(2))
    x, y, origin = (slices.pose[:, :3, k].T for k in (0, 1, 3))
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


def lattice_cells(field: GaussianField, spacing: float) -> Tensor:
    """Indices (N, 3) of a lattice's Gaussians in the smallest box that holds them, from 0."""
    cells = torch.round(field.means / spacing).long()
    return cells - cells.amin(dim=0)


def lattice_like(coarse: GaussianField, fine: GaussianField, spacing: float, backend: Backend = CPU) -> Tensor:
    """Amplitudes (N,) with which the lattice `fine`, of that lattice constant, nearly takes the values of `coarse`."""
    cells = lattice_cells(fine, spacing)
    affine = grid_affine(fine.means.amin(dim=0).tolist(), spacing)
    x, y, z = (cells.amax(dim=0) + 1).tolist()
    values = sample(coarse, affine, (x, y, z), backend)
    amplitudes = values / LATTICE_SUM
    for _ in range(_SHARPENINGS):
        amplitudes = amplitudes + (values - _lattice_values(amplitudes)) / LATTICE_SUM
    return amplitudes[cells.unbind(1)]


def _lattice_values(amplitudes: Tensor) -> Tensor:
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


def placed_lattice(slices: Slices, spacing: float, backend: Backend = CPU) -> tuple[GaussianField, Splatter]:
    """The lattice of Gaussians over the slices, and a splatter that has it and the slices' poses in place."""
    field = lattice(slices, spacing, backend=backend)
    splatter = backend.splatter(slices)
    place(splatter, field, slices.pose)
    return field, splatter


class AmplitudeSolver:
    """Conjugate gradients for the amplitudes of the field that a splatter has in place.

    An iteration waits for no device, and everything that it reads and writes keeps its place: on a CUDA device it is
    captured once and replayed as a graph, for as long as shapes and poses stay.

    Parameters
    ----------
    splatter : CpuSplatter or GpuSplatter
        With the field's shapes and the slices' poses placed.
    gaussians : int
    curved : callable, optional
        A symmetric matrix times a vector (N,), added to the normal equations: the prior.
    inverted : callable, optional
        About the inverse of the normal equations' matrix, symmetric, times a vector (N,): the preconditioner.
    """

    def __init__(
        self,
        splatter: Splatter,
        gaussians: int,
        curved: Callable[[Tensor], Tensor] | None = None,
        inverted: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.splatter, self.curved, self.inverted = splatter, curved, inverted
        self._weights, self._image = (torch.zeros(splatter.pixels, device=splatter.device) for _ in range(2))
        self._gain = self._image.new_zeros(splatter.slices)
        self._amplitudes, self._residual, self._direction = (self._image.new_zeros(gaussians) for _ in range(3))
        self._square = self._image.new_zeros((), dtype=torch.float64)
        this = proxy(self)  # itself would be a cycle: the splatter's lists would stay until cycles are looked for

        def iterate() -> None:
            this.iterate()

        self._run = Replay(iterate) if splatter.device.type == "cuda" else iterate

    def solve(
        self,
        pixels: Tensor,
        weights: Tensor,
        gain: ArrayLike,
        start: Tensor,
        iterations: int,
        image: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Amplitudes (N,) after so many iterations from `start`, and the image (P,) of them.

        Parameters
        ----------
        pixels, weights : (P,) float32
        gain : (S,)
        start : (N,) float32
        iterations : int
        image : (P,) float32, optional
            That of `start`, if it is known.
        """
        self._weights.copy_(weights)
        self._gain.copy_(torch.as_tensor(gain))
        self._amplitudes.copy_(start)
        self._image.copy_(self.splatter.splat(start, self._gain) if image is None else image)
        residual = self.splatter.adjoint(self._weights * (pixels - self._image), self._gain)
        self._residual.copy_(residual if self.curved is None else residual - self.curved(start))
        towards = self._towards()
        self._direction.copy_(towards)
        self._square.copy_(_dot(self._residual, towards))
        for _ in range(iterations):
            self._run()
        return self._amplitudes.clone(), self._image.clone()

    def iterate(self) -> None:
        """One iteration, in place."""
        image = self.splatter.splat(self._direction, self._gain)
        turned = self.splatter.adjoint(self._weights * image, self._gain)
        if self.curved is not None:
            turned = turned + self.curved(self._direction)
        # Nothing is left to do where the residual is zero: no step, and no division by it.
        length = (self._square / _dot(self._direction, turned).clamp(min=1e-30)).float()
        self._amplitudes.addcmul_(length, self._direction)
        self._image.addcmul_(length, image)
        self._residual.addcmul_(length, turned, value=-1)
        towards = self._towards()
        square = _dot(self._residual, towards)
        self._direction.mul_((square / self._square.clamp(min=1e-30)).float()).add_(towards)
        self._square.copy_(square)

    def _towards(self) -> Tensor:
        """Where the residual says that the solution is."""
        return self._residual if self.inverted is None else self.inverted(self._residual)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Their inner product, float64. Not BLAS's: that one's last bits depend on where in memory the vectors lie."""
    return torch.sum(a * b, dtype=torch.float64)


def solve_amplitudes(
    splatter: Splatter,
    pixels: Tensor,
    weights: Tensor,
    gain: ArrayLike,
    start: Tensor,
    iterations: int,
    ridge: float = 0.0,
) -> Tensor:
    """Amplitudes (N,) of the field that the splatter has in place, by conjugate gradients from `start`.

    Parameters
    ----------
    splatter : CpuSplatter or GpuSplatter
        With the field's shapes and the slices' poses placed.
    pixels, weights : (P,) float32
    gain : (S,)
    start : (N,) float32
    iterations : int
    ridge : float
        Weight of the squared amplitudes, in units of the pixels' weights.
    """
    solver = AmplitudeSolver(splatter, len(start), (lambda vector: ridge * vector) if ridge else None)
    return solver.solve(pixels, weights, gain, start, iterations)[0]
