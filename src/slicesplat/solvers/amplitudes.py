"""Fields of fixed shape: the model is linear in the amplitudes, so they are solved for, not descended to.

    minimise over a   1/2 sum_pixels w (g_s (A a) - y)^2 + 1/2 a' P a

by conjugate gradients, where A splats amplitudes onto the slices and P is the form of a prior. Few iterations are
themselves a regulariser: smooth structure converges first. docs/method.md, Solvers.
"""

from __future__ import annotations

from weakref import proxy

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import Lattice, lattice_over, sharpened
from slicesplat.geometry.slices import Slices
from slicesplat.solvers.cg import ConjugateGradients, Matvec
from slicesplat.splat import CPU, Backend, ForwardModel, set_geometry
from slicesplat.splat.grid import grid_affine, sample


def placed_lattice(
    slices: Slices, spacing: float, backend: Backend = CPU, bridged: int = 0
) -> tuple[Lattice, ForwardModel]:
    """The lattice of `lattice_over` over the slices, and a forward model that has it and the slices' poses in place."""
    lattice = lattice_over(slices, spacing, backend.device, bridged)
    forward_model = backend.forward_model(slices)
    set_geometry(forward_model, lattice.field(), slices.pose)
    return lattice, forward_model


def resampled_amplitudes(field: GaussianField, lattice: Lattice, backend: Backend = CPU) -> Tensor:
    """Amplitudes (N,) with which a lattice nearly takes the values of a field where its Gaussians are."""
    shape, cells = lattice.boxed()
    affine = grid_affine(lattice.means().amin(dim=0).tolist(), lattice.spacing)
    values = sample(field, affine, (shape[0], shape[1], shape[2]), backend)
    return sharpened(values)[cells.unbind(1)]


class AmplitudeSolver:
    """The amplitudes of the field that a forward model has in place.

    It holds for as long as shapes and poses stay.

    Parameters
    ----------
    forward_model : ForwardModel
        With the field's shapes and the slices' poses placed.
    gaussians : int
    prior : callable, optional
        A symmetric matrix times a vector (N,), added to the normal equations.
    preconditioner : callable, optional
        About the inverse of the normal equations' matrix, symmetric, times a vector (N,).
    """

    def __init__(
        self,
        forward_model: ForwardModel,
        gaussians: int,
        prior: Matvec | None = None,
        preconditioner: Matvec | None = None,
    ) -> None:
        self.forward_model, self.prior = forward_model, prior
        device = forward_model.device
        image, amplitudes = torch.zeros(forward_model.pixels, device=device), torch.zeros(gaussians, device=device)
        self._weights, self._gain = torch.zeros_like(image), image.new_zeros(forward_model.slices)
        this = proxy(self)  # a cycle would keep the forward model's memory until cycles are looked for

        def normal_equations(direction: Tensor) -> tuple[Tensor, Tensor]:
            return this.normal_equations(direction)

        self.cg = ConjugateGradients(normal_equations, amplitudes, image, preconditioner, forward_model.backend)

    def normal_equations(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix times amplitudes (N,), and their image (P,)."""
        image = self.forward_model.apply(direction, self._gain)
        product = self.forward_model.adjoint(self._weights * image, self._gain)
        return (product if self.prior is None else product + self.prior(direction)), image

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
        image = self.forward_model.apply(start, self._gain) if image is None else image
        residual = self.forward_model.adjoint(self._weights * (pixels - image), self._gain)
        residual = residual if self.prior is None else residual - self.prior(start)
        return self.cg.solve(start, residual, image, iterations)


def fit_lattice(
    slices: Slices,
    pixels: Tensor,
    weights: Tensor,
    gain: ArrayLike,
    spacing: float,
    iterations: int,
    ridge: float = 0.0,
    backend: Backend = CPU,
) -> tuple[GaussianField, ForwardModel]:
    """The field of a lattice of Gaussians that explains pixels, and the forward model that has it in place.

    Parameters
    ----------
    slices : Slices
        At their poses.
    pixels, weights : (P,) float32
    gain : (S,)
    spacing : float
        Lattice constant, mm.
    iterations : int
        Of conjugate gradients.
    ridge : float
        Weight of the squared amplitudes, in units of the pixels' weights.
    backend : Backend
    """
    lattice, forward_model = placed_lattice(slices, spacing, backend)
    given = (pixels, weights, gain, lattice.field().amplitudes, iterations, ridge)
    return lattice.field(solve_amplitudes(forward_model, *given)), forward_model


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
