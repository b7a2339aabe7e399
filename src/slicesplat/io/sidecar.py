"""JSON sidecars, as BIDS and dcm2niix write them beside an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slicesplat.errors import InputError


def sidecar_of(image: Path) -> Path:
    """Where the sidecar of an image lies if it has one.

    Examples
    --------
    >>> sidecar_of(Path("sub-01_T2w.nii.gz")).name
    'sub-01_T2w.json'
    """
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def slice_thickness(sidecar: Path) -> float | None:
    """SliceThickness, mm; None where there is no such file or entry."""
    if not sidecar.is_file():
        return None
    try:
        content: Any = json.loads(sidecar.read_text(encoding="utf-8"))
        value = content.get("SliceThickness")
        return None if value is None else float(value)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{sidecar}: its SliceThickness cannot be read; repair the file, or give the thicknesses"
        ) from error
