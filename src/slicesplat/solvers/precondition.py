"""A circulant preconditioner: about the matrix of a lattice's normal equations, in a form that is quickly inverted.

The matrix is A'WA + P, A the forward model, W the pixels' weights, P the prior's form. Scaled to a diagonal of ones by
its diagonal d, it is about the same everywhere: a convolution, with the symbol

    M(k) = f a(k) + (1 - f) l(k),   a: blur of lattice and scanner, l: symbol of the prior, both of mean 1

and f the mean share of A'WA in d. So M^-1 is two Fourier transforms of a box between two products with d^(-1/2).
Conjugate gradients (Hestenes and Stiefel, J. Res. Natl. Bur. Stand. 49, 1952, 409-436), preconditioned with it, come in
two iterations as far as in eight without. Gaussians of any shape have their diagonal alone. docs/method.md, Solvers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import LATTICE_SUM, Lattice
from slicesplat.geometry.reach import LATTICE_SIGMA
from slicesplat.geometry.slices import Slices
from slicesplat.splat import CPU, Backend

Float = NDArray[np.float64]

_LEAST = 1e-6  # of the diagonal's mean: where nothing was measured there may be no prior either


class Diagonal(Protocol):
    """What preconditioners ask of the prior."""

    def diagonal(self) -> Tensor:
        """The diagonal (N,) of its form's matrix."""


class QuadraticForm(Diagonal, Protocol):
    """What the one for a lattice asks of it besides."""

    def symbol(self, turns: Sequence[Tensor]) -> Tensor:
        """What the matrix does to waves of `turns` radian per cell along each axis, but for a factor."""


class DiagonalPreconditioner:
    """The inverse of about the diagonal of the normal equations' matrix, for Gaussians of any shape (Jacobi).

    Of A'WA it is A'w times what a Gaussian's image is in the mean, weighted by itself: half its peak in the slice's
    plane, times 1 / sqrt(2) across it, and the peak that of the PSF in the mean over the slices.

    Parameters
    ----------
    shapes : GaussianField
    prior : Diagonal
        The prior's form on them.
    slices : Slices
    backend : Backend
    """

    def __init__(self, shapes: GaussianField, prior: Diagonal, slices: Slices, backend: Backend = CPU) -> None:
        self.prior = prior
        blur = sum(share * covariance for covariance, share in _psfs(slices))
        covariances = shapes.covariances()
        seen = torch.linalg.det(covariances + backend.tensor(np.asarray(blur)))
        self._self_weighted = torch.sqrt(torch.linalg.det(covariances) / seen) / (2 * math.sqrt(2))
        self._inverse = torch.ones(len(shapes), device=backend.device)

    def update(self, coverage: Tensor) -> None:
        """Follow the prior as it is now, and the pixels' weights: `coverage` (N,) is what their adjoint gives."""
        diagonal = coverage.clamp(min=0) * self._self_weighted + self.prior.diagonal()
        torch.reciprocal(diagonal.clamp(min=_LEAST * diagonal.mean()), out=self._inverse)

    def matvec(self, vector: Tensor) -> Tensor:
        """The inverse times a vector: (N,) to (N,)."""
        return self._inverse * vector


