"""Settings of what pixels say: noise, outliers, gains, bias fields."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    undrawn : float
        Root-mean-square residual, the brightest tissue at 1, that says nothing against a slice on the first lattice,
        falling with the square of the lattice constant: that lattice leaves 0.01 to 0.025 of slices unexplained that
        are where they belong, more of those that show more. By that in proportion to others' a noise-free scan would
        lose them, and what a field was not fitted to it never explains.
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
    undrawn: float = 0.02
    validation_share: float = 0.02
    gains: bool = True
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    bias_field: BiasFieldSettings | None = field(default_factory=BiasFieldSettings)
