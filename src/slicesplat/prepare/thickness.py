"""How thick the slices are: as given, from the sidecar, or the distance between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slicesplat.errors import InputError
from slicesplat.io.nifti import Image
from slicesplat.io.sidecar import sidecar_of, slice_thickness


def thicknesses(images: Sequence[Image], given: float | Sequence[float] | None) -> tuple[list[float], list[str]]:
    """The slice thickness of each stack in mm, and where it comes from."""
    if given is None or (isinstance(given, Sequence) and not given):
        found = [_thickness_of(image) for image in images]
        return [depth for depth, _ in found], [note for _, note in found]
    depths = np.atleast_1d(np.asarray(given, dtype=np.float64)).tolist()
    if len(depths) == 1:
        depths = depths * len(images)
    if len(depths) != len(images):
        raise InputError(
            f"{images[-1].path}: wrong number of thicknesses, {len(depths)} for {len(images)} stacks; "
            "give one per stack, or one for all"
        )
    for image, depth in zip(images, depths, strict=True):
        _check_thickness(depth, image.path)
    return depths, [
        f"{image.name}: slice thickness {depth:g} mm as given" for image, depth in zip(images, depths, strict=True)
    ]


def _thickness_of(image: Image) -> tuple[float, str]:
    sidecar = sidecar_of(image.path)
    stated = slice_thickness(sidecar)
    if stated is None:
        depth = float(image.spacing[2])
        return depth, f"{image.name}: slice thickness {depth:g} mm, taken from the distance between slices"
    _check_thickness(stated, sidecar)
    return stated, f"{image.name}: slice thickness {stated:g} mm, from {sidecar.name}"


def _check_thickness(depth: float, source: Path) -> None:
    if not (np.isfinite(depth) and depth > 0):
        raise InputError(f"{source}: slice thickness {depth:g} mm is not positive; give it in mm, as in 3.0")