class Preconditioner:
    """About the inverse of the normal equations' matrix on a lattice.

    Parameters
    ----------
    lattice : Lattice
    prior : QuadraticForm
        The prior's form on it.
    slices : Slices
        At their poses, which may move by a few degrees without harm.
    backend : Backend
    """

    def __init__(self, lattice: Lattice, prior: QuadraticForm, slices: Slices, backend: Backend = CPU) -> None:
        shape, cells = lattice.boxed(1)  # what lies at far ends of the box must not be neighbours
        self.prior, self.box = prior, [next_fast_len(size, real=True) for size in shape]
        self._cell = (cells[:, 0] * self.box[1] + cells[:, 1]) * self.box[2] + cells[:, 2]
        turns = [backend.tensor(2 * np.pi * np.fft.fftfreq(size)) for size in self.box[:2]]
        turns.append(backend.tensor(2 * np.pi * np.fft.rfftfreq(self.box[2])))
        # Of the transform's last axis only one half is there: what stands for two frequencies counts twice.
        twice = torch.full_like(turns[2], 2.0)
        twice[0] = 1.0
        if self.box[2] % 2 == 0:
            twice[-1] = 1.0

        def of_mean_one(symbol: Tensor) -> Tensor:
            return symbol / ((symbol * twice).sum(dtype=torch.float64) / float(np.prod(self.box))).float()

        self._prior = of_mean_one(prior.symbol([turns[0][:, None, None], turns[1][:, None], turns[2]]))
        blur = torch.zeros_like(self._prior)
        for covariance, share in _blurs(slices, lattice.spacing):
            blur += share * _gaussian_symbol(covariance, turns)
        # From the sum of a row of A'WA to its diagonal.
        self._narrow = LATTICE_SUM * float((blur * twice).sum(dtype=torch.float64)) / float(np.prod(self.box))
        self._blur = of_mean_one(blur)
        self._inverse = torch.ones_like(blur)
        self._scale = torch.ones(len(self._cell), device=backend.device)

    def update(self, coverage: Tensor) -> None:
        """Follow the prior as it is now, and the pixels' weights: `coverage` (N,) is what their adjoint gives."""
        measured = coverage.clamp(min=0) * self._narrow
        diagonal = measured + self.prior.diagonal()
        diagonal.clamp_(min=_LEAST * diagonal.mean())
        share = (measured / diagonal).mean()
        torch.reciprocal(share * self._blur + (1 - share) * self._prior, out=self._inverse)
        torch.rsqrt(diagonal, out=self._scale)

    def matvec(self, vector: Tensor) -> Tensor:
        """The inverse times a vector: (N,) to (N,)."""
        box = torch.zeros(self.box, device=vector.device)
        box.view(-1).index_copy_(0, self._cell, vector * self._scale)
        found = torch.fft.irfftn(torch.fft.rfftn(box).mul_(self._inverse), s=self.box)
        return found.view(-1).index_select(0, self._cell).mul_(self._scale)


def _gaussian_symbol(covariance: Float, turns: Sequence[Tensor]) -> Tensor:
    """The square of a Gaussian's transform: its covariance in cells, and radian per cell along each axis."""
    c = covariance.tolist()
    return torch.exp(
        -(c[0][0] * turns[0] ** 2)[:, None, None]
        - (c[1][1] * turns[1] ** 2)[:, None]
        - c[2][2] * turns[2] ** 2
        - 2 * c[0][1] * (turns[0][:, None] * turns[1])[:, :, None]
        - 2 * c[0][2] * turns[0][:, None, None] * turns[2]
        - 2 * c[1][2] * turns[1][:, None] * turns[2]
    )


def _blurs(slices: Slices, spacing: float) -> list[tuple[Float, float]]:
    """Covariance (3, 3) of lattice and scanner in units of the spacing, and share of the pixels, of every stack."""
    return [(psf / spacing**2 + LATTICE_SIGMA**2 * np.eye(3), share) for psf, share in _psfs(slices)]


def _psfs(slices: Slices) -> list[tuple[Float, float]]:
    """Mean covariance (3, 3) mm^2 of the PSF in the world, and share of the pixels, of every stack."""
    shares, offsets = slices.psf_weights, slices.psf_offsets
    own = (shares[:, :, None] * slices.psf_covariances).sum(axis=1)
    own[:, 2] += (shares * offsets**2).sum(axis=1)
    rotation = slices.pose.rotation
    covariance = np.einsum("sij,sj,skj->sik", rotation, own, rotation)
    pixels = np.bincount(slices.slice_of_pixel()[slices.mask], minlength=len(slices))
    out = []
    for stack in np.unique(slices.stack):
        weight = np.where(slices.stack == stack, pixels, 0.0)
        if weight.sum() > 0:
            mean = np.average(covariance, axis=0, weights=weight)
            out.append((mean, float(weight.sum() / pixels.sum())))
    return out
