"""How thick the slices are: as given, from the sidecar, or the distance between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slicesplat.errors import InputError
from slicesplat.io.nifti import Image
from slicesplat.io.sidecar import sidecar_of, stated_thickness

MIN_THICKNESS, MAX_THICKNESS = 0.1, 50.0
"""mm: from preclinical scanners to localisers."""
MAX_OVERLAP = 5.0
"""Slice thicknesses to a distance between slices: neonatal ones overlap twofold, tenfold is a slipped decimal point."""
MIN_PIXELS = 1 / 3
"""Slice thicknesses to a pixel: slices are thicker than their pixels are wide, or about as thick."""

_UNITS = {"metres": 1e3, "micrometres": 1e-3}


def thicknesses(images: Sequence[Image], given: float | Sequence[float | None] | None) -> tuple[list[float], list[str]]:
    """The slice thickness of each stack in mm, and where it comes from."""
    if given is None or (isinstance(given, Sequence) and not given):
        found = [_thickness_of(image) for image in images]
        return [depth for depth, _ in found], [note for _, note in found]
    depths = list(given) if isinstance(given, (Sequence, np.ndarray)) else [given]
    if len(depths) == 1:
        depths = depths * len(images)
    if len(depths) != len(images):
        raise InputError(
            f"{images[-1].source}: wrong number of thicknesses, {len(depths)} for {len(images)} stacks; "
            "give one per stack, or one for all"
        )
    found = [
        _thickness_of(image) if depth is None else _as_given(image, float(depth))
        for image, depth in zip(images, depths, strict=True)
    ]
    return [depth for depth, _ in found], [note for _, note in found]


def _as_given(image: Image, depth: float) -> tuple[float, str]:
    _check_thickness(depth, image, image.source)
    return depth, f"{image.name}: slice thickness {depth:g} mm as given"


def _thickness_of(image: Image) -> tuple[float, str]:
    sidecar = sidecar_of(image.path) if image.path else None
    stated = stated_thickness(sidecar) if sidecar else None
    if sidecar is None or stated is None:
        depth = float(image.spacing[2])
        _check_thickness(depth, image, image.source)
        return depth, f"{image.name}: slice thickness {depth:g} mm, taken from the distance between slices"
    _check_thickness(stated, image, sidecar)
    return stated, f"{image.name}: slice thickness {stated:g} mm, from {sidecar.name}"


def _check_thickness(depth: float, image: Image, source: Path | str) -> None:
    """Refuse what is no thickness in mm of these slices."""
    if not (np.isfinite(depth) and depth > 0):
        raise InputError(f"{source}: slice thickness {depth:g} mm is not positive and finite; give it in mm, as in 3.0")
    if _plausible(depth, image):
        return
    pixel, distance = float(image.spacing[:2].max()), float(image.spacing[2])
    units = [unit for unit, factor in _UNITS.items() if _plausible(depth * factor, image)]
    question = f"is it in {units[0]}? " if units else ""
    raise InputError(
        f"{source}: slice thickness {depth:g} mm with slices every {distance:.3g} mm and pixels of {pixel:.3g} mm; "
        f"{question}give it in mm, as in 3.0"
    )


def _plausible(depth: float, image: Image) -> bool:
    pixel, distance = float(image.spacing[:2].max()), float(image.spacing[2])
    return MIN_THICKNESS <= depth <= MAX_THICKNESS and MIN_PIXELS * pixel <= depth and depth <= MAX_OVERLAP * distance
