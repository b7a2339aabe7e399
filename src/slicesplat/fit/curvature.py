"""A prior for fields on a lattice: few places are curved.

    E(V) = integral of 2 (|H V|^2 + c^2)^(1/4),   H V: the 3 x 3 second derivatives, |.|: Frobenius norm

Slopes cost nothing, which keeps tissue from breaking up into terraces as total variation of first order does (Rudin,
Osher and Fatemi, Physica D 60, 1992, 259-268). A large curvature costs the root of its magnitude: differences in
images have heavy tails, exponents between 0.5 and 0.8 (Levin, Fergus, Durand and Freeman, ACM Trans. Graph. 26, 2007,
article 70), so that few sharp folds are likelier than many faint ones. On a lattice the derivatives are differences of
neighbouring amplitudes. E is lowered by solving weighted least squares again and again (lagged diffusivity: Vogel and
Oman, SIAM J. Sci. Comput. 17, 1996, 227-238), from a smooth field on: E is not convex.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from slicesplat.field import GaussianField
from slicesplat.fit.linear import LATTICE_SUM, lattice_cells
from slicesplat.splat import CPU, Backend

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
    """The prior as a quadratic form of the amplitudes, `<a, apply(a)>` / 2, about the last `reweight`.

    Parameters
    ----------
    lattice : GaussianField
        As `fit.linear.lattice` makes it.
    spacing : float
        Its lattice constant, mm.
    backend : Backend
    """

    def __init__(self, lattice: GaussianField, spacing: float, backend: Backend = CPU) -> None:
        cells = lattice_cells(lattice, spacing) + 1  # and an empty layer around them
        x, y, z = (cells.amax(dim=0) + 2).tolist()
        # All boxes are flat, so that a neighbour is so many places away. Beyond the outermost layer it is another cell:
        # that does no harm, as a stencil about an empty cell has no weight.
        self.cell = (cells[:, 0] * y + cells[:, 1]) * z + cells[:, 2]
        self._stencils = [[((i * y + j) * z + k, weight) for (i, j, k), weight in stencil] for stencil in _STENCILS]
        self._margin = (y + 1) * z  # the furthest neighbour
        self.spacing = spacing
        # Room that is used again and again: fresh memory costs more than what is computed in it.
        self._box, self._out = (torch.zeros(x * y * z, device=backend.device) for _ in range(2))
        self._level = torch.zeros(x * y * z - 2 * self._margin, device=backend.device)
        occupied = self._spread(torch.ones(len(lattice), device=backend.device))
        self._weights = torch.zeros(len(_STENCILS), len(self._level), device=backend.device)
        # At the rim, where a neighbour is missing, nothing is known about the curvature.
        self._complete = torch.stack(
            [torch.stack([self._seen(occupied, to) for to, _ in stencil]).amin(dim=0) for stencil in self._stencils]
        )

    def _spread(self, amplitudes: Tensor) -> Tensor:
        """The amplitudes (N,) as a box of cells, zero where there is no Gaussian."""
        return self._box.index_copy_(0, self.cell, amplitudes)

    def _seen(self, box: Tensor, to: int) -> Tensor:
        """The box's cells, so many places away from those that may have a stencil."""
        return box[self._margin + to : len(box) - self._margin + to]

    def _difference(self, box: Tensor, stencil: list[tuple[int, float]]) -> Tensor:
        """The second difference at every cell that may have one; it stays until the next one is asked for."""
        (first, factor), *others = stencil
        torch.mul(self._seen(box, first), factor, out=self._level)
        for to, factor in others:
            self._level.add_(self._seen(box, to), alpha=factor)
        return self._level

    def reweight(self, amplitudes: Tensor, strength: float) -> None:
        """Make the quadratic form touch `strength` times the prior at these amplitudes."""
        box = self._spread(amplitudes)
        square = torch.zeros_like(self._level)
        for stencil, complete in zip(self._stencils, self._complete, strict=True):
            square += self._difference(box, stencil).mul_(complete).square_()
        curvature = torch.sqrt(square * (LATTICE_SUM / self.spacing**2) ** 2 + EDGE**2)
        # (.)^(3/2) from square roots, which are rounded alike on every machine; powers are not.
        curvature *= torch.sqrt(curvature)
        # A cell stands for spacing^3 of the integral.
        torch.mul(self._complete, strength * LATTICE_SUM**2 / self.spacing / curvature, out=self._weights)

    def apply(self, amplitudes: Tensor) -> Tensor:
        """The form's matrix times a vector: (N,) to (N,)."""
        box, out = self._spread(amplitudes), self._out.zero_()
        for stencil, weights in zip(self._stencils, self._weights, strict=True):
            level = self._difference(box, stencil).mul_(weights)
            for to, factor in stencil:
                self._seen(out, to).add_(level, alpha=factor)
        return out.index_select(0, self.cell)
