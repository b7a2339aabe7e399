"""What a forward model does, whichever backend computes it; its numbers are those of `splat.reference`.

With the Gaussians' shapes and the slices' poses in place, the pixels y (P,) of all slices are linear in the amplitudes
a (N,), and in each slice's gain g_s:

    y = G A a,   A: (P, N), the image of each Gaussian at amplitude 1,   G: every pixel times its slice's gain
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.geometry.reach import FIT_CUTOFF
from slicesplat.geometry.slices import Slices

MAX_CUTOFF = 5.0

Values: TypeAlias = "ArrayLike | Tensor"


class PoseSystems(NamedTuple):
    """Gauss-Newton systems of all slices in their poses and gains; see `ForwardModel.pose_normal_equations`."""

    hessian: Tensor  # (S, 7, 7) float64
    gradient: Tensor  # (S, 7) float64
    cost: Tensor  # (S,) float64
    sums: Tensor  # (S, 6) float64


class Misfits(NamedTuple):
    """Robust misfits of all slices; see `ForwardModel.misfits`."""

    cost: Tensor  # (S,) float64
    sums: Tensor  # (S, 6) float64


class ForwardModel(Protocol):
    """The forward model of a set of slices, its adjoint and its derivatives.

    Takes tensors and arrays, gives tensors on `device`. Every number depends on the arguments alone: the same bits from
    run to run, and for any number of threads.
    """

    @property
    def backend(self) -> str:
        """Name of the backend, by which others choose what goes with it."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""

    @property
    def cutoff(self) -> float:
        """Mahalanobis distance beyond which a Gaussian does not reach a pixel; at most `MAX_CUTOFF`."""

    @property
    def slices(self) -> int:
        """S, the number of slices."""

    @property
    def pixels(self) -> int:
        """P, the number of pixels of all slices."""

    @property
    def pairs(self) -> int:
        """How many pairs of a view and a Gaussian are listed; a view is a slice seen by one component of its PSF."""

    @property
    def placements(self) -> int:
        """How often a geometry has been set."""

    def set_geometry(
        self,
        means: Values,  # (N, 3) mm
        log_scales: Values,  # (N, 3)
        quaternions: Values,  # (N, 4) w, x, y, z, of any length
        rotations: Values,  # (S, 3, 3)
        translations: Values,  # (S, 3) mm
        rebuild: bool | None = None,
    ) -> None:
        """Set the Gaussians' shapes and the slices' poses; everything after refers to them.

        Parameters
        ----------
        rebuild : bool, optional
            Whether to make a new list of pairs. By default when something has moved too far for the old one.

        Raises
        ------
        ValueError
            The list is to be kept, and there is none for this number of Gaussians.
        """

    def free_scratch(self) -> None:
        """Give back the memory of what can be found again, and is when it is needed next: all but the list of pairs."""

    def apply(self, amplitudes: Values, gains: Values) -> Tensor:
        """Simulated pixels G A a: (P,) float32, for amplitudes (N,) and gains (S,)."""

    def adjoint(self, upstream: Values, gains: Values) -> Tensor:
        """The transpose of `apply` as a linear map of the amplitudes, A' G h: (N,) float32, for h (P,)."""

    def vjp(self, upstream: Values, amplitudes: Values, gains: Values) -> tuple[Tensor, Tensor]:
        """Gradients of a loss whose gradient at the pixels is `upstream` (P,).

        Returns
        -------
        gaussians : (N, 11) float32
            By means, log scales, quaternions, amplitudes.
        poses : (S, 13) float64
            By rotation matrices row by row, translations, gains.
        """

    def pose_jacobian(self, amplitudes: Values) -> Tensor:
        """Images for gain 1 and their derivatives by the slices' poses: (7, P) float32.

        The first six are by a step v (mm), w (rad) in the slice's own frame, R -> R exp([w]x), t -> t + R v; the last
        one is the image.
        """

    def pose_normal_equations(
        self,
        amplitudes: Values,  # (N,)
        gains: Values,  # (S,)
        pixels: Values,  # (P,)
        weights: Values,  # (P,)
        scale: Values,  # (S,) in units of the pixels
    ) -> PoseSystems:
        """Gauss-Newton systems of every slice's robust misfit sum w r^2 / (1 + (r / scale)^2), r = gain image - pixel.

        A pixel counts with the weight w / (1 + (r / scale)^2)^2, that of Geman and McClure.

        Returns
        -------
        hessian : (S, 7, 7)
            J' W J for the unknowns of `pose_jacobian` and, last, the gain.
        gradient : (S, 7)
            J' W r, half the misfit's gradient.
        cost : (S,)
            The misfit.
        sums : (S, 6)
            Of w, w y, w p, w y^2, w p^2, w y p over image y and pixels p: all that a correlation needs.
        """

    def misfits(
        self,
        amplitudes: Values,  # (N,)
        gains: Values,  # (S,)
        pixels: Values,  # (P,)
        weights: Values,  # (P,)
        scale: Values,  # (S,) in units of the pixels
    ) -> Misfits:
        """Every slice's robust misfit, and what a correlation needs: `cost` and `sums` of `pose_normal_equations`."""


class MakesForwardModel(Protocol):
    """What a backend makes the forward model of slices with."""

    def __call__(self, slices: Slices, cutoff: float = FIT_CUTOFF) -> ForwardModel:
        """The forward model of these slices; ValueError unless 0 < cutoff <= `MAX_CUTOFF`."""
