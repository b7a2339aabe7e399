"""How much fine structure the anatomy has, measured in the slices themselves, before anything is reconstructed.

Tissue is patches with boundaries, and the power spectrum of such a medium falls as the fourth power of the frequency
(Porod's law; Debye, Anderson and Brumberger, Journal of Applied Physics 28, 1957, 679-683):

    P(k) = s^2 exp(-b^2 k^2) / (kappa^2 + k^2)^2        covariance  exp(-kappa r), blurred

with 1/kappa the size of the patches and b the softness of their boundaries. A slice shows P through its point-spread
function, integrated over the frequencies through plane, and white noise. The parameters are those under which the
periodograms of the slices are likeliest (Whittle, Arkiv foer Matematik 2, 1953, 423-434). Every stack has a strength of
its own: tissue is not isotropic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.optimize import minimize

from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import Weights

Float = NDArray[np.float64]

_TAPER = 10  # pixels, at most, from the mask's rim over which a slice fades in: its outline is not anatomy
_LEAST_PIXELS = 64  # inside the taper; fewer resolve no frequency
_BIN = 0.1  # radian per mm
_LOWEST = 1.0  # radian per mm; below it the outline of the mask has leaked
_PLANES = 40  # frequencies through plane
_START = {"kappa": 0.5, "blur": 0.4, "noise": 0.03, "strength": 0.4}
# Patches of half a millimetre to a centimetre: no anatomy asks for less or more.
_BOUNDS = {"kappa": (0.1, 2.0), "blur": (0.05, 3.0), "noise": (1e-4, 1.0), "strength": (1e-6, 1e3)}


@dataclass(frozen=True)
class Spectrum:
    """Power spectrum of the anatomy, intensity^2 mm^3 over radian per mm.

    Attributes
    ----------
    strength : float
        s^2, intensity^2 per mm.
    kappa : float
        Reciprocal of the correlation length, 1/mm.
    blur : float
        b, mm.
    """

    strength: float
    kappa: float
    blur: float

    def root(self, square: NDArray[np.floating]) -> Float:
        """Root of the spectrum of unit strength at squared frequencies, (radian per mm)^2."""
        return np.asarray(np.exp(-0.5 * self.blur**2 * square) / (self.kappa**2 + square))

    def variance(self) -> float:
        """Of the anatomy's intensity, for unit strength, mm."""
        # Shells of frequencies, up to where nothing is left.
        edges = np.geomspace(1e-3 * self.kappa, 1e4 * self.kappa, 20001)
        k = np.sqrt(edges[1:] * edges[:-1])
        return float((4 * np.pi * k**2 * self.root(k**2) ** 2 * np.diff(edges) / (2 * np.pi) ** 3).sum())


@dataclass(frozen=True, eq=False)
class _Periodogram:
    """Mean power of one stack's slices by frequency (F,), and what shapes it."""

    frequency: Float
    power: Float
    count: Float
    psf_weights: Float
    psf_covariances: Float
    psf_offsets: Float
    pixel_area: float

    def seen(self, kappa: float, blur: float) -> Float:
        """(F,) what the slices would show of an anatomy of unit strength, without noise."""
        variance = (self.psf_covariances[:, 2] + self.psf_offsets**2) @ self.psf_weights
        reach = 5.0 / np.sqrt(variance + blur**2)
        through = (np.arange(_PLANES) + 0.5) * (reach / _PLANES)
        plane = self.psf_covariances[:, :2].mean(axis=1)
        exponent = np.multiply.outer(self.frequency**2, plane)[:, None] + np.multiply.outer(
            through**2, self.psf_covariances[:, 2]
        )
        # The profile is symmetric: of the phases of its Gaussians the cosines are left.
        transfer = (np.exp(-0.5 * exponent) * np.cos(np.multiply.outer(through, self.psf_offsets))) @ self.psf_weights
        square = np.add.outer(self.frequency**2, through**2)
        root = Spectrum(1.0, kappa, blur).root(square)
        return np.asarray(((transfer * root) ** 2).sum(axis=1) * (reach / _PLANES) / np.pi)


