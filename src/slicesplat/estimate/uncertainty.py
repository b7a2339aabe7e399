"""How far the reconstructed volume may be from the truth, voxel by voxel.

Noise is the smaller part: thick slices do not show all there is. So the error is that of a linear Gaussian model

    pixels = sqrt(w) / sigma (A V) + unit noise,      (kappa^2 - Laplace) V, blurred, = s(x) white noise

with the exact forward model A at the final poses, gains and weights, and a prior whose spectrum is measured in the
slices (`fit.spectrum`). Its local strength s(x) follows the gradients of the fitted field (a stochastic partial
differential equation with varying coefficients: Lindgren, Rue and Lindstroem, Journal of the Royal Statistical Society
B 73, 2011, 423-498). The error's covariance is sampled by acting it out: draw an anatomy from the prior, scan it as the
subject was scanned, noise included, reconstruct it as well as the model allows, and take the difference (conditional
simulation: Journel and Huijbregts, Mining Geostatistics, 1978; perturb and maximise: Papandreou and Yuille, 2010). What
no slice saw keeps the prior's spread. The poses are taken as they are: their error is not part of it. docs/method.md,
Uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor

from slicesplat.config import UncertaintySettings
from slicesplat.estimate.spectrum import Spectrum, interior, measure_spectrum
from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import BRIDGED
from slicesplat.geometry.reach import LATTICE_SIGMA
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import Weights
from slicesplat.progress import ReportProgress
from slicesplat.solvers.amplitudes import placed_lattice
from slicesplat.solvers.cg import ConjugateGradients
from slicesplat.splat import ForwardModel
from slicesplat.splat.grid import grid_affine, sample_on_grid

Volume = NDArray[np.float32]

_DEFAULT = UncertaintySettings()
_PADDING = 4  # cells around the lattice: far ends of the box are neighbours
_WINDOW = 2.0  # mm; over which gradients and squared errors are averaged
_SEEN = 0.02  # of the usual information: below it a place borrows the strength of the others
# Of anatomy in slices too small to measure a spectrum in.
_SMALL = Spectrum(strength=1.0, kappa=0.5, blur=0.5)
_PROBE_WIDTH = 2.0  # frequencies over which the data's information is averaged


@dataclass(frozen=True, eq=False)
class Box:
    """A periodic box of cells and its frequencies.

    Attributes
    ----------
    spacing : float
        Size of a cell, mm.
    corner : (3,)
        World position of the first cell, mm.
    shape : (3,)
    """

    spacing: float
    corner: NDArray[np.float64]
    shape: tuple[int, int, int]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Cell index to world, mm."""
        return grid_affine(self.corner, self.spacing)

    def frequencies(self) -> list[Volume]:
        """Radian per mm along each axis of the half spectrum, to be broadcast."""
        full = [fft.fftfreq(n, self.spacing) for n in self.shape[:2]]
        axes = [2 * np.pi * axis for axis in (*full, fft.rfftfreq(self.shape[2], self.spacing))]
        return [axis.astype(np.float32).reshape([-1 if i == j else 1 for j in range(3)]) for i, axis in enumerate(axes)]

    def spectrum(self, values: Volume) -> NDArray[np.complex64]:
        """The half spectrum of an array on the box."""
        return np.asarray(fft.rfftn(values, workers=numba.get_num_threads()))

    def values(self, spectrum: NDArray[np.complex64]) -> Volume:
        """The array that has this half spectrum."""
        return np.asarray(fft.irfftn(spectrum, self.shape, workers=numba.get_num_threads()))

    def filtered(self, values: Volume, transfer: Volume) -> Volume:
        """An array times a real transfer function."""
        return self.values(self.spectrum(values) * transfer)


def _resampled(
    values: NDArray[np.floating],
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    shape: Sequence[int],
    outside: Literal["nearest", "constant"] = "nearest",
) -> Volume:
    """Values on one grid, interpolated on another; outside: the nearest one, or 0."""
    to_source = np.linalg.inv(source) @ target
    found = ndimage.affine_transform(
        values.astype(np.float32), to_source[:3, :3], to_source[:3, 3], tuple(shape), order=1, mode=outside
    )
    return np.asarray(found)


