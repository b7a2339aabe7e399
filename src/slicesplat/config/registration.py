"""Settings of the registration of stacks and slices."""

from __future__ import annotations

from dataclasses import dataclass, field

WHOLE_STACK = -1
"""As the length of a run of slices: all of a stack."""


@dataclass(frozen=True)
class Level:
    """One level of the registration.

    Attributes
    ----------
    spacing : float
        Lattice constant of the field, mm.
    run : int
        Slices that move as one, consecutive in time; `WHOLE_STACK` for all of a stack, 1 for each by itself.
    rounds : int
        Fits of the field, each followed by an alignment, at most.
    scale : float
        Residual, as a fraction of the brightest tissue, beyond which a pixel loses influence.
    still : float
        Median movement of a round, mm, below which the level is done.
    """

    spacing: float
    run: int
    rounds: int
    scale: float
    still: float


COARSE_LEVELS = (
    Level(8.0, WHOLE_STACK, 3, 0.5, 0.5),
    Level(8.0, 20, 3, 0.5, 0.5),
    Level(7.0, 7, 4, 0.5, 0.5),
    Level(6.0, 4, 4, 0.5, 0.4),
    Level(5.0, 2, 4, 0.5, 0.3),
    Level(5.0, 1, 6, 0.3, 0.2),
    Level(4.0, 1, 3, 0.3, 0.1),
)


FINE_LEVELS = (Level(3.0, 1, 3, 0.15, 0.05), Level(2.5, 1, 2, 0.15, 0.05))
LEVELS_BEFORE_FIT = (Level(3.0, 1, 1, 0.15, 0.05),)


@dataclass(frozen=True)
class TimePriorSettings:
    """Where a slice is expected from its neighbours in time.

    Attributes
    ----------
    jump : float
        Deviation, in units of the typical one, beyond which more costs nothing: motion jumps.
    least_translation : float
        mm; no examination is so still that a slice may be held to its neighbours more tightly.
    least_rotation : float
        The same, degrees.
    trusted : float
        Weight above which a slice speaks for its neighbours.
    """

    jump: float = 3.0
    least_translation: float = 0.3
    least_rotation: float = 0.3
    trusted: float = 0.5


@dataclass(frozen=True)
class RecoverySettings:
    """The search for slices that have not found their place.

    Attributes
    ----------
    outlier : float
        Robust standard deviations below the median correlation that make a slice suspect.
    misfit : float
        Misfit, in units of the median, that does.
    stray : float
        Deviation from where the slice is expected, in units of the time prior, that does.
    random_starts : int
        Random poses about the expected one that are tried.
    max_shift : float
        Of them, mm.
    max_turn : float
        Of them, degrees.
    kept_starts : tuple of int
        How many starts of a slice go on, besides where it is, after `first_steps`, and after as many again.
    first_steps, last_steps : int
        Steps up to each choice, and after the last one.
    improvement : float
        Share of the present misfit that another place has to get below.
    least_seen : float
        Share of the typical coverage from which on the others know what a pixel of a stray slice should show.
    judging_spacing : float
        Lattice constant, in-plane pixels, of the field that stray slices are judged by. In simulated cases one of 2.3
        pixels confirms 6 of 8 slices that had jumped, one of 1.6 pixels 7.
    hearings : int
        How often stray slices are judged at most, each time by those too that were believed before.
    few_pixels : float
        Share of the median number of pixels below which a slice is searched for again on a field without those.
    seen_pixels : float
        Share of the pixels of such a slice that this field's slices have to see.
    crossing : int
        Stacks, besides its own, that this field has to be made of; where there are fewer, stray slices alone are left
        out of it and searched. In four simulated cases with one or two other stacks 4 of 43 slices that were searched
        without that rule went to wrong places, in thirteen with more stacks none did.
    evidence : float
        Logarithm of the Bayes factor by which another place has to be the likelier one: strong evidence after Kass and
        Raftery (Journal of the American Statistical Association 90, 1995, 773-795).
    """

    outlier: float = 4.0
    misfit: float = 1.5
    stray: float = 3.0
    random_starts: int = 48
    max_shift: float = 15.0
    max_turn: float = 45.0
    kept_starts: tuple[int, ...] = (20, 6)
    first_steps: int = 2
    last_steps: int = 5
    improvement: float = 0.98
    least_seen: float = 0.25
    judging_spacing: float = 1.6
    hearings: int = 3
    few_pixels: float = 0.5
    seen_pixels: float = 0.75
    crossing: int = 3
    evidence: float = 3.0


RELOCATION_LEVELS = (
    Level(8.0, WHOLE_STACK, 2, 0.5, 0.0),
    Level(7.0, 7, 2, 0.5, 0.0),
    Level(6.0, 3, 2, 0.5, 0.0),
    Level(5.0, 1, 1, 0.3, 0.0),
)