def interior(slices: Slices, weights: Weights) -> Float:
    """(P,) how far inside the mask each pixel lies: 0 at the rim and where a slice is not trusted, 1 well inside."""
    out = np.zeros(len(slices.pixels))
    for s in np.flatnonzero(weights.slice > 0.5).tolist():
        depth = ndimage.distance_transform_edt(np.pad(slices.image(slices.mask, s), 1))[1:-1, 1:-1] - 1
        ramp = np.clip(depth / max(min(_TAPER, depth.max() / 2), 1.0), 0.0, 1.0)
        if (ramp > 0).sum() >= _LEAST_PIXELS:
            slices.image(out, s)[:] = np.sin(np.pi / 2 * ramp) ** 2
    return out


def _periodogram(slices: Slices, weights: Weights, taper: Float, own: Sequence[int]) -> _Periodogram | None:
    """Of one stack's slices `own`, each seen through its taper; None where there is too little."""
    shape = tuple(fft.next_fast_len(int(n)) for n in slices.shape[list(own)].max(axis=0))
    step = slices.step[own[0]]
    power, taken = np.zeros(shape), 0.0
    for s in own:
        window = slices.image(taper, s)
        if not window.any():
            continue
        image = slices.image(slices.pixels, s) / weights.gain[s]
        image = (image - np.average(image, weights=window)) * window
        power += np.abs(fft.fft2(image, shape)) ** 2
        taken += float((window**2).sum())
    if taken == 0:
        return None
    axes = [2 * np.pi * fft.fftfreq(n, d) for n, d in zip(shape, step, strict=True)]
    frequency = np.hypot(axes[0][:, None], axes[1])
    use = frequency > _LOWEST
    if not use.any():
        return None
    index = (frequency[use] / _BIN).astype(int)
    count = np.bincount(index)
    full = count > 0
    area = float(np.prod(step))
    return _Periodogram(
        frequency=(np.bincount(index, frequency[use])[full] / count[full]),
        power=np.bincount(index, power[use])[full] / count[full] * area / taken,
        # The padded transforms of tapered slices are not independent: what was taken in counts, not what was padded.
        count=count[full].astype(np.float64) * taken / float(np.prod(shape)),
        psf_weights=slices.psf_weights[own[0]],
        psf_covariances=slices.psf_covariances[own[0]],
        psf_offsets=slices.psf_offsets[own[0]],
        pixel_area=area,
    )


def measure_spectrum(slices: Slices, weights: Weights, taper: Float) -> Spectrum | None:
    """The anatomy's spectrum, the strength averaged over the stacks; None where the slices are too small to tell.

    Parameters
    ----------
    slices : Slices
        Their poses do not matter.
    weights : Weights
        For the gains.
    taper : (P,)
        Window through which each slice is seen, as `interior` makes it.
    """
    stacks = [np.flatnonzero(slices.stack == stack).tolist() for stack in np.unique(slices.stack)]
    found = [seen for own in stacks if (seen := _periodogram(slices, weights, taper, own))]
    if not found:
        return None

    def misfit(logs: Float) -> float:
        kappa, blur, noise, *strengths = np.exp(logs)
        total = 0.0
        for seen, strength in zip(found, strengths, strict=True):
            expected = strength * seen.seen(kappa, blur) + noise**2 * seen.pixel_area
            total += float((seen.count * (np.log(expected) + seen.power / expected)).sum())
        return total

    names = ["kappa", "blur", "noise", *["strength"] * len(found)]
    start = np.log([_START[name] for name in names])
    best = minimize(misfit, start, method="L-BFGS-B", bounds=[tuple(np.log(_BOUNDS[name])) for name in names])
    kappa, blur, _, *strengths = np.exp(best.x)
    return Spectrum(float(np.mean(strengths)), float(kappa), float(blur))