class ErrorModel:
    """The linear model whose posterior is sampled; unknown is the white noise on the box that makes the anatomy.

    Parameters
    ----------
    forward_model : ForwardModel
        With a lattice of Gaussians and the slices' poses in place.
    cells : 3 arrays (N,)
        Where in the box each Gaussian of the lattice is.
    box : Box
    strength : array of the box's shape
        Local s^2, intensity^2 per mm.
    spectrum : Spectrum
        Its own strength does not matter.
    root_weight : (P,)
        Reciprocal standard deviation of each pixel's noise; 0 for one that does not count.
    gain : (S,)
    """

    def __init__(
        self,
        forward_model: ForwardModel,
        cells: tuple[NDArray[np.int64], ...],
        box: Box,
        strength: Volume,
        spectrum: Spectrum,
        root_weight: Volume,
        gain: NDArray[np.floating],
    ) -> None:
        self.forward_model, self.cells, self.box = forward_model, cells, box
        self.root_weight, self.gain = root_weight, gain
        # White noise of unit density has variance 1 / volume in a cell.
        self.deviation = np.sqrt(strength / box.spacing**3).astype(np.float32)
        axes = box.frequencies()
        self.root = spectrum.root(axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2).astype(np.float32)
        # A lattice Gaussian spreads over its neighbours: the amplitudes that give these values where the cells are.
        tail = [np.exp(-0.5 * (n / LATTICE_SIGMA) ** 2) for n in (1, 2)]
        spread = [1 + 2 * sum(t * np.cos(n * axis * box.spacing) for n, t in enumerate(tail, 1)) for axis in axes]
        self.inverse = np.ones_like(self.root)
        self.amplitude_root = (self.root / (spread[0] * spread[1] * spread[2])).astype(np.float32)

    def anatomy(self, white: Volume) -> Volume:
        """What white noise on the box makes, on the box."""
        return self.box.filtered(self.deviation * white, self.root)

    def scan(self, white: Volume) -> Volume:
        """(P,) the anatomy's pixels over the standard deviation of their noise."""
        amplitudes = self.box.filtered(self.deviation * white, self.amplitude_root)[self.cells]
        return np.asarray(self.root_weight * self.forward_model.apply(amplitudes, self.gain).numpy())

    def adjoint(self, pixels: Volume) -> Volume:
        """The transpose of `scan`."""
        amplitudes = np.zeros(self.box.shape, np.float32)
        amplitudes[self.cells] = self.forward_model.adjoint(self.root_weight * pixels, self.gain)
        return self.deviation * self.box.filtered(amplitudes, self.amplitude_root)

    def probe(self, random: np.random.Generator) -> None:
        """Find, by one random probe, how much the data tell about each frequency: the preconditioner of `solve`."""
        white = random.standard_normal(self.box.shape, dtype=np.float32)
        given, found = self.box.spectrum(white), self.box.spectrum(self.adjoint(self.scan(white)))
        mode = ("wrap", "wrap", "nearest")
        told = ndimage.gaussian_filter((given.conj() * found).real, _PROBE_WIDTH, mode=mode)
        told /= ndimage.gaussian_filter(np.abs(given) ** 2, _PROBE_WIDTH, mode=mode)
        self.inverse = (1.0 / (1.0 + np.maximum(told, 0.0))).astype(np.float32)

    def solve(self, right: Volume, settings: UncertaintySettings = _DEFAULT) -> Volume:
        """(1 + scan' scan)^-1 of `right`, by preconditioned conjugate gradients."""
        given, nothing = torch.from_numpy(right), torch.zeros(0)

        def product(direction: Tensor) -> tuple[Tensor, Tensor]:
            return direction + torch.from_numpy(self.adjoint(self.scan(direction.numpy()))), nothing

        def inverse(residual: Tensor) -> Tensor:
            return torch.from_numpy(self.box.filtered(residual.numpy(), self.inverse))

        solver = ConjugateGradients(product, given, nothing, inverse)
        # A draw has unit variance per degree of freedom in this norm, whatever the noise.
        tolerance = settings.tolerance * right.size
        found, _ = solver.solve(torch.zeros_like(given), given, nothing, settings.iterations, tolerance)
        return np.asarray(found.numpy())

    def draw(self, random: np.random.Generator, settings: UncertaintySettings = _DEFAULT) -> Volume:
        """One error of the reconstruction, on the box: an anatomy less what is made of its scan."""
        truth = random.standard_normal(self.box.shape, dtype=np.float32)
        noise = random.standard_normal(len(self.root_weight), dtype=np.float32)
        noise[self.root_weight == 0] = 0.0
        found = self.solve(self.adjoint(self.scan(truth) + noise), settings)
        return self.anatomy(truth - found)


