"""The plainest prior: the field is small.

    E(V) = 1/2 integral of |V|^2        V about LATTICE_SUM times the amplitude of the nearest Gaussian

It knows nothing of anatomy, and draws towards zero what the data leave open. It is here for comparison, and because it
shows all that a prior has to have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slicesplat.field.lattice import LATTICE_SUM, Lattice
from slicesplat.splat import CPU, Backend


class Ridge:
    """The prior, which is a quadratic form of the amplitudes itself.

    Parameters
    ----------
    lattice : Lattice
    backend : Backend
    """

    def __init__(self, lattice: Lattice, backend: Backend = CPU) -> None:
        self.lattice = lattice
        self._scale = LATTICE_SUM**2 * lattice.spacing**3
        self._weight = torch.zeros(len(lattice), device=backend.device)

    def energy(self, amplitudes: Tensor) -> float:
        """E of the field of these amplitudes (N,)."""
        return 0.5 * self._scale * float((amplitudes**2).sum(dtype=torch.float64))

    def majorise(self, amplitudes: Tensor, strength: float) -> None:
        """Make the quadratic form `strength` times the prior."""
        self._weight.fill_(strength * self._scale)

    def matvec(self, amplitudes: Tensor) -> Tensor:
        """The form's matrix times a vector: (N,) to (N,)."""
        return self._weight * amplitudes

    def diagonal(self) -> Tensor:
        """The diagonal (N,) of the form's matrix."""
        return self._weight.clone()

    def symbol(self, turns: Sequence[Tensor]) -> Tensor:
        """What the form does to waves of so many radian per cell: the same to all."""
        return torch.ones(torch.broadcast_shapes(*(turn.shape for turn in turns)), device=turns[0].device)
