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
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices
from slicesplat.solvers.amplitudes import placed_lattice, solve_amplitudes
from slicesplat.splat import CPU, Backend

_DEFAULT = RegistrationSettings()


def binned_to(pixel: float, slices: Slices) -> Slices:
    """The slices with pixels of about so many mm."""
    pixels = round(pixel / float(np.median(slices.step)))
    return slices.binned(int(np.clip(pixels, 1, slices.shape.min())))


class Others:
    """Fields on one lattice, each of all stacks but one.

    One lattice, placed once, for all: what only the stack that is left out has seen of it stays zero.

    Parameters
    ----------
    slices : Slices
        At their final poses.
    weight : (S,)
        Trust in the slices; those without any neither predict nor are predicted.
    spacing, pixel : float
        Lattice constant and pixels, mm.
    settings : RegistrationSettings
        For the fields.
    backend : Backend

    Attributes
    ----------
    which : (T,)
        The slices that are trusted, by their number.
    slices : Slices (T)
        These, with coarse pixels.
    lattice : Lattice
    forward_model : ForwardModel
        With the lattice and the slices in place.
    """

    def __init__(
        self,
        slices: Slices,
        weight: Float,
        spacing: float,
        pixel: float,
        settings: RegistrationSettings = _DEFAULT,
        backend: Backend = CPU,
    ) -> None:
        self.which = np.flatnonzero(weight > 0)
        self.slices = binned_to(pixel, slices.take(self.which))
        self.lattice, self.forward_model = placed_lattice(self.slices, spacing, backend)
        self._backend, self._settings = backend, settings
        self._trust = backend.tensor(self.slices.mask) * broadcast_to_pixels(
            weight[self.which], self.slices, backend.device
        )

    def own(self, stack: int) -> NDArray[np.bool_]:
        """(T,) whether a slice is the stack's."""
        return np.asarray(self.slices.stack == stack)

    def amplitudes(self, stack: int) -> Tensor:
        """Amplitudes (N,) of the field that all stacks but one show."""
        others = self._trust * broadcast_to_pixels(~self.own(stack), self.slices, self._backend.device)
        pixels, empty = self._backend.tensor(self.slices.pixels), self.lattice.field().amplitudes
        given = (pixels, others, np.ones(len(self.slices)), empty)
        return solve_amplitudes(self.forward_model, *given, self._settings.iterations, self._settings.ridge)
