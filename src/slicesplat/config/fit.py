"""Settings of the joint estimate of field, motion, gains and weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from slicesplat.config.likelihood import LikelihoodSettings
from slicesplat.config.primitives import PrimitivesSettings

FEWEST_GAUSSIANS = 500
"""With fewer a brain is a few blobs, and its slices have nothing to be placed by."""


@dataclass(frozen=True)
class FitSettings:
    """The joint estimate of field, motion, gains and weights.

    Attributes
    ----------
    strategy : str
        How the field is made of Gaussians, by the name in `estimate.fit.STRATEGIES`.
    gaussians : int
        Most that the field may have. 0: as many as the validation pixels ask for.
    prior : str
        What is likely of the field, by the name in `priors`.
    spacings : tuple of float
        Lattice constants that are tried, coarse to fine, in units of the in-plane pixel spacing. The poses are refined
        on the first.
    strengths : tuple of float
        Of the prior, in units of its usual one, that are tried.
    tie : float
        Share of the validation error by which a finer lattice may be worse and is kept: the stronger prior, which is
        tried next, helps it by more. Of two with the same error to 0.01 % the coarser one ended 0.5 dB below.
    worth : float
        Share of the validation error that a finer lattice has to take away for a still finer one to be tried. Of five
        simulated cases with less, the still finer one was worse in four, by 0.1 to 0.7 %, and better by 0.2 % in one;
        with more it was better in all of fourteen.
    even : float
        Share of the validation error that another strength has to take away to be taken as it is; one that takes away
        less is met halfway. Errors are parabolas in the logarithm of the strength, and two that are the same lie to
        either side of the lowest.
    unknown_noise : tuple of float
        Where the noise is more than what could be measured: factors by which the prior is made stronger, one after the
        other for as long as that is better; together those of eight times the noise.
    smoothness : float
        Usual strength of the prior, in units of the noise's variance: that of a maximum-a-posteriori estimate does not
        depend on the noise.
    pose_rounds : int
        Turns of field and poses before the complexity is chosen, at most.
    final_rounds : int
        Turns of field and poses at the end, with all pixels and as many Gaussians as were chosen, at most.
    still : float
        Root-mean-square motion of the slices, mm, below which there is no further turn: what the turns to come would
        add, if each goes on by the share of the one before that the last two did. Half of it takes fits a fifth more
        processor time, for 0.04 dB less to 0.04 dB more in five simulated cases.
    stalled : float
        Share of the motion in the turn before above which slices that move by less than `still` are moved by noise: no
        further turn. Where few slices cross, or one stack shows something else, they go on slowly for long: six stacks
        with severe motion and one of another subject end 0.19 mm off in the median after 24 turns, and 0.32 mm where
        the turns ended with the first, the ninth, that moved slices by as much as the one before.
    pose_steps : int
        Gauss-Newton steps of the poses in every turn; with 0 they stay as they are. With two of them, six last
        turns and four updates a lattice, fits take 15 to 20 % more processor time and are no more accurate: by -0.06 to
        0.03 dB in six simulated cases.
    linear : float
        Length of a step, in lattice constants, up to which a turn's steps are taken without being tried: of those that
        made a slice fit worse, in three cases, none was longer than 0.15 mm, and none did so by more than 0.3 %.
    max_extrapolation : float
        mm that a slice is moved ahead in its direction at most.
    joint_rounds : int
        Steps of amplitudes and poses together, after the turns, where the stacks leave a strain open, at most: like the
        turns they end with the motion `still`. Turns take hundreds to get there.
    joint_iterations : int
        Of conjugate gradients in such a step.
    open_strain : float
        Share of a strain that the slices show on average below which it counts as open: 0 for two stacks, 1/3 for three
        at right angles.
    rounds : int
        Updates of prior, gains and weights for every lattice.
    iterations : int
        Of conjugate gradients, preconditioned, between two updates.
    last_iterations : int
        The same in the last update of all: in five simulated cases 0.01 dB more, in one of them 0.04 dB, for less than
        a hundredth of the time. Nine more updates would add another 0.00 to 0.03 dB.
    first_iterations : int
        Of plain conjugate gradients, from nothing.
    rim : int
        Pixels beside the mask that are fitted too: they see what is inside, and without them the field is open there.
    outline : int
        Pixels from the mask's edge inwards that choose nothing: they say more about the mask than about the anatomy.
    likelihood : LikelihoodSettings
    primitives : PrimitivesSettings
        Of the strategy of that name.
    """

    strategy: str = "lattice"
    gaussians: int = 0
    prior: str = "curvature"
    spacings: tuple[float, ...] = (1.3, 1.05, 0.9)
    strengths: tuple[float, ...] = (2.0, 0.5)
    tie: float = 0.001
    worth: float = 0.008
    even: float = 0.0025
    unknown_noise: tuple[float, ...] = (4.0, 4.0, 4.0)
    smoothness: float = 0.2
    pose_rounds: int = 24
    final_rounds: int = 3
    still: float = 0.06
    stalled: float = 0.97
    pose_steps: int = 1
    linear: float = 0.5
    max_extrapolation: float = 0.5
    joint_rounds: int = 12
    joint_iterations: int = 20
    open_strain: float = 0.1
    rounds: int = 3
    iterations: int = 4
    last_iterations: int = 8
    first_iterations: int = 8
    rim: int = 1
    outline: int = 2
    likelihood: LikelihoodSettings = field(default_factory=LikelihoodSettings)
    primitives: PrimitivesSettings = field(default_factory=PrimitivesSettings)

    def __post_init__(self) -> None:
        if not self.spacings or min(self.spacings) <= 0:
            raise ValueError(f"spacings {self.spacings}: give at least one lattice constant, all of them positive")
        if not self.smoothness >= 0 or min((*self.strengths, *self.unknown_noise, 1.0)) <= 0:
            raise ValueError(f"prior of strength {self.smoothness} times {self.strengths}: give positive numbers")
        if self.gaussians and self.gaussians < FEWEST_GAUSSIANS:
            raise ValueError(
                f"{self.gaussians} Gaussians: give {FEWEST_GAUSSIANS} or more, or 0 for as many as it takes"
            )

    def factors(self, noise_known: bool) -> tuple[float, ...]:
        """Strengths that are tried ahead of the others because the noise is not known; none where it is."""
        return () if noise_known or not self.strengths else self.unknown_noise
