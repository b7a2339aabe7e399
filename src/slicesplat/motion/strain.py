"""A volume may be strained without any slice noticing: what the planes of few stacks leave open.

Under a strain of the world, x -> (1 + E) x with E symmetric and small, a slice can follow as a rigid body what happens
along its normal: it shifts and tilts. What it cannot follow, and shows, is the part of E in its own plane, Q E Q with Q
the projection on the plane. Stacks with normals n and m only do not show E = n m' + m n' at all: the volume is sheared
in the plane of the two, the slices of one stack slide along and those of the other tilt, and every slice shows what it
did. With a third direction there is no such strain. docs/method.md, Motion.
"""

from __future__ import annotations

import numpy as np

from slicesplat.geometry.pixels import sum_over_slices
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices
from slicesplat.splat import CPU

_ROOT = np.sqrt(0.5)
# Symmetric matrices of norm 1 that all others are sums of.
_STRAINS = np.zeros((6, 3, 3))
for _i in range(3):
    _STRAINS[_i, _i, _i] = 1.0
    _STRAINS[3 + _i, _i - 1, _i - 2] = _STRAINS[3 + _i, _i - 2, _i - 1] = _ROOT


def least_shown_strain(slices: Slices, weight: Float) -> float:
    """Share of its square, between 0 and 1, that the slices show on average of the strain that they show least of.

    It is 1/3 for three stacks at right angles to each other, and 0 for two. Without slices it is 0.

    Parameters
    ----------
    slices : Slices
        At their poses.
    weight : (S,)
        Trust in the slices; they count by their pixels besides.
    """
    count = weight * sum_over_slices(CPU.tensor(slices.mask), slices)
    if not count.any():
        return 0.0
    u, v = np.moveaxis(slices.pose.rotation[:, :, :2], -1, 0)
    pairs = ((u, u, 1.0), (v, v, 1.0), (u, v, np.sqrt(2.0)))
    seen = np.stack([factor * np.einsum("si,kij,sj->sk", a, _STRAINS, b) for a, b, factor in pairs], axis=1)
    return float(np.linalg.eigvalsh(np.einsum("s,sak,sal->kl", count / count.sum(), seen, seen))[0].clip(0.0, 1.0))
