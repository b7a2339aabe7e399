"""How a brain lies in standard space: what the registration to a template found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slicesplat.geometry.rigid import Float, Rigid

LEAST_NCC, LEAST_LEAD = 0.6, 0.02
"""Measured, the right way about: 0.2 and more of atlas brains, 0.05 of real ones in a rim of skull."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a brain lies in standard space.

    Attributes
    ----------
    transform : Rigid
        From the scanner space of the reconstruction to standard space.
    template : str
        Name of the one that it was aligned to.
    ncc : float
        Correlation with it, inside and around the brain.
    lead : float
        By which the best orientation is ahead of the best that is another one, in the correlation inside both brains.
    """

    transform: Rigid
    template: str
    ncc: float
    lead: float

    @property
    def doubtful(self) -> bool:
        """Whether the brain hardly looks like the template, or does so the other way round about as well."""
        return self.ncc < LEAST_NCC or self.lead < LEAST_LEAD

    @property
    def axes(self) -> Float:
        """(3, 3) in scanner space, as columns: to the right of the brain, to its front and to its top."""
        return self.transform.rotation.T

    def json(self) -> dict[str, Any]:
        """The entry of a result's JSON file."""
        return {
            "template": self.template,
            "world_transform": self.transform.matrix.tolist(),
            "ncc": round(self.ncc, 4),
            "lead": round(self.lead, 4),
        }
