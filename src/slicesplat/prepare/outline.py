"""Whether a mask's edge is an outline of the anatomy, told by what the image shows along it.

Along an outline the image does the same everywhere: tissue, a dark rim, what surrounds it. An ellipsoid drawn inside
tissue cuts through the anatomy at random, and the image goes on across its edge. So the profile of the image across the
edge is averaged over short pieces of it; the share of the pieces' variance that they have in common is high at an
outline and low elsewhere. docs/method.md, Motion.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from slicesplat.config import OutlineSettings
from slicesplat.geometry.stack import Stack

Float = NDArray[np.float64]

log = logging.getLogger("slicesplat")

_DEFAULT = OutlineSettings()
_LEAST_PIXELS = 60  # of a slice in the mask: a smaller one is nearly all edge
_FINEST = 1.0  # mm: the point-spread function leaves nothing below it to be seen
_MOST_SLICES = 24  # of a stack are looked at, evenly: thousands of pieces tell no more than hundreds


@dataclass(frozen=True)
class EdgeProfiles:
    """How the image changes across pieces of a mask's edge.

    Attributes
    ----------
    pieces : int
    all : float
        Mean square of the pieces' profiles, each without its mean.
    common : float
        Mean square of their average.
    all_bent, common_bent : float
        The same of what is left of the profiles without their slope: tissue gets brighter or darker over centimetres
        whatever is drawn in it.
    """

    pieces: int
    all: float
    common: float
    all_bent: float
    common_bent: float

    def contrast(self, slope: float) -> float:
        """Share, 0 to 1, that the pieces have in common; of a slope it counts by this factor.

        Examples
        --------
        >>> EdgeProfiles(9, 1.0, 0.5, 0.5, 0.1).contrast(0.5)
        0.25
        """
        whole = slope * self.common / max(self.all, 1e-12)
        return max(whole, self.common_bent / max(self.all_bent, 1e-12))


def outlines(stacks: Sequence[Stack], settings: OutlineSettings = _DEFAULT) -> NDArray[np.bool_]:
    """(n,) for which stacks the mask's edge is an outline of the anatomy.

    Where nothing was measured beside the mask, where it was fitted to the region by other stacks, and where there is
    too little edge to tell, it is taken for one.
    """
    profiles = [None if _is_known(stack) else edge_profiles(stack, settings) for stack in stacks]
    told = [found is not None and found.pieces >= settings.least_pieces for found in profiles]
    contrast = [found.contrast(settings.slope) if found is not None else 1.0 for found in profiles]
    log.debug("contrast along the edges of the masks: %s", [round(value, 3) for value in contrast])
    out = np.array([not t or value >= settings.clear for t, value in zip(told, contrast, strict=True)], bool)
    # What one stack leaves open all of those together decide: masks of one examination are drawn the same way.
    unclear = [found for found, known in zip(profiles, out, strict=True) if found is not None and not known]
    if unclear:
        out |= _pooled(unclear).contrast(settings.slope) >= settings.least
    for stack in (stack for stack, known in zip(stacks, out, strict=True) if not known):
        log.info("%s: the image goes on across the edge of its mask, which is no outline", stack.name)
    return out


def edge_profiles(stack: Stack, settings: OutlineSettings = _DEFAULT) -> EdgeProfiles:
    """The profiles across the edge of a stack's mask."""
    area = stack.mask.sum(axis=(0, 1))
    slices = np.flatnonzero(area >= _LEAST_PIXELS)
    chosen = slices[np.unique(np.linspace(0, len(slices) - 1, _MOST_SLICES).astype(int))] if len(slices) else slices
    step = max(_FINEST, float(stack.spacing[:2].max()))
    profiles = [_of_slice(stack, int(k), step, settings) for k in chosen]
    found = np.concatenate(profiles) if profiles else np.empty((0, 2))
    if not len(found):
        return EdgeProfiles(0, 0.0, 0.0, 0.0, 0.0)
    found = found - found.mean(axis=1, keepdims=True)
    slope = np.linspace(-1, 1, found.shape[1])
    slope /= np.linalg.norm(slope)
    bent = found - np.outer(found @ slope, slope)
    sizes = [float((values**2).sum()) for values in (found, found.mean(axis=0), bent, bent.mean(axis=0))]
    return EdgeProfiles(len(found), sizes[0] / len(found), sizes[1], sizes[2] / len(found), sizes[3])


def _is_known(stack: Stack) -> bool:
    """Whether a mask's edge is where the region ends whatever the image shows: cut out there, or fitted to it."""
    return stack.carried or stack.measured is not None


def _pooled(profiles: Sequence[EdgeProfiles]) -> EdgeProfiles:
    """Those of several stacks, each piece counting alike."""
    pieces = [found.pieces for found in profiles]
    names = ("all", "common", "all_bent", "common_bent")
    return EdgeProfiles(
        sum(pieces), *(float(np.average([getattr(f, name) for f in profiles], weights=pieces)) for name in names)
    )


def _of_slice(stack: Stack, k: int, step: float, settings: OutlineSettings) -> Float:
    """Profiles (pieces, depths) of slice k, from outside to inside, in units of its mean inside the mask."""
    pixel, half = stack.spacing[:2], round(settings.reach / step)
    margin = np.ceil(settings.reach / pixel).astype(int) + 1
    where = np.argwhere(stack.mask[:, :, k])
    low = np.maximum(where.min(axis=0) - margin, 0)
    box = tuple(slice(*ends) for ends in zip(low, where.max(axis=0) + 1 + margin, strict=True))
    mask, data = stack.mask[:, :, k][box], stack.data[:, :, k][box].astype(np.float64)
    # Pixels lie half a pixel from the edge at least.
    inside, outside = (distance_transform_edt(part, sampling=pixel) - pixel.mean() / 2 for part in (mask, ~mask))
    ring = np.floor(np.where(mask, inside, -outside) / step).astype(int) + half
    length = 2 * np.sqrt(np.pi * mask.sum() * pixel.prod())  # of the edge, were it a circle, mm
    pieces = max(4, round(length / settings.piece))
    x, y = (np.indices(mask.shape).reshape(2, -1).T - (where - low).mean(axis=0)).T.reshape(2, *mask.shape)
    turn = (np.arctan2(y * pixel[1], x * pixel[0]) + np.pi) / (2 * np.pi)
    number = np.minimum((turn * pieces).astype(int), pieces - 1) * 2 * half + ring
    near = (ring >= 0) & (ring < 2 * half)
    count = np.bincount(number[near], minlength=pieces * 2 * half).reshape(pieces, -1)
    total = np.bincount(number[near], data[near], minlength=pieces * 2 * half).reshape(pieces, -1)
    # At the rim of the image, and where a slice is narrow, a piece is not whole.
    whole = (count >= 2).all(axis=1)
    return np.asarray(total[whole] / count[whole] / max(float(data[mask].mean()), 1e-12))
