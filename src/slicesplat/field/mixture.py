"""Gaussians of any shape as a mixture: two for one, and one for two.

A Gaussian has the mass a sqrt(|S|), but for a constant. Splitting and merging keep the mass, its mean and its
covariance, as in the reduction of Gaussian mixtures (Runnalls, IEEE Transactions on Aerospace and Electronic Systems
43, 2007, 989-999). What is judged by is the integral of the squared change of the field, in closed form:

    integral of G_1 G_2 = (2 pi)^(3/2) sqrt(|S_1| |S_2| / |S|) exp(-1/2 d' S^-1 d),   S = S_1 + S_2, d = mu_1 - mu_2

for Gaussians of amplitude 1.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from slicesplat.field.gaussians import GaussianField, rotation_matrices
from slicesplat.geometry.rotations import quaternions_of_matrices

_APART = 0.6  # standard deviations along the longest axis from the middle to each half
_NARROWER = math.sqrt(1 - _APART**2)  # of a half along that axis

Moments: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Masses (n,), means (n, 3) and covariances (n, 3, 3)."""


def energies(field: GaussianField) -> Tensor:
    """Integral (N,) of the square of each Gaussian alone.

    Examples
    --------
    >>> one = GaussianField(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1,), 2.0))
    >>> round(float(energies(one)) / math.pi**1.5, 4)
    4.0
    """
    return field.amplitudes**2 * field.log_scales.sum(dim=1).exp() * math.pi**1.5


def split(field: GaussianField, which: Tensor) -> GaussianField:
    """The field with two Gaussians side by side for each of those that an index (n,) names; these come last.

    The halves lie along the longest axis, and have together the mass, the mean and the covariance of the whole.
    """
    whole = field.select(which)
    row = torch.arange(len(whole), device=which.device)
    axis = whole.log_scales.argmax(dim=1)
    direction = rotation_matrices(whole.rotations)[row, :, axis]
    step = _APART * whole.log_scales[row, axis].exp()[:, None] * direction
    log_scales = whole.log_scales.clone()
    log_scales[row, axis] += math.log(_NARROWER)
    amplitudes = whole.amplitudes / (2 * _NARROWER)
    halves = [GaussianField(whole.means + sign * step, log_scales, whole.rotations, amplitudes) for sign in (1.0, -1.0)]
    kept = torch.ones(len(field), dtype=torch.bool, device=which.device)
    kept[which] = False
    return GaussianField.concatenate([field.select(kept), *halves])


def merge(field: GaussianField, most: float) -> GaussianField:
    """The field with one Gaussian for every two neighbours that it may stand for; these come last.

    Parameters
    ----------
    field : GaussianField
    most : float
        What it may cost: the integral of the squared change of the field, for every pair alone.
    """
    if len(field) < 2:
        return field
    means = field.means.double().cpu().numpy()
    nearest = torch.as_tensor(cKDTree(means).query(means, k=2)[1][:, 1], device=field.means.device)
    row = torch.arange(len(field), device=field.means.device)
    first = row[(nearest[nearest] == row) & (row < nearest)]
    first = first[field.amplitudes[first] * field.amplitudes[nearest[first]] > 0]
    pair = [field.select(first), field.select(nearest[first])]
    together = _merged(_moments(pair[0]), _moments(pair[1]))
    cheap = _cost(pair[0], pair[1], together) < most
    kept = torch.ones(len(field), dtype=torch.bool, device=first.device)
    kept[first[cheap]] = kept[nearest[first[cheap]]] = False
    return GaussianField.concatenate([field.select(kept), _gaussians(together, field).select(cheap)])


def _moments(field: GaussianField) -> Moments:
    covariances = field.to(torch.float64).covariances()
    masses = field.amplitudes.double() * field.log_scales.double().sum(dim=1).exp()
    return masses, field.means.double(), covariances


def _merged(one: Moments, other: Moments) -> Moments:
    mass = one[0] + other[0]
    share, rest = one[0] / mass, other[0] / mass
    apart = one[1] - other[1]
    mean = share[:, None] * one[1] + rest[:, None] * other[1]
    within = share[:, None, None] * one[2] + rest[:, None, None] * other[2]
    between = (share * rest)[:, None, None] * apart[:, :, None] * apart[:, None, :]
    return mass, mean, within + between


def _cost(one: GaussianField, other: GaussianField, together: Moments) -> Tensor:
    """Integral (n,) of the squared difference between two Gaussians and the one that stands for them."""
    a, b = _moments(one), _moments(other)
    square = _product(a, a) + _product(b, b) + _product(together, together)
    return square + 2 * _product(a, b) - 2 * _product(a, together) - 2 * _product(b, together)


def _product(one: Moments, other: Moments) -> Tensor:
    """Integral (n,) of the product of two Gaussians."""
    covariance, apart = one[2] + other[2], one[1] - other[1]
    square = (apart * torch.linalg.solve(covariance, apart)).sum(dim=1)
    return (2 * math.pi) ** 1.5 * one[0] * other[0] / torch.linalg.det(covariance).sqrt() * torch.exp(-square / 2)


def _gaussians(moments: Moments, like: GaussianField) -> GaussianField:
    mass, mean, covariance = moments
    variances, axes = torch.linalg.eigh(covariance)
    axes[:, :, 0] *= torch.linalg.det(axes)[:, None]  # a rotation, not a reflection
    quaternions = quaternions_of_matrices(axes.cpu().numpy()) if len(mass) else np.zeros((0, 4))
    log_scales = variances.clamp(min=1e-12).log() / 2
    return GaussianField(
        means=mean.to(like.means),
        log_scales=log_scales.to(like.log_scales),
        rotations=torch.as_tensor(quaternions).to(like.rotations),
        amplitudes=(mass / log_scales.sum(dim=1).exp()).to(like.amplitudes),
    )