def standard_error(
    field: GaussianField,
    slices: Slices,
    weights: Weights,
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    random: np.random.Generator,
    report_progress: ReportProgress = lambda done, total, loss: None,
    settings: UncertaintySettings = _DEFAULT,
) -> Volume:
    """Standard error of the field at every voxel of the mask, zero outside, in units of the field.

    Of all structure that the slices' pixels could show if there were enough of them: up to the frequency of the pixels
    in plane. Where nothing was measured it is the spread of the anatomy.

    Parameters
    ----------
    field : GaussianField
        The fitted one.
    slices : Slices
        At their final poses.
    weights : Weights
        Final weights, gains, and the noise level.
    mask : array of bool
        The region on the output grid.
    affine : (4, 4)
        Of the mask, voxel index to world, mm.
    random : numpy Generator
    report_progress : callable
        Told how many draws are done, of how many.
    settings : UncertaintySettings
    """
    pixel = float(np.median(slices.step))
    volume = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])))
    spacing = max(pixel, (volume / settings.most_cells) ** (1 / 3))
    forward_model, box, cells = _lattice_in_box(slices, spacing)
    total = weights.total(slices).cpu().numpy()
    seen = np.zeros(box.shape, np.float32)
    seen[cells] = forward_model.adjoint(total, np.ones(len(slices)))
    usual = float(np.median(seen[seen > 0])) if (seen > 0).any() else 1.0
    inside = _resampled(mask.astype(np.float32), affine, box.affine, box.shape, "constant")
    told = np.minimum(seen / usual, 1.0) * inside
    taper = interior(slices, weights)
    spectrum = measure_spectrum(slices, weights, taper)
    # Where it was measured: there the strength is 1 on average.
    measured = np.zeros(box.shape, np.float32)
    measured[cells] = forward_model.adjoint(taper**2, np.ones(len(slices)))
    known = sample_on_grid(field, box.affine, box.shape)
    spectrum, strength = _local_strength(known, told, measured, box, spectrum, pixel)
    root_weight = (np.sqrt(total) / weights.sigma).astype(np.float32)
    model = ErrorModel(forward_model, cells, box, strength, spectrum, root_weight, weights.gain)
    model.probe(random)
    square = np.zeros(box.shape)
    for done in range(settings.draws):
        square += model.draw(random, settings).astype(np.float64) ** 2
        report_progress(done + 1, settings.draws, None)
    width = _WINDOW / spacing
    share = np.maximum(ndimage.gaussian_filter(inside, width), 1e-3)
    variance = ndimage.gaussian_filter((inside * square).astype(np.float32), width) / share / settings.draws
    unshown = strength * _beyond(spectrum, np.pi / spacing, np.pi / pixel)
    error = np.sqrt(_resampled(variance + unshown, box.affine, affine, mask.shape))
    return np.where(mask, error, 0.0).astype(np.float32)


def _lattice_in_box(
    slices: Slices, spacing: float
) -> tuple[ForwardModel, Box, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """A lattice of Gaussians in place, a box around it, and the cell of each Gaussian."""
    lattice, forward_model = placed_lattice(slices, spacing, bridged=BRIDGED)
    cell = lattice.cell.numpy()
    low = cell.min(axis=0) - _PADDING
    size = [fft.next_fast_len(int(n), real=True) for n in cell.max(axis=0) + 1 + _PADDING - low]
    first, second, third = (cell - low).T
    return forward_model, Box(spacing, low * spacing, (size[0], size[1], size[2])), (first, second, third)


def _local_strength(
    known: Volume, told: Volume, measured: Volume, box: Box, spectrum: Spectrum | None, sigma: float
) -> tuple[Spectrum, Volume]:
    """The anatomy's spectrum, and its strength place by place, from the gradients of what was reconstructed.

    The spectrum is that of the interior. The outline, where tissue ends, is rougher than any tissue; places that were
    not seen are taken to be like the interior, with no more spread than its intensities have.

    Parameters
    ----------
    known : array of the box's shape
        The fitted field.
    told : array of the box's shape
        What the data tell about each place, between 0 and 1; 0 outside the region.
    measured : array of the box's shape
        How much each place counted where the spectrum was measured.
    box : Box
    spectrum : Spectrum or None
        As measured in the slices.
    sigma : float
        Of the smoothing before gradients are taken, mm.
    """
    axes = box.frequencies()
    smooth = np.exp(-0.5 * sigma**2 * (axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2)).astype(np.float32)
    half = box.spectrum(known) * smooth
    square = sum(box.values(1j * axis * half) ** 2 for axis in axes)
    if spectrum is None or not measured.any():
        measured = told
    mean = np.average(known, weights=measured)
    spread = float(np.average((known - mean) ** 2, weights=measured))
    if spectrum is None:
        spectrum = _SMALL
        spectrum = replace(spectrum, strength=spread / spectrum.variance())
    relative = square / max(float(np.average(square, weights=measured)), 1e-12)
    unseen = min(spectrum.strength, spread / spectrum.variance())
    width = _WINDOW / box.spacing
    local = ndimage.gaussian_filter(told * relative, width) * spectrum.strength + _SEEN * unseen
    return spectrum, (local / (ndimage.gaussian_filter(told, width) + _SEEN)).astype(np.float32)


def _beyond(spectrum: Spectrum, low: float, high: float) -> float:
    """Variance for unit strength of frequencies within `high` radian per mm along each axis, but not within `low`."""
    if high <= low:
        return 0.0
    parts = []
    for limit in (low, high):
        axis = (np.arange(64) + 0.5) * (limit / 64)
        square = np.add.outer(np.add.outer(axis**2, axis**2), axis**2)
        parts.append(float((spectrum.root(square) ** 2).sum()) * (limit / 64 / np.pi) ** 3)
    return parts[1] - parts[0]
