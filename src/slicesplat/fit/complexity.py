"""How many Gaussians: split where the residual is beyond noise, prune what carries nothing.

The noise level is measured in the slices themselves, before any fit: the median absolute response to the difference of
two Laplacian-like stencils, which anatomy leaves almost alone (Immerkaer, Computer Vision and Image Understanding 64,
1996, 300-302). Around every Gaussian, the weighted mean squared residual of the pixels that it reaches is compared with
that level; where it is larger there is structure that the present Gaussians cannot carry, and the Gaussian is split
along its longest axis.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve

from slicesplat.field import GaussianField, rotation_matrices
from slicesplat.splat import CpuSplatter
from slicesplat.stack import Slices

_STENCIL = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0]) / 6.0
MAD_TO_SIGMA = 1.4826
# Children of a split: two Gaussians at +-OFFSET standard deviations along the longest axis, of SHRINK times its length,
# which together have their parent's second moments and resemble it to 1.4 % of its peak.
_OFFSET, _SHRINK, _SHARE = 0.45, 0.893, 0.56
# The smallest useful Gaussian: below a third of the in-plane PSF nothing is gained but noise.
_SMALLEST_OF_PSF = 0.33


def noise_level(slices: Slices, inside: NDArray[np.bool_]) -> float:
    """Standard deviation of the noise, in units of the pixels: the median over the slices."""
    levels = []
    for s in range(len(slices)):
        mask = slices.image(inside, s)
        if mask.sum() >= 100:
            response = np.abs(convolve(slices.image(slices.pixels, s).astype(np.float64), _STENCIL)[mask])
            levels.append(MAD_TO_SIGMA * float(np.median(response)))
    return float(np.median(levels)) if levels else 0.0


def local_misfit(
    splatter: CpuSplatter, residual: NDArray[np.float32], weights: NDArray[np.float32], gain: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted mean squared residual (N,) around each Gaussian; zero for one that no pixel sees."""
    energy = splatter.adjoint(weights * residual**2, gain).astype(np.float64)
    seen = splatter.adjoint(weights, gain).astype(np.float64)
    return np.where(seen > 1e-6, energy / np.maximum(seen, 1e-6), 0.0)


def split(field: GaussianField, chosen: NDArray[np.bool_]) -> GaussianField:
    """The field with some Gaussians split in two along their longest axis."""
    which = torch.from_numpy(chosen)
    parent = field.select(which)
    longest = parent.log_scales.argmax(dim=1)
    rows = torch.arange(len(parent))
    axes = rotation_matrices(parent.rotations)[rows, :, longest]
    reach = parent.log_scales[rows, longest].exp().unsqueeze(1) * axes * _OFFSET
    scales = parent.log_scales.clone()
    scales[rows, longest] += float(np.log(_SHRINK))
    children = [
        GaussianField(parent.means + side * reach, scales, parent.rotations, parent.amplitudes * _SHARE)
        for side in (-1.0, 1.0)
    ]
    return GaussianField.concatenate([field.select(~which), *children])


def to_split(
    field: GaussianField, misfit: NDArray[np.float64], noise: float, excess: float, slices: Slices
) -> NDArray[np.bool_]:
    """Gaussians (N,) around which the residual's variance is `excess` times the noise's, and that may be divided."""
    smallest = _SMALLEST_OF_PSF * float(np.sqrt(slices.psf_covariances[:, :, :2].min()))
    large = field.log_scales.detach().numpy().max(axis=1) + np.log(_SHRINK) > np.log(smallest)
    return (misfit > excess * noise**2) & large
