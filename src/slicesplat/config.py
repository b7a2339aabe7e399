"""Settings of a reconstruction and of its stages: plain values, quick to import.

Every stage of the pipeline has its own frozen settings, nested in `Config`. A default has a measurement behind it,
where nothing else is said on the shared cases of `benchmarks/bench_accuracy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

RESOLUTIONS = (0.1, 10.0)
"""Finest and coarsest voxels, mm, that an output may have."""
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
    kept_starts : int
        Starts of a slice that are followed to the end.
    first_steps, last_steps : int
        Steps of all starts, and of those that are kept.
    improvement : float
        Share of the present misfit that another place has to get below.
    least_seen : float
        Share of the typical coverage from which on the others know what a pixel of a stray slice should show.
    judging_spacing : float
        Lattice constant, in-plane pixels, of the field that stray slices are judged by. In simulated cases one of 2.3
        pixels confirms 6 of 8 slices that had jumped, one of 1.6 pixels 7.
    hearings : int
        How often stray slices are judged at most, each time by those too that were believed before.
    """

    outlier: float = 4.0
    misfit: float = 1.5
    stray: float = 3.0
    random_starts: int = 48
    max_shift: float = 15.0
    max_turn: float = 45.0
    kept_starts: int = 6
    first_steps: int = 4
    last_steps: int = 5
    improvement: float = 0.98
    least_seen: float = 0.25
    judging_spacing: float = 1.6
    hearings: int = 3


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
    from_start: int = 4
    steps: int = 3
    ridge: float = 0.05
    iterations: int = 8
    least_ncc: float = 0.45
    beyond_chance: float = 4.0
    far: float = 5.0
    time: TimePriorSettings = field(default_factory=TimePriorSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    relocation: RelocationSettings = field(default_factory=RelocationSettings)
    stillness: StillnessSettings = field(default_factory=StillnessSettings)


@dataclass(frozen=True)
class OutlineSettings:
    """Whether the edge of a mask is an outline of the anatomy.

    Measured: of drawn and simulated brain masks 0.13 to 0.92 of the variance across a stack's edge is common to its
    pieces, 0.28 for all stacks of one real fetus together; of ellipsoids drawn in tissue 0.002 to 0.13, and below 0.1
    for three stacks together.

    Attributes
    ----------
    reach : float
        mm to either side of the edge that are looked at.
    piece : float
        mm along the edge that make one profile.
    slope : float
        What a slope in common counts for: tissue changes over centimetres, whatever is drawn in it.
    clear : float
        Share in common above which a mask is an outline by itself.
    least : float
        The same, of all stacks that are not clear by themselves.
    least_pieces : int
        Fewer leave it to chance.
    """

    reach: float = 5.0
    piece: float = 15.0
    slope: float = 0.5
    clear: float = 0.3
    least: float = 0.17
    least_pieces: int = 30


@dataclass(frozen=True)
class MaskSettings:
    """What masks are, and those that were carried over from another stack, made to fit.

    Attributes
    ----------
    between_slices : float
        mm around the region: how far slices are off where only stacks were registered.
    of_rough_poses : float
        mm around the region, once the slices are registered roughly themselves.
    outline : OutlineSettings
        Of masks that were drawn.
    """

    between_slices: float = 4.0
    of_rough_poses: float = 1.5
    outline: OutlineSettings = field(default_factory=OutlineSettings)


@dataclass(frozen=True)
class NoiseSettings:
    """Whether the noise in the pixels is white.

    Measured, correlation of responses beside each other: white noise on simulated brains -0.61 to -0.64; after zeros
    were filled in around k-space 0.28 to 0.30, and -0.61 to -0.63 two pixels apart; interpolated linearly 0.32 and
    -0.44 to -0.40; after a Gaussian filter of 0.8 pixels 0.08 to 0.11 and -0.34 to -0.28; on a real fetus -0.11 and
    -0.58.

    Attributes
    ----------
    white : float
        Correlation up to which neighbours are taken to have noise of their own.
    white_between : float
        The same for pixels further apart.
    smooth : float
        Response of neighbours over that of pixels further apart, below which the stack was interpolated between these.
    longest : int
        Pixels that are taken to share their noise at most, and where nothing tells.
    """

    white: float = -0.5
    white_between: float = -0.58
    smooth: float = 0.2
    longest: int = 3


@dataclass(frozen=True)
class BiasFieldSettings:
    """Smooth fields that light each stack unevenly, fixed in the scanner, as part of the model.

    Attributes
    ----------
    degree : int
        Of the polynomial of the position that the logarithm of a field is.
    deviation, gain_deviation : float
        Standard deviations that the coefficients and the logarithms of the gains are expected to have.
    shared_by : float
        Residuals that count as one against that expectation: neighbouring pixels share what the field cannot draw.
    most_pixels : int
        Of each stack that its field is fitted to.
    clear : float
        Standard errors by which the error of the validation pixels has to fall for the fields to be part of the model.
    """

    degree: int = 2
    deviation: float = 0.05
    gain_deviation: float = 0.05
    shared_by: float = 2.0
    most_pixels: int = 40_000
    clear: float = 3.0


@dataclass(frozen=True)
class CommonBiasSettings:
    """The bias field that all stacks share, found ahead of everything else where it is plainly there.

    Attributes
    ----------
    suspected : float
        How many times more the brightest part of a typical stack's region has to be lit than the darkest, at a first
        glance, for the field to be looked for.
    sharper : float
        By how much the entropy of the intensities' logarithms has to fall without the field, nats.
    degree : int
        Of the polynomial of the position that the logarithm of the field is.
    rounds : int
        Sharpenings of the histogram for each degree, at most.
    still : float
        Root-mean-square change of the logarithm below which there is no further one.
    most_pixels : int
        Of each stack that are looked at.
    """

    suspected: float = 2.0
    sharper: float = 0.1
    degree: int = 4
    rounds: int = 30
    still: float = 2e-4
    most_pixels: int = 15_000


@dataclass(frozen=True)
class LikelihoodSettings:
    """What a residual says about its pixel and its slice.

    Attributes
    ----------
    pixel_limit : float
        Residual, in sigma, beyond which a pixel's influence on the field falls off.
    slice_limit : float
        Root-mean-square residual of a slice, in units of its stack's typical one, beyond which its weight falls.
    validation_share : float
        Pixels that are left out of the fit to choose by.
    gains : bool
        Whether slices and stacks may differ in brightness; without, numbers mean the same in all of them.
    noise : NoiseSettings
    bias_field : BiasFieldSettings or None
        How stacks may be lit unevenly, where the validation pixels ask for it; None: never. Nor are they without gains.
    """

    pixel_limit: float = 5.0
    slice_limit: float = 1.25
    validation_share: float = 0.02
    gains: bool = True
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    bias_field: BiasFieldSettings | None = field(default_factory=BiasFieldSettings)


@dataclass(frozen=True)
class FitSettings:
    """The joint estimate of field, motion, gains and weights.

    Attributes
    ----------
    strategy : str
        How the field is made of Gaussians, by the name in `estimate.strategies`.
    prior : str
        What is likely of the field, by the name in `priors`.
    spacings : tuple of float
        Lattice constants that are tried, coarse to fine, in units of the in-plane pixel spacing. The poses are refined
        on the first.
    strengths : tuple of float
        Of the prior, in units of its usual one, that are tried.
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
        Root-mean-square motion of the slices in a turn, mm, below which there is no further turn.
    stalled : float
        Share of the motion in the turn before from which on it is noise that moves the slices: no further turn.
    pose_steps : int
        Gauss-Newton steps of the poses in every turn; with 0 they stay as they are.
    max_extrapolation : float
        mm that a slice is moved ahead in its direction at most.
    rounds : int
        Updates of prior, gains and weights for every lattice.
    iterations : int
        Of conjugate gradients, preconditioned, between two updates.
    first_iterations : int
        Of plain conjugate gradients, from nothing.
    rim : int
        Pixels beside the mask that are fitted too: they see what is inside, and without them the field is open there.
    outline : int
        Pixels from the mask's edge inwards that choose nothing: they say more about the mask than about the anatomy.
    likelihood : LikelihoodSettings
    """

    strategy: str = "lattice"
    prior: str = "curvature"
    spacings: tuple[float, ...] = (1.3, 1.05, 0.9)
    strengths: tuple[float, ...] = (2.0, 0.5)
    unknown_noise: tuple[float, ...] = (4.0, 4.0, 4.0)
    smoothness: float = 0.2
    pose_rounds: int = 24
    final_rounds: int = 6
    still: float = 0.01
    stalled: float = 0.95
    pose_steps: int = 2
    max_extrapolation: float = 0.5
    rounds: int = 4
    iterations: int = 4
    first_iterations: int = 8
    rim: int = 1
    outline: int = 2
    likelihood: LikelihoodSettings = field(default_factory=LikelihoodSettings)

    def __post_init__(self) -> None:
        if not self.spacings or min(self.spacings) <= 0:
            raise ValueError(f"spacings {self.spacings}: give at least one lattice constant, all of them positive")
        if not self.smoothness >= 0 or min(*self.strengths, *self.unknown_noise, 1.0) <= 0:
            raise ValueError(f"prior of strength {self.smoothness} times {self.strengths}: give positive numbers")

    def factors(self, noise_known: bool) -> tuple[float, ...]:
        """Strengths that are tried ahead of the others because the noise is not known; none where it is."""
        return () if noise_known or not self.strengths else self.unknown_noise


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


@dataclass(frozen=True)
class Config:
    """Settings of a reconstruction.

    Attributes
    ----------
    resolution : float
        Voxel size of the output volume, mm.
    interleave : int
        Packages that the slices were acquired in (2: first the even, then the odd slices). 0: detect it.
    slice_profile : {"gaussian", "box", "sinc"}
        Shape of the slice profile; its width is the slice thickness.
    bias_field_correction : bool
        Divide every stack by its bias field first, found by N4 inside its mask; then none is estimated in the model.
    estimate_bias_field : bool
        Estimate how unevenly coils light the stacks, together with everything else, where the data ask for it.
    with_background : bool
        Show what lies around the region too, as far as the slices saw it; nothing inside the mask changes.
    seed : int
        Seed of everything random; the same seed gives the same bytes.
    threads : int
        Threads to use. 0: all cores.
    device : {"auto", "cpu", "cuda"}
        Where to compute. auto: on a CUDA device where there is one, else on the CPU.
    motion : {"slices", "stack", "none"}
        What is moved: every slice by itself, every stack as one, or nothing: the poses are taken as they are given.
    keep_duplicates : bool
        Use stacks that show the acquisition of another one too; by default one of each such pair is left out.
    max_memory : float
        Memory that the work may take, GB of 10^9 bytes. 0: what the machine has available.
    uncertainty : bool
        Also estimate the standard error of every voxel, which takes about as long as the fit.
    orientation : {"scanner", "ras", "standard"}
        How the volume lies. scanner: along the scanner's axes, in its space. ras: in its space too, along the axes of
        the brain itself: to its right, its front and its top. standard: in the space of a template, where the slices
        are then as well.
    template : str
        A brain by itself, NIfTI, that standard space and the brain's axes are those of. Empty: the built-in fetal one
        of the age that fits best; a neonate gets the oldest.
    common_bias : CommonBiasSettings
        Of the bias field that all stacks share.
    masks : MaskSettings
        Of what masks are taken for, and of those that are carried over.
    registration : RegistrationSettings
        Of stacks and slices.
    fit : FitSettings
        Of the joint estimate.
    sample : SampleSettings
        Of the output.
    uncertainty_map : UncertaintySettings
        Of the standard error.
    """

    resolution: float = 0.8
    interleave: int = 0
    slice_profile: Literal["gaussian", "box", "sinc"] = "gaussian"
    bias_field_correction: bool = False
    estimate_bias_field: bool = True
    with_background: bool = False
    seed: int = 0
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    motion: Literal["slices", "stack", "none"] = "slices"
    keep_duplicates: bool = False
    max_memory: float = 0.0
    uncertainty: bool = False
    orientation: Literal["scanner", "ras", "standard"] = "scanner"
    template: str = ""
    common_bias: CommonBiasSettings = field(default_factory=CommonBiasSettings)
    masks: MaskSettings = field(default_factory=MaskSettings)
    registration: RegistrationSettings = field(default_factory=RegistrationSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    sample: SampleSettings = field(default_factory=SampleSettings)
    uncertainty_map: UncertaintySettings = field(default_factory=UncertaintySettings)

    @property
    def models_bias_field(self) -> bool:
        """Whether bias fields may be estimated: not beside N4, nor where numbers mean the same in all stacks."""
        return self.estimate_bias_field and not self.bias_field_correction and self.fit.likelihood.gains

    def __post_init__(self) -> None:
        finest, coarsest = RESOLUTIONS
        if not finest <= self.resolution <= coarsest:
            raise ValueError(
                f"output resolution {self.resolution} mm: give a voxel size between {finest:g} and {coarsest:g} mm"
            )
        if self.interleave < 0:
            raise ValueError(f"interleave {self.interleave}: give the number of packages, or 0 to detect it")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: give zero or a positive number")
        if not self.max_memory >= 0:
            raise ValueError(f"max memory {self.max_memory} GB: give a positive number, or 0 for what is available")
        if self.template and self.orientation == "scanner":
            raise ValueError(f"template {self.template}: is for an orientation of ras or standard; ask for one of them")
        if self.threads < 0:
            raise ValueError(f"threads {self.threads}: give a number of threads, or 0 for all cores")
