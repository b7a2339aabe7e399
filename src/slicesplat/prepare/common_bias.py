"""The bias field that all stacks share: how one coil lights the region, fixed in the scanner.

Slices that differ from each other say little about it, since a volume may be lit the same way. What says it is that
tissue of one kind has one intensity wherever it lies, so that the histogram of all stacks' intensities is sharper
without the field than with it. As in N3 (Sled et al., IEEE Transactions on Medical Imaging 17, 1998, 87-97) the
histogram of the logarithms is sharpened, by deconvolution with a narrow Gaussian, and a smooth function is fitted to
how far every pixel lies from where the sharp histogram expects it; again and again, from low degrees of a polynomial to
higher ones. All stacks together are far better conditioned than each by itself. docs/method.md, Bias fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import CommonBiasSettings
from slicesplat.geometry.stack import Stack, evenly_chosen
from slicesplat.likelihood.bias_field import Basis, divided_by
from slicesplat.prepare.shading import shading

Float = NDArray[np.float64]

_BINS = 200
_FWHM = 0.15  # of the Gaussian that is taken out of the histogram, as N3 and N4 have it
_WIENER = 0.01  # noise against which it is taken out, as they have it
_DARK = 0.05  # of the brightest tissue: what the first fit takes for none; far from the coil tissue is that dark
_TISSUE = 0.4  # of the field at its place, below which the next fits do
_ENTROPY_BIN = 0.03  # of the logarithm
_SLIGHT = 1e-6  # of the normal matrix: it has an inverse
_RANGE = (1, 99)  # percentiles of the field at the pixels


@dataclass(frozen=True, eq=False)
class CommonBias:
    """A field that lights all stacks.

    Attributes
    ----------
    basis : Basis
    coefficients : (K,)
        Of the field's logarithm.
    level : float
        Mean of the logarithm, taken off it.
    ratio : float
        How many times more the brightest part of the region is lit than the darkest.
    sharper : float
        By how much the entropy of the histogram falls without the field, nats.
    """

    basis: Basis
    coefficients: Float
    level: float
    ratio: float
    sharper: float

    def divided_out(self, stack: Stack) -> Stack:
        """The stack without the field."""
        return divided_by(stack, self.basis, self.coefficients, self.level)


def common_bias(stacks: Sequence[Stack], settings: CommonBiasSettings) -> CommonBias | None:
    """The field that lights all stacks, where it is clearly there; else None.

    Parameters
    ----------
    stacks : sequence of Stack
        Zero where there is no signal.
    settings : CommonBiasSettings
    """
    if float(np.median([shading(stack) for stack in stacks])) < settings.suspected:
        return None
    pixels = _Pixels.of(stacks, settings.most_pixels)
    if not len(pixels.log):
        return None
    found = _found(pixels, settings)
    return found if found.sharper > settings.sharper else None


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Pixels of all stacks.

    Attributes
    ----------
    points : (n, 3) mm
        Where the scanner put them.
    log : (n,)
        Logarithm of the intensity, over the brightest tissue of the stack.
    stack : (n,) int
    """

    points: Float
    log: Float
    stack: NDArray[np.int64]

    @classmethod
    def of(cls, stacks: Sequence[Stack], most: int) -> _Pixels:
        """At most so many of each stack's region."""
        points, logs = [], []
        for stack in stacks:
            inside = evenly_chosen(stack.mask if stack.measured is None else stack.mask & stack.measured, most)
            values = stack.data[inside].astype(np.float64)
            bright = max(float(np.percentile(values, 99)), np.finfo(np.float32).tiny) if len(values) else 1.0
            seen = values > _DARK * bright
            places = np.stack(inside, axis=1)[seen]
            points.append(places @ stack.affine[:3, :3].T + stack.affine[:3, 3])
            logs.append(np.log(values[seen] / bright))
        owner = np.repeat(np.arange(len(stacks)), [len(log) for log in logs])
        return cls(np.concatenate(points), np.concatenate(logs), owner)


def _found(pixels: _Pixels, settings: CommonBiasSettings) -> CommonBias:
    """The field that sharpens the histogram, degree after degree."""
    stacks = np.eye(int(pixels.stack.max()) + 1)[pixels.stack]
    light, tissue = np.zeros(len(pixels.log)), np.ones(len(pixels.log), bool)
    for degree in range(1, settings.degree + 1):
        basis = Basis.over(pixels.points, degree)
        terms = basis.at(pixels.points)
        # A stack's level is its own.
        columns = np.column_stack([terms, stacks])
        known = _sharpened(columns[tissue], pixels.log[tissue], light[tissue], settings)
        light = np.einsum("pk,k->p", columns, known)
        even = pixels.log - light
        tissue = even > np.median(even[tissue]) + np.log(_TISSUE)
    own = known[: terms.shape[1]]
    field = np.einsum("pk,k->p", terms[tissue], own)
    levels = np.einsum("pk,k->p", stacks[tissue], known[terms.shape[1] :])
    low, high = np.percentile(field, _RANGE)
    sharper = _entropy(pixels.log[tissue] - levels) - _entropy(even[tissue])
    return CommonBias(basis, own, float(field.mean()), float(np.exp(high - low)), sharper)


def _sharpened(columns: Float, log: Float, start: Float, settings: CommonBiasSettings) -> Float:
    """Coefficients (K,) of columns (n, K) without which the histogram of logarithms (n,) is sharpest, from `start`."""
    normal = np.einsum("pk,pl->kl", columns, columns)
    normal += _SLIGHT * np.trace(normal) / len(normal) * np.eye(len(normal))
    known = np.linalg.solve(normal, np.einsum("pk,p->k", columns, start))
    for _ in range(settings.rounds):
        even = log - np.einsum("pk,k->p", columns, known)
        step = np.linalg.solve(normal, np.einsum("pk,p->k", columns, even - _expected(even)))
        known = known + step
        if np.std(np.einsum("pk,k->p", columns, step)) < settings.still:
            break
    return known


def _expected(values: Float) -> Float:
    """Where a sharper histogram expects values (n,) to be: the mean of what each may be a blurred version of."""
    low, high = values.min(), values.max()
    step = max((high - low) / (_BINS - 1), 1e-9)
    place = (values - low) / step
    bin_ = np.minimum(place.astype(int), _BINS - 2)
    share = place - bin_
    counts = np.bincount(bin_, 1 - share, _BINS) + np.bincount(bin_ + 1, share, _BINS)
    sigma = _FWHM / (2 * np.sqrt(2 * np.log(2))) / step
    blur = np.exp(-2 * (np.pi * sigma * np.fft.rfftfreq(2 * _BINS)) ** 2)
    sharp = np.fft.irfft(np.fft.rfft(counts, 2 * _BINS) * blur / (blur**2 + _WIENER), 2 * _BINS)[:_BINS]
    sharp = np.maximum(sharp, 0.0)
    bins = np.arange(_BINS)
    kernel = np.exp(-0.5 * ((bins[:, None] - bins) / sigma) ** 2)
    mean = np.einsum("ij,j->i", kernel, sharp * bins) / np.maximum(np.einsum("ij,j->i", kernel, sharp), 1e-12)
    return np.asarray(low + step * np.interp(place, bins, mean))


def _entropy(values: Float) -> float:
    """Of the histogram of values (n,), nats."""
    _, counts = np.unique(np.floor(values / _ENTROPY_BIN), return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())
