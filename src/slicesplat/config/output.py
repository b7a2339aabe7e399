"""Settings of what is made of the field: the volume, and its standard error."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SampleSettings:
    """The volume, sampled from the field.

    Attributes
    ----------
    background_margin : float
        mm around the masks that the background is shown in.
    background_spacing : float
        Lattice constant of the background's field, in-plane pixels: coarser than where the region's own fit starts.
    background_iterations : int
        Of conjugate gradients for it.
    """

    background_margin: float = 15.0
    background_spacing: float = 1.5
    background_iterations: int = 15


@dataclass(frozen=True)
class UncertaintySettings:
    """The standard error of the volume, sampled.

    Attributes
    ----------
    draws : int
    iterations : int
        Of conjugate gradients for each, at most; what they leave unresolved counts as error.
    tolerance : float
        They end when their error, in the norm of the system, is this share of a draw's variance in the same norm.
    most_cells : int
        Inside the region; the lattice is coarser than the pixels where there would be more.
    """

    draws: int = 3
    iterations: int = 200
    tolerance: float = 0.001
    most_cells: int = 350_000
