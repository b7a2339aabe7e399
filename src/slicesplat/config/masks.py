"""Settings of what masks are taken for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class OutlineSettings:
    """Whether the edge of a mask is an outline of the anatomy.

    Measured: of drawn and simulated brain masks 0.13 to 0.92 of the variance across a stack's edge is common to its
    pieces, 0.28 for all stacks of one real fetus together; of ellipsoids drawn in tissue 0.002 to 0.13, and below 0.1
    for three stacks together.

    Attributes
    ----------
    reach : float
        mm to either side of the edge that are looked at.
    piece : float
        mm along the edge that make one profile.
    slope : float
        What a slope in common counts for: tissue changes over centimetres, whatever is drawn in it.
    clear : float
        Share in common above which a mask is an outline by itself.
    least : float
        The same, of all stacks that are not clear by themselves.
    least_pieces : int
        Fewer leave it to chance.
    """

    reach: float = 5.0
    piece: float = 15.0
    slope: float = 0.5
    clear: float = 0.3
    least: float = 0.17
    least_pieces: int = 30


@dataclass(frozen=True)
class MaskSettings:
    """What masks are, and those that were carried over from another stack, made to fit.

    Attributes
    ----------
    between_slices : float
        mm around the region: how far slices are off where only stacks were registered.
    of_rough_poses : float
        mm around the region, once the slices are registered roughly themselves.
    agree : bool
        Masks that a network found are made one region in space before the slices are registered finely.
    of_found : float
        mm around that region: what a network finds is known to 2 or 3 mm. Measured, five real stacks judged on the
        sixth inside its drawn mask: with 0, 2 and 3.5 mm slices correlate by 0.887, 0.916 and 0.931; 0.912 where all
        masks are drawn. Most of it is what lies between the edges of both masks.
    beyond : int
        Slices beyond those with a mask that may get one.
    outline : OutlineSettings
        Of masks that were drawn.
    """

    between_slices: float = 4.0
    of_rough_poses: float = 1.5
    agree: bool = True
    of_found: float = 2.0
    beyond: int = 2
    outline: OutlineSettings = field(default_factory=OutlineSettings)