@dataclass(frozen=True)
class RelocationSettings:
    """The search, over all rotations, for whole stacks that do not agree with the others.

    Attributes
    ----------
    convincing : float
        Correlation of a stack without noise with what the others show, from which on it is not searched.
    improvement : float
        By how much another place has to correlate better.
    sure : float
        Lead over the best other place with which a stack helps to find the others; without one, the best does.
    beginnings : int
        Where no two stacks agree: of so many at most it is seen which of them others are found in.
    passes : int
        Times that stacks which still do not agree are searched, once more when all have been found.
    elsewhere : float
        mm, rotations at a brain's radius, from which on two places are different ones.
    slices : int
        Of a stack, about, that all rotations are tried with.
    pixel : float
        Their pixel spacing, mm.
    kept_starts : int
        Places that are followed down the levels.
    levels : tuple of Level
        Each with so many rounds of steps on one field of the stacks in place.
    """

    convincing: float = 0.7
    improvement: float = 0.05
    sure: float = 0.15
    beginnings: int = 3
    passes: int = 2
    elsewhere: float = 15.0
    slices: int = 8
    pixel: float = 5.0
    kept_starts: int = 6
    levels: tuple[Level, ...] = RELOCATION_LEVELS


@dataclass(frozen=True)
class StillnessSettings:
    """Whether slices moved, by pixels that are left out.

    Attributes
    ----------
    rough_spacing, spacing : float
        Lattice constants, mm, of the field that tells large motion from none, and of the one that decides; within the
        first, two stacks see the same place.
    square : float
        mm along the squares of pixels that are left out: their middle is beyond what the field's own slice tells.
    limit : float
        Error, in standard deviations, beyond which more does not count.
    significant : float
        Standard errors by which simpler motion has to predict worse.
    certain : float
        What a single slice loses, as a log-likelihood ratio times two, if it moved for certain.
    exceptions : float
        Share of the slices that may have moved for certain, or one of them: the robust weights deal with them.
    """

    rough_spacing: float = 5.0
    spacing: float = 2.5
    square: float = 9.0
    limit: float = 5.0
    significant: float = 2.0
    certain: float = 30.0
    exceptions: float = 0.03


@dataclass(frozen=True)
class RegistrationSettings:
    """The registration of stacks and slices, coarse to fine.

    Attributes
    ----------
    outline_margin : int
        Pixels around the mask that the coarse levels see as empty.
    binning : int
        Pixels along each side that the coarse levels average into one.
    stack_spacing : float
        Lattice constant, mm, of the field that whole stacks are brought onto.
    stack_turns : tuple of float
        Degrees about each of three axes that a stack is turned by, to start from.
    stack_steps : int
        Steps of a whole stack.
    carried_spacings : tuple of float
        Lattice constants, mm, where stacks are brought together by the mask of one of them, or by what is inside masks
        that are no outlines.
    coarse, fine : tuple of Level
    before_fit : tuple of Level
        The fine ones where the joint fit refines the poses: its first turns would do the same work again. In four
        simulated cases volumes are the same to 0.004 dB or better by 0.06 dB, in 0.75 of the time that it takes to
        register.
    from_start : int
        Coarse levels that are left out where the slices are known to be about in place.
    steps : int
        Steps of the slices after each fit of the field.
    ridge : float
        Weight of the squared amplitudes in a level's field, in units of the pixels' weights.
    iterations : int
        Of conjugate gradients for it.
    least_ncc : float
        Correlation below which a slice without noise shows something else than the field.
    beyond_chance : float
        With noise it cannot correlate as much. So many standard errors of a correlation of independent pixels are no
        chance.
    known_to : float
        Standard error of a pose, mm, beyond which its slice is left out. In simulated cases three of 7,400 used slices
        were beyond, two of them 3.5 and 6.5 mm off.
    least_weight : float
        Weight in the end, of the largest in its stack, below which a slice is left out: its residual is 1.9 times what
        is usual there. Of 8,626 used slices of simulated cases 15 had less, of which 12 were more than 1 mm off and 3
        more than 3 mm.
    far : float
        mm from where its neighbours in time say that a slice is, from which on little correlation makes it lost.
    time : TimePriorSettings
    recovery : RecoverySettings
    relocation : RelocationSettings
    stillness : StillnessSettings
    """

    outline_margin: int = 8
    binning: int = 2
    stack_spacing: float = 10.0
    stack_turns: tuple[float, ...] = (25.0, 50.0, -25.0, -50.0)
    stack_steps: int = 8
    carried_spacings: tuple[float, ...] = (10.0, 5.0)
    coarse: tuple[Level, ...] = COARSE_LEVELS
    fine: tuple[Level, ...] = FINE_LEVELS
    before_fit: tuple[Level, ...] = LEVELS_BEFORE_FIT
    from_start: int = 4
    steps: int = 3
    ridge: float = 0.05
    iterations: int = 8
    least_ncc: float = 0.45
    beyond_chance: float = 4.0
    known_to: float = 1.5
    least_weight: float = 0.2
    far: float = 5.0
    time: TimePriorSettings = field(default_factory=TimePriorSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    relocation: RelocationSettings = field(default_factory=RelocationSettings)
    stillness: StillnessSettings = field(default_factory=StillnessSettings)
