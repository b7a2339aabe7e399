"""How many Gaussians: split where the residual is beyond noise, prune what carries nothing.

The noise level is measured in the slices themselves, before any fit: the median absolute response to the difference of
two Laplacian-like stencils, which anatomy leaves almost alone (Immerkaer, Computer Vision and Image Understanding 64,
1996, 300-302). Around every Gaussian, the weighted mean squared residual of the pixels that it reaches is compared with
that level; where it is larger there is structure that the present Gaussians cannot carry, and the Gaussian is split
along its longest axis.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.field import GaussianField, rotation_matrices
from slicesplat.splat import CPU, Backend, Splatter
from slicesplat.splat.pixels import median
from slicesplat.stack import Slices

MAD_TO_SIGMA = 1.4826
# Children of a split: two Gaussians at +-OFFSET standard deviations along the longest axis, of SHRINK times its length,
# which together have their parent's second moments and resemble it to 1.4 % of its peak.
_OFFSET, _SHRINK, _SHARE = 0.45, 0.893, 0.56
# The smallest useful Gaussian: below a third of the in-plane PSF nothing is gained but noise.
_SMALLEST_OF_PSF = 0.33


def noise_level(slices: Slices, inside: Tensor, backend: Backend = CPU) -> float:
    """Standard deviation of the noise, in units of the pixels: the median over the slices; `inside` is (P,) bool."""
    levels = []
    pixels = backend.tensor(slices.pixels, torch.float64)
    for (first, last), shape in zip(itertools.pairwise(slices.offset.tolist()), slices.shape.tolist(), strict=True):
        mask, image = inside[first:last], pixels[first:last].reshape(shape)
        if int(mask.sum()) >= 100:
            # The outer product of (1, -2, 1) with itself, over its length of 6; beyond the edge, the edge's pixels.
            padded = torch.nn.functional.pad(image[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
            response = padded.diff(n=2, dim=0).diff(n=2, dim=1).flatten()[mask].abs() / 6
            levels.append(MAD_TO_SIGMA * median(response))
    return float(np.median(levels)) if levels else 0.0


def local_misfit(splatter: Splatter, residual: Tensor, weights: Tensor, gain: ArrayLike) -> Tensor:
    """Weighted mean squared residual (N,) float64 around each Gaussian; zero for one that no pixel sees."""
    energy = splatter.adjoint(weights * residual**2, gain).double()
    seen = splatter.adjoint(weights, gain).double()
    return torch.where(seen > 1e-6, energy / seen.clamp(min=1e-6), 0.0)


def split(field: GaussianField, chosen: Tensor) -> GaussianField:
    """The field with some Gaussians, (N,) bool, split in two along their longest axis."""
    parent = field.select(chosen)
    longest = parent.log_scales.argmax(dim=1)
    rows = torch.arange(len(parent), device=longest.device)
    axes = rotation_matrices(parent.rotations)[rows, :, longest]
    reach = parent.log_scales[rows, longest].exp().unsqueeze(1) * axes * _OFFSET
    scales = parent.log_scales.clone()
    scales[rows, longest] += float(np.log(_SHRINK))
    children = [
        GaussianField(parent.means + side * reach, scales, parent.rotations, parent.amplitudes * _SHARE)
        for side in (-1.0, 1.0)
    ]
    return GaussianField.concatenate([field.select(~chosen), *children])


def to_split(field: GaussianField, misfit: Tensor, noise: float, excess: float, slices: Slices) -> Tensor:
    """Gaussians (N,) around which the residual's variance is `excess` times the noise's, and that may be divided."""
    smallest = _SMALLEST_OF_PSF * float(np.sqrt(slices.psf_covariances[:, :, :2].min()))
    large = field.log_scales.detach().amax(dim=1) + float(np.log(_SHRINK)) > float(np.log(smallest))
    return (misfit > excess * noise**2) & large
