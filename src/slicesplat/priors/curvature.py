"""A prior for fields on a lattice: few places are curved.

    E(V) = integral of 2 (|H V|^2 + c^2)^(1/4),   H V: the 3 x 3 second derivatives, |.|: Frobenius norm

Slopes cost nothing, which keeps tissue from breaking up into terraces as total variation of first order does (Rudin,
Osher and Fatemi, Physica D 60, 1992, 259-268). A large curvature costs the root of its magnitude: differences in
images have heavy tails, exponents between 0.5 and 0.8 (Levin, Fergus, Durand and Freeman, ACM Trans. Graph. 26, 2007,
article 70), so that few sharp folds are likelier than many faint ones. On a lattice the derivatives are differences of
neighbouring amplitudes. E is lowered by solving weighted least squares again and again (lagged diffusivity: Vogel and
Oman, SIAM J. Sci. Comput. 17, 1996, 227-238), from a smooth field on: E is not convex.
docs/method.md, Prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from slicesplat.field.lattice import LATTICE_SUM, Lattice
from slicesplat.priors.curvature_kernel import LatticeProduct, box_size
from slicesplat.splat import CPU, Backend

_PRODUCTS = {"cpu": LatticeProduct}
"""By the name of the backend, the kernel of the form's product; elsewhere it is PyTorch's."""
EDGE = 0.034  # curvature, brightest tissue per mm^2, above which a place counts as an edge

_AXES = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
# Second differences: places relative to a cell, and their weights. The mixed ones stand in H twice.
_STENCILS = [[(axis, 1.0), ((0, 0, 0), -2.0), (tuple(-x for x in axis), 1.0)] for axis in _AXES] + [
    [
        (tuple(a + b for a, b in zip(one, other, strict=True)), math.sqrt(2)),
        (one, -math.sqrt(2)),
        (other, -math.sqrt(2)),
        ((0, 0, 0), math.sqrt(2)),
    ]
    for one, other in ((_AXES[0], _AXES[1]), (_AXES[0], _AXES[2]), (_AXES[1], _AXES[2]))
]


class Curvature:
    """The prior, and the quadratic form of the amplitudes, a' P a / 2, that touches it where it was majorised last.

    Parameters
    ----------
    lattice : Lattice
    backend : Backend
    """

    def __init__(self, lattice: Lattice, backend: Backend = CPU) -> None:
        self.lattice = lattice
        self.shape, cells = lattice.boxed(1)  # an empty layer around them
        self.cell = (cells[:, 0] * self.shape[1] + cells[:, 1]) * self.shape[2] + cells[:, 2]
        x, y, z = self.shape
        occupied = self._spread(torch.ones(len(lattice), device=backend.device))
        # What is known of the second differences: flat, as `LatticeProduct` takes it, and as boxes without their faces.
        self._flat = torch.zeros(2, len(_STENCILS), box_size((x, y, z)), device=backend.device)
        inner = slice(1, -1)
        self._weights, self._complete = self._flat[:, :, : x * y * z].view(2, -1, x, y, z)[..., inner, inner, inner]
        # At the rim, where a neighbour is missing, nothing is known about the curvature.
        for stencil, complete in zip(_STENCILS, self._complete, strict=True):
            torch.amin(torch.stack([_shifted(occupied, step) for step, _ in stencil]), dim=0, out=complete)
        made = _PRODUCTS.get(backend.name)
        self._product = None if made is None else made((x, y, z), self.cell.numpy())

    def _spread(self, amplitudes: Tensor) -> Tensor:
        """The amplitudes (N,) as a box of cells, zero where there is no Gaussian."""
        box = torch.zeros(self.shape, device=amplitudes.device)
        box.view(-1).index_copy_(0, self.cell, amplitudes)
        return box

    def energy(self, amplitudes: Tensor) -> float:
        """E of the field of these amplitudes (N,)."""
        scale, cell = (LATTICE_SUM / self.lattice.spacing**2) ** 2, self.lattice.spacing**3
        # Flat places cost nothing: the constant that the integral of them is has been taken off.
        levels = 2 * ((self._square(amplitudes) * scale + EDGE**2) ** 0.25 - math.sqrt(EDGE))
        return cell * float(levels.sum(dtype=torch.float64))

    def majorise(self, amplitudes: Tensor, strength: float) -> None:
        """Make the quadratic form touch `strength` times the prior at these amplitudes (N,)."""
        # A cell stands for spacing^3 of the integral.
        spacing = self.lattice.spacing
        scale, strength = (LATTICE_SUM / spacing**2) ** 2, strength * LATTICE_SUM**2 / spacing
        if self._product is not None:
            weights, complete = self._flat.numpy()
            self._product.reweight(complete, amplitudes.numpy(), scale, EDGE**2, strength, weights)
            return
        curvature = torch.sqrt(self._square(amplitudes) * scale + EDGE**2)
        # (.)^(3/2) from square roots, which are rounded alike on every machine; powers are not.
        curvature *= torch.sqrt(curvature)
        torch.mul(self._complete, strength / curvature, out=self._weights)

    def _square(self, amplitudes: Tensor) -> Tensor:
        """The sum of the squared second differences, where they are known, of every inner cell."""
        box = self._spread(amplitudes)
        square = torch.zeros_like(self._weights[0])
        for stencil, complete in zip(_STENCILS, self._complete, strict=True):
            square += (_difference(box, stencil) * complete) ** 2
        return square

    def symbol(self, turns: Sequence[Tensor]) -> Tensor:
        """What the form does to waves where its weights are even, but for a factor: squared second differences.

        Parameters
        ----------
        turns : sequence of tensor
            Radian per cell along each axis, to be broadcast.
        """
        bends = [2 - 2 * torch.cos(turn) for turn in turns]
        return (bends[0] + bends[1] + bends[2]) ** 2

    def diagonal(self) -> Tensor:
        """The diagonal (N,) of the form's matrix."""
        out = torch.zeros(self.shape, device=self._weights.device)
        for stencil, weights in zip(_STENCILS, self._weights, strict=True):
            for step, factor in stencil:
                _shifted(out, step).add_(weights, alpha=factor**2)
        return out.view(-1).index_select(0, self.cell)

    def matvec(self, amplitudes: Tensor) -> Tensor:
        """The form's matrix times a vector: (N,) to (N,)."""
        if self._product is not None:
            return torch.from_numpy(self._product(self._flat[0].numpy(), amplitudes.numpy()))
        box = self._spread(amplitudes)
        out = torch.zeros_like(box)
        for stencil, weights in zip(_STENCILS, self._weights, strict=True):
            level = _difference(box, stencil) * weights
            for step, factor in stencil:
                _shifted(out, step).add_(level, alpha=factor)
        return out.view(-1).index_select(0, self.cell)


def _shifted(box: Tensor, step: tuple[int, ...]) -> Tensor:
    """The box without its outermost cells, seen from so many cells away."""
    return box[tuple(slice(1 + s, n - 1 + s) for s, n in zip(step, box.shape, strict=True))]


def _difference(box: Tensor, stencil: list[tuple[tuple[int, ...], float]]) -> Tensor:
    total = torch.zeros_like(_shifted(box, (0, 0, 0)))
    for step, factor in stencil:
        total.add_(_shifted(box, step), alpha=factor)
    return total
