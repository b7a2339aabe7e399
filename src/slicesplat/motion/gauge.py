"""The frame of everything: field and slices may move as one without any pixel noticing, so that it has to be fixed."""

from __future__ import annotations

import numpy as np

from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import Slices

_TRUSTED = 0.5


def gauge(slices: Slices, reference: int, weight: Float) -> Rigid:
    """The transform of the world that brings the reference stack back to where the scanner put it, on average.

    Parameters
    ----------
    slices : Slices
        At their estimated poses.
    reference : int
        The stack.
    weight : (S,)
        Trust in the slices; of the reference stack's those that are trusted count, or all where none is.
    """
    own = np.flatnonzero((slices.stack == reference) & (weight > _TRUSTED))
    if len(own) == 0:
        own = np.flatnonzero(slices.stack == reference)
    scanned = slices.moved(Rigid.identity(len(slices)))
    estimated, target = (np.concatenate([where.world_points(s) for s in own.tolist()]) for where in (slices, scanned))
    return Rigid.kabsch(estimated, target)
