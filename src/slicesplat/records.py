"""What is told of every slice and stack: typed values inside the program, JSON at its edge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

USED_WEIGHT = 0.1
"""A slice with less counts as left out."""
_DECIMALS = 4
"""Of weights, gains, correlations and standard errors in a file."""


@dataclass(frozen=True, eq=False)
class SliceRecord:
    """Where a slice comes from, where it belongs, and how far it is trusted.

    Attributes
    ----------
    stack, slice : int
        Its place in the input: the stack, and the position along the stack's third axis; both from 0.
    world_transform : (4, 4) float64
        From where the scanner put its pixels to where they belong, mm RAS+.
    weight : float
        Trust, 0 to 1; below `USED_WEIGHT` the slice counts as left out.
    gain : float
        Its intensity over the field's.
    ncc : float
        Correlation with its prediction; NaN where it is not known.
    standard_error : float
        Of where it belongs, mm: root mean square over its pixels; NaN where it is not known.
    held : bool
        Whether it is where its neighbours in time are: what it shows does not say where it belongs.
    left_out : str or None
        Why it was left out.

    Raises
    ------
    ValueError
        A number counts from below 0, or `world_transform` is no finite (4, 4) matrix.

    Examples
    --------
    >>> SliceRecord(0, 7, np.eye(4), weight=0.9).used
    True
    """

    stack: int
    slice: int
    world_transform: NDArray[np.float64]
    weight: float = 1.0
    gain: float = 1.0
    ncc: float = math.nan
    standard_error: float = math.nan
    held: bool = False
    left_out: str | None = None

    def __post_init__(self) -> None:
        if self.stack < 0 or self.slice < 0:
            raise ValueError(f"stack {self.stack}, slice {self.slice}: they count from 0")
        transform = np.asarray(self.world_transform, dtype=np.float64)
        if transform.shape != (4, 4) or not np.isfinite(transform).all():
            raise ValueError(f"world transform of shape {transform.shape}: give a finite matrix (4, 4)")
        object.__setattr__(self, "world_transform", transform)

    def __repr__(self) -> str:
        state = self.left_out or ("used" if self.used else "left out")
        return f"SliceRecord(stack {self.stack}, slice {self.slice}, weight {self.weight:.2f}, {state})"

    @property
    def used(self) -> bool:
        """Whether it takes part in the result."""
        return self.weight >= USED_WEIGHT

    def json(self) -> dict[str, Any]:
        """The entry of a result's JSON file, numbers rounded to what they are known to."""
        return {
            "stack": self.stack,
            "slice": self.slice,
            "world_transform": self.world_transform.tolist(),
            "weight": round(self.weight, _DECIMALS),
            "gain": round(self.gain, _DECIMALS),
            "ncc": round(self.ncc, _DECIMALS),
            # JSON knows no NaN.
            "standard_error": None if math.isnan(self.standard_error) else round(self.standard_error, _DECIMALS),
            "held": self.held,
            "left_out": self.left_out,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> SliceRecord:
        """What `json` gave; only the place and the transform are needed.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is no such entry.
        """
        left_out = entry.get("left_out")
        return cls(
            stack=int(entry["stack"]),
            slice=int(entry["slice"]),
            world_transform=np.asarray(entry["world_transform"], dtype=np.float64),
            weight=float(entry.get("weight", 1.0)),
            gain=_number(entry.get("gain"), 1.0),
            ncc=_number(entry.get("ncc"), math.nan),
            standard_error=_number(entry.get("standard_error"), math.nan),
            held=bool(entry.get("held", False)),
            left_out=None if left_out is None else str(left_out),
        )


@dataclass(frozen=True)
class SweepRecord:
    """A sweep of the fit.

    Attributes
    ----------
    part : str
        Of the fit that it belongs to.
    error : float
        Root-mean-square error of the validation pixels after it, noise included, on the scale of the input. In the last
        part these pixels are fitted too.
    """

    part: str
    error: float


@dataclass(frozen=True)
class BiasRecord:
    """How unevenly a stack was lit, as far as that was found and undone.

    Attributes
    ----------
    stack : int
        From 0.
    own : float
        How many times more its brightest part is lit than its darkest by a field of its own, in the model.
    common : float
        The same by the field that all stacks share, which they were divided by ahead of everything else.

    Examples
    --------
    >>> BiasRecord(0, own=1.12).json()
    {'stack': 0, 'own': 1.12, 'common': 1.0}
    """

    stack: int
    own: float = 1.0
    common: float = 1.0

    def json(self) -> dict[str, Any]:
        """The entry of a result's JSON file."""
        return {"stack": self.stack, "own": round(self.own, _DECIMALS), "common": round(self.common, _DECIMALS)}


Grade = Literal["pass", "check", "fail"]


@dataclass(frozen=True)
class Verdict:
    """Whether a reconstruction can be believed, and why not.

    Attributes
    ----------
    grade : {"pass", "check", "fail"}
        pass: nothing speaks against it. check: somebody should look at it. fail: it is wrong in all likelihood.
    reasons : tuple of str
        What speaks against it, gravest first: plain sentences, each with what to do. Stacks count from 1, in the
        order in which they were given; no file is named.

    Examples
    --------
    >>> Verdict("check", ("stack 2 of 3 lost half of its slices; look at it",)).json()
    {'grade': 'check', 'reasons': ['stack 2 of 3 lost half of its slices; look at it']}
    """

    grade: Grade
    reasons: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """The entry of a result's JSON file."""
        return {"grade": self.grade, "reasons": list(self.reasons)}


def _number(value: Any, otherwise: float) -> float:
    """A number, or what stands for one that a file does not have: JSON knows no NaN."""
    return otherwise if value is None else float(value)


def mask_confidence(found: NDArray[np.float64] | None) -> list[float | None] | None:
    """How sure the network is of a stack's mask, slice by slice; null where there is none.

    Examples
    --------
    >>> mask_confidence(np.array([math.nan, 0.91234]))
    [None, 0.9123]
    """
    if found is None:
        return None
    return [None if math.isnan(value) else round(float(value), _DECIMALS) for value in found]
