"""A prior of lattices on a field of any Gaussians: by the values that it takes at a lattice's cells.

A field V = sum_j a_j G_j has the energy of the lattice that takes the same values v = S a there, S the Gaussians'
values at the cells. So its form is S' P S with the lattice's P: the second derivatives that are priced are the field's
own, taken as differences on a grid, and not those of its parameters. docs/method.md, Prior.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import LATTICE_SUM
from slicesplat.priors import Prior
from slicesplat.splat import CPU, Backend, set_geometry
from slicesplat.splat.grid import lattice_planes, pixels_of_cells

_NODES = 8  # of Gauss and Legendre along each axis of the frequencies: smooth functions, and a rough answer will do
_AT_ONCE = 4096  # Gaussians


class SampledPrior:
    """The prior, and the quadratic form of the amplitudes that touches it where it was majorised last.

    Parameters
    ----------
    prior : Prior
        Of the lattice whose cells the field is looked at.
    shapes : GaussianField
        N Gaussians; their amplitudes do not matter.
    backend : Backend
    """

    def __init__(self, prior: Prior, shapes: GaussianField, backend: Backend = CPU) -> None:
        self.prior, self.shapes = prior, shapes
        planes, self._cell = lattice_planes(prior.lattice), pixels_of_cells(prior.lattice)
        self._forward_model = backend.forward_model(planes)
        set_geometry(self._forward_model, shapes, planes.pose)
        # On the device already: an iteration of conjugate gradients must not wait for a copy.
        self._gains = backend.tensor(np.ones(len(planes)))

    def energy(self, amplitudes: Tensor) -> float:
        """E of the field of these amplitudes (N,)."""
        return self.prior.energy(self._sampled(amplitudes))

    def majorise(self, amplitudes: Tensor, strength: float) -> None:
        """Make the form touch `strength` times E at these amplitudes (N,)."""
        self.prior.majorise(self._sampled(amplitudes), strength)

    def matvec(self, amplitudes: Tensor) -> Tensor:
        """The form's matrix times a vector: (N,) to (N,)."""
        box = torch.zeros(self._forward_model.pixels, device=amplitudes.device)
        box.index_copy_(0, self._cell, self.prior.matvec(self._sampled(amplitudes)) / LATTICE_SUM)
        return self._forward_model.adjoint(box, self._gains)

    def diagonal(self) -> Tensor:
        """The diagonal (N,) of the form's matrix, about: as if the form were even around each Gaussian.

        By Parseval it is the mean over all frequencies of the form's symbol times the Gaussian's spectrum. The symbol
        is about the same in all directions, so that it does not matter how the Gaussian is turned.
        """
        lattice, device = self.prior.lattice, self.shapes.means.device
        low, size = lattice.cell.amin(dim=0), lattice.cell.amax(dim=0) - lattice.cell.amin(dim=0) + 1
        around = torch.zeros(size.tolist(), device=device)
        around[tuple((lattice.cell - low).long().unbind(1))] = self.prior.diagonal()
        nearest = (self.shapes.means / lattice.spacing).round().long() - low
        nearest = torch.minimum(nearest.clamp(min=0), (size - 1).long())
        local = around[nearest.unbind(1)]
        nodes, shares = (torch.as_tensor(x, device=device).float() for x in np.polynomial.legendre.leggauss(_NODES))
        turn, share = (nodes + 1) * (math.pi / 2), shares / 2
        symbol = self.prior.symbol([turn[:, None, None], turn[:, None], turn]).expand(_NODES, _NODES, _NODES)
        symbol = symbol * share[:, None, None] * share[:, None] * share
        symbol = symbol / symbol.sum()
        out = torch.empty(len(self.shapes), device=device)
        scales = self.shapes.log_scales.exp() / lattice.spacing
        for first in range(0, len(scales), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            waves = [torch.exp(-((scales[some, k, None] * turn) ** 2)) for k in range(3)]
            mean = torch.einsum("ni,nj,nk,ijk->n", *waves, symbol)
            out[some] = (2 * math.pi) ** 3 * scales[some].prod(dim=1) ** 2 * mean
        return local * out / LATTICE_SUM**2

    def _sampled(self, amplitudes: Tensor) -> Tensor:
        """Amplitudes with which the lattice is about where the field is, at every cell."""
        return self._forward_model.apply(amplitudes, self._gains).index_select(0, self._cell) / LATTICE_SUM
