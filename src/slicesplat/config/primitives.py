"""Settings of fields whose Gaussians have a place, a size and a direction each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PrimitivesSettings:
    """The projection of a lattice's field onto fewer Gaussians of any shape.

    Attributes
    ----------
    share : float
        Of the lattice's number of Gaussians, that is tried first.
    growth : float
        From one number that is tried to the next.
    worth : float
        Share of the validation error that a greater number has to take away to be taken. Less tells nothing: on
        fetal-moderate 144,000 instead of 39,000 took away 0.4 % and 1 dB, on infant-moderate 300,000 instead of 75,000
        gave 0.02 dB for three times the time.
    steps : int
        Of all shapes, in each of which the amplitudes are solved for.
    growth_steps : int
        As many as there are after the number has grown.
    stages : int
        Into which the steps are divided; between them Gaussians go from where they carry little to where they are
        missed.
    first : float
        Share of the Gaussians that there is in the first stage.
    iterations : int
        Of conjugate gradients for the amplitudes, in every step.
    rate : float
        Of Adam, at the beginning: standard deviations that a Gaussian moves in a step, and as much of growing and
        turning. It falls to zero like half a cosine.
    sharpest, widest : float
        Standard deviations that a Gaussian may have, in units of the pixel spacing.
    cell : float
        Between the points of the grid that the projection is computed on, in units of the pixel spacing.
    little : float
        What taking a Gaussian away or two together may cost, over what one of them leaves unexplained on average.
    """

    share: float = 1 / 6
    growth: float = 1.6
    worth: float = 0.01
    steps: int = 48
    growth_steps: int = 20
    stages: int = 3
    first: float = 0.85
    iterations: int = 3
    rate: float = 0.06
    sharpest: float = 0.35
    widest: float = 6.0
    cell: float = 1.0
    little: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.first <= 1 and self.growth > 1):
            raise ValueError(
                f"share {self.share}, first {self.first}, growth {self.growth}: "
                "give shares up to 1, and a number above 1 for the growth"
            )
        if not 0 <= self.worth < 1:
            raise ValueError(f"worth {self.worth}: give a share of the validation error, 0 to 1")
        if min(self.stages, self.steps, self.growth_steps, self.iterations) < 1:
            raise ValueError("steps, stages and iterations: give at least 1 of each")
