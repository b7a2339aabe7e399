"""How the slices moved: from where the scanner put them, as people are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from slicesplat.config import Config
from slicesplat.geometry.placement import Placement
from slicesplat.geometry.slices import Slices

Float = NDArray[np.float64]


class Moved(Protocol):
    """What is needed of a result."""

    @property
    def mask(self) -> SpatialImage:
        """Where the region is."""

    @property
    def placement(self) -> Placement | None:
        """How the brain lies in standard space."""

    @property
    def slices(self) -> Slices:
        """At their final poses."""

    @property
    def settings(self) -> Config:
        """What was asked for."""


@dataclass(frozen=True, eq=False)
class ScannerMotion:
    """What the slices did, each (S,): degrees, and mm at the centre of the region."""

    turn: Float
    shift: Float


def scanner_motion(result: Moved) -> ScannerMotion:
    """From where the scanner put the slices, also where the result is in standard space."""
    motion, placed = result.slices.motion, None
    if result.placement is not None and result.settings.orientation == "standard":
        placed = ~result.placement.transform
        motion = placed @ motion
    inside = np.argwhere(np.asarray(result.mask.dataobj) > 0)
    centre = np.asarray(result.mask.affine) @ [*inside.mean(axis=0), 1.0] if len(inside) else np.zeros(4)
    if placed is not None:
        centre[:3] = placed.map(centre[:3])
    shift = np.linalg.norm(motion.map(np.tile(centre[:3], (1, 1)))[:, 0] - centre[:3], axis=1)
    return ScannerMotion(np.rad2deg(motion.angle()), shift)
