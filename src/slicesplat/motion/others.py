"""What each stack looks like as all others show the subject: fields that were fitted without it.

A field that was fitted to all slices predicts each of them well, wherever it lies and whatever is wrong with it. One
that never saw a stack does so only if that stack and the others agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.motion.trusted import Trusted
from slicesplat.solvers.amplitudes import placed_lattice, solve_amplitudes
from slicesplat.splat import CPU, Backend

_DEFAULT = RegistrationSettings()


class Others:
    """Fields on one lattice, each of all stacks but one.

    One lattice, placed once, for all: what only the stack that is left out has seen of it stays zero.

    Parameters
    ----------
    trusted : Trusted
        At their final poses; the other slices neither predict nor are predicted.
    spacing : float
        Lattice constant, mm.
    settings : RegistrationSettings
        For the fields.
    backend : Backend

    Attributes
    ----------
    slices : Slices (T)
        Those that are trusted, with coarse pixels.
    stacks : list of int
        The stacks that they belong to.
    lattice : Lattice
    forward_model : ForwardModel
        With the lattice and the slices in place.
    """

    def __init__(
        self,
        trusted: Trusted,
        spacing: float,
        settings: RegistrationSettings = _DEFAULT,
        backend: Backend = CPU,
    ) -> None:
        self.slices, self._trusted = trusted.slices, trusted
        self.stacks: list[int] = np.unique(self.slices.stack).tolist()
        self.lattice, self.forward_model = placed_lattice(self.slices, spacing, backend)
        self._backend, self._settings = backend, settings

    def own(self, stack: int) -> NDArray[np.bool_]:
        """(T,) whether a slice is the stack's."""
        return np.asarray(self.slices.stack == stack)

    def amplitudes(self, stack: int, pixels: Tensor | None = None, iterations: int | None = None) -> Tensor:
        """Amplitudes (N,) of the field that all stacks but one show.

        Parameters
        ----------
        stack : int
            The one that is left out.
        pixels : (P,), optional
            What the slices show; their own pixels when not given.
        iterations : int, optional
            Of conjugate gradients; as the settings say when not given.
        """
        others = self._trusted.trust * broadcast_to_pixels(~self.own(stack), self.slices, self._backend.device)
        given = (self._trusted.pixels if pixels is None else pixels, others, np.ones(len(self.slices)))
        steps = self._settings.iterations if iterations is None else iterations
        empty = self.lattice.field().amplitudes
        return solve_amplitudes(self.forward_model, *given, empty, steps, self._settings.ridge)
