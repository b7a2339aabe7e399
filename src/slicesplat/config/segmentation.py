"""Settings of masks that the networks find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Anatomy = Literal["auto", "fetal", "neonatal"]

FETAL_VOLUMES = (25.0, 650.0)
"""cm^3 of brain and liquor from 20 weeks to term."""
NEONATAL_VOLUMES = (120.0, 1300.0)
"""The same from preterm birth to two years."""


@dataclass(frozen=True)
class SegmentationSettings:
    """How brains are found where no mask is given.

    Attributes
    ----------
    anatomy : {"auto", "fetal", "neonatal"}
        What surrounds the brain: a uterus, or scalp and air. auto: what is seen there.
    radii : tuple of float
        mm: balls that a brain is looked for with.
    skull : float
        mm between a brain and what surrounds it.
    shell : float
        Of its radius, where its surroundings end.
    least_shown : float
        Share of a ball that a stack shows at least.
    least_score : float
        Probability inside a ball above that around it, at least.
    least_volume : float
        cm^3: less is no brain.
    most_candidates : int
        Places that are looked at.
    most_looks : int
        How often the box around a brain is put right.
    growth : float
        Most that its size changes from look to look, as a factor.
    same_place : float
        Of its diameter, that the box need not be moved for.
    same_size : float
        Logarithm of its size, that the box need not be scaled for.
    smooth : float
        mm in plane over which probabilities are averaged.
    roundness : float
        Logarithm of the odds of brain that are added from the surface of its ellipsoid to its middle.
    most_round : float
        Most that is added or taken.
    rim : float
        mm around the brain that belong to its mask: half a slice, where the brain still shines in, and a pixel; masks
        that are drawn by hand go along the outside of the skull, 2 to 3 mm from the liquor.
    together : float
        mm that a fetus moves between stacks.
    another : float
        Share of the best score from which on another place looks like a brain too.
    certain : float
        Confidence that a stack shows a brain, at least; less, and it is left out.
    doubtful : float
        Confidence below which a mask comes with a warning.
    of_size : float
        Factor from the usual volume of all stacks above which a mask comes with a warning.
    air : float
        Share of what surrounds a brain that is dark where the head lies in air.
    """

    anatomy: Anatomy = "auto"
    radii: tuple[float, ...] = (19.0, 22.0, 25.5, 29.5, 34.0, 39.0, 45.0, 52.0, 60.0)
    skull: float = 4.0
    shell: float = 1.5
    least_shown: float = 0.35
    least_score: float = 0.1
    least_volume: float = 8.0
    most_candidates: int = 4
    most_looks: int = 3
    growth: float = 1.4
    same_place: float = 0.08
    same_size: float = 0.1
    smooth: float = 1.5
    roundness: float = 8.0
    most_round: float = 4.5
    rim: float = 2.5
    together: float = 30.0
    another: float = 0.7
    certain: float = 0.6
    doubtful: float = 0.85
    of_size: float = 1.35
    air: float = 0.7

    @property
    def volumes(self) -> tuple[float, float]:
        """cm^3: usual sizes."""
        if self.anatomy == "auto":
            return FETAL_VOLUMES[0], NEONATAL_VOLUMES[1]
        return FETAL_VOLUMES if self.anatomy == "fetal" else NEONATAL_VOLUMES
