"""Fields of fixed shape: the model is linear in the amplitudes, so they are solved for, not descended to.

    minimise over a   sum_pixels w (g_s (A a) - p)^2 + ridge |a|^2

by conjugate gradients, where A splats amplitudes onto the slices. Few iterations are themselves a regulariser: smooth
structure converges first.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import proxy

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import LATTICE_SIGMA, LATTICE_SUM, lattice, lattice_cells
from slicesplat.geometry.slices import Slices
from slicesplat.solvers.replay import repeated
from slicesplat.splat import CPU, Backend, ForwardModel, set_geometry
from slicesplat.splat.grid import grid_affine, sample

_SHARPENINGS = 3  # a lattice that takes other values as its amplitudes blurs them: so many corrections


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


def placed_lattice(slices: Slices, spacing: float, backend: Backend = CPU) -> tuple[GaussianField, ForwardModel]:
    """The lattice of Gaussians over the slices, and a forward model that has it and the slices' poses in place."""
    field = lattice(slices, spacing, backend.device)
    forward_model = backend.forward_model(slices)
    set_geometry(forward_model, field, slices.pose)
    return field, forward_model


class AmplitudeSolver:
    """Conjugate gradients for the amplitudes of the field that a forward model has in place.

    An iteration waits for no device, and everything that it reads and writes keeps its place: on a CUDA device it is
    captured once and replayed as a graph, for as long as shapes and poses stay.

    Parameters
    ----------
    forward_model : ForwardModel
        With the field's shapes and the slices' poses placed.
    gaussians : int
    curved : callable, optional
        A symmetric matrix times a vector (N,), added to the normal equations: the prior.
    inverted : callable, optional
        About the inverse of the normal equations' matrix, symmetric, times a vector (N,): the preconditioner.
    """

    def __init__(
        self,
        forward_model: ForwardModel,
        gaussians: int,
        curved: Callable[[Tensor], Tensor] | None = None,
        inverted: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.forward_model, self.curved, self.inverted = forward_model, curved, inverted
        self._weights, self._image = (torch.zeros(forward_model.pixels, device=forward_model.device) for _ in range(2))
        self._gain = self._image.new_zeros(forward_model.slices)
        self._amplitudes, self._residual, self._direction = (self._image.new_zeros(gaussians) for _ in range(3))
        self._square = self._image.new_zeros((), dtype=torch.float64)
        this = proxy(self)  # itself would be a cycle: the forward model's lists would stay until cycles are looked for

        def iterate() -> None:
            this.iterate()

        self._run = repeated(iterate, forward_model.backend)

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
        self._image.copy_(self.forward_model.apply(start, self._gain) if image is None else image)
        residual = self.forward_model.adjoint(self._weights * (pixels - self._image), self._gain)
        self._residual.copy_(residual if self.curved is None else residual - self.curved(start))
        towards = self._towards()
        self._direction.copy_(towards)
        self._square.copy_(_dot(self._residual, towards))
        for _ in range(iterations):
            self._run()
        return self._amplitudes.clone(), self._image.clone()

    def iterate(self) -> None:
        """One iteration, in place."""
        image = self.forward_model.apply(self._direction, self._gain)
        turned = self.forward_model.adjoint(self._weights * image, self._gain)
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
    forward_model: ForwardModel,
    pixels: Tensor,
    weights: Tensor,
    gain: ArrayLike,
    start: Tensor,
    iterations: int,
    ridge: float = 0.0,
) -> Tensor:
    """Amplitudes (N,) of the field that the forward model has in place, by conjugate gradients from `start`.

    Parameters
    ----------
    forward_model : ForwardModel
        With the field's shapes and the slices' poses placed.
    pixels, weights : (P,) float32
    gain : (S,)
    start : (N,) float32
    iterations : int
    ridge : float
        Weight of the squared amplitudes, in units of the pixels' weights.
    """
    solver = AmplitudeSolver(forward_model, len(start), (lambda vector: ridge * vector) if ridge else None)
    return solver.solve(pixels, weights, gain, start, iterations)[0]
