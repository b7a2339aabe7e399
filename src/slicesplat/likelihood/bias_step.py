"""A step of all bias fields together: Gauss-Newton, with what the volume and the gains do in answer.

The residual of a pixel over its prediction is, to first order,

    phi(x) . dc_s  +  phi(X) . v  +  dg     x where the scanner put it, X where it is

with steps dc_s of its stack's coefficients, v a smooth factor that the volume takes, dg the step of its slice's gain.
Fields that all stacks share and a volume that is lit the same way cancel in a slice that has not moved: what tells them
apart is motion, and where that says nothing the fields are as small as they can be. Least squares under weights, with
the coefficients and the logarithms of the gains expected about zero; the gains are eliminated slice by slice.
docs/method.md, Bias fields.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import BiasFieldSettings
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.bias_field import BiasField

Float = NDArray[np.float64]

_DARK = 1e-3  # of the brightest tissue: a darker prediction says nothing about the light
_SLIGHT = 1e-9  # of the system's mean diagonal: it has an inverse


def bias_step(
    bias: BiasField,
    slices: Slices,
    pixels: Tensor,
    predicted: Tensor,
    weights: Tensor,
    gain: Float,
    sigma: float,
    settings: BiasFieldSettings,
) -> tuple[Float, Float]:
    """Steps of the fields' coefficients (n, K), and the coefficients (K,) of the volume's factor.

    Parameters
    ----------
    bias : BiasField
        The present ones.
    slices : Slices
        Where they are.
    pixels : (P,) float32
    predicted : (P,) float32
        With gains and the present fields.
    weights : (P,) float32
        Of pixels times that of their slices.
    gain : (S,)
    sigma : float
        Noise level, in units of the pixels.
    settings : BiasFieldSettings
    """
    seen, shown, weight = bias.at_chosen(pixels, predicted, weights)
    owner = bias.owner(slices)
    stacks, k = bias.coefficients.shape
    system, right = np.zeros(((stacks + 1) * k,) * 2), np.zeros((stacks + 1) * k)
    volume = np.arange(stacks * k, (stacks + 1) * k)
    noise = settings.shared_by * sigma**2
    for number in np.unique(slices.stack[owner]):
        own = slices.stack[owner] == number
        moved, image = slices.motion.matrix[owner[own]], shown[own]
        there = np.einsum("pij,pj->pi", moved[:, :3, :3], bias.points[own]) + moved[:, :3, 3]
        ratio = np.where(image > _DARK, seen[own] / np.maximum(image, _DARK) - 1, 0.0)
        columns = np.column_stack([bias.terms[own], bias.basis.at(there) - bias.level, ratio])
        own_gain = np.log(gain[np.unique(owner[own])])
        normal = _without_gains(
            columns, weight[own] * image**2, owner[own], own_gain, noise / settings.gain_deviation**2
        )
        place = np.concatenate([np.arange(number * k, (number + 1) * k), volume])
        system[np.ix_(place, place)] += normal[:-1, :-1]
        right[place] += normal[:-1, -1]
    ridge = noise / settings.deviation**2
    own_part = np.arange(stacks * k)
    system[own_part, own_part] += ridge
    right[own_part] -= ridge * bias.coefficients.ravel()
    system += _SLIGHT * np.trace(system) / len(system) * np.eye(len(system))
    found = np.linalg.solve(system, right)
    return found[: stacks * k].reshape(stacks, k), found[volume]


def _without_gains(columns: Float, energy: Float, owner: NDArray[np.int64], gain: Float, ridge: float) -> Float:
    """Inner products (n, n) of columns (p, n), the last one the ratio, with the gains' answer to it in them.

    Parameters
    ----------
    columns : (p, n)
    energy : (p,)
        Weights of the pixels.
    owner : (p,)
        Their slices.
    gain : (s,)
        Present logarithms of the gains of those slices, in the order of their numbers.
    ridge : float
        Weight of a gain's logarithm against squared ratios.
    """
    _, place = np.unique(owner, return_inverse=True)
    total = np.bincount(place, energy) + ridge
    sums = np.stack([np.bincount(place, energy * column) for column in columns.T], axis=1)
    drawn = sums.copy()
    drawn[:, -1] -= ridge * gain
    products = np.einsum("pk,pl->kl", columns * energy[:, None], columns)
    return np.asarray(products - np.einsum("sk,sl->kl", sums / np.maximum(total, 1e-12)[:, None], drawn))
