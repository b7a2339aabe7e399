"""JSON sidecars, as BIDS and dcm2niix write them beside an image."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from slicesplat.errors import InputError
from slicesplat.io.json_text import read_json

_SUFFIX = re.compile(r"(\.(nii|hdr|img))?(\.(gz|bz2))?$", re.IGNORECASE)
_MILLIMETRES = re.compile(r"\s*(\d+(?:[.,]\d*)?|[.,]\d+)\s*(?:mm)?\s*", re.ASCII)
"""A length as a text: a number, its decimal point a point or a comma."""
_DIRECTION = re.compile(r"([ijk])-?")
"""An axis of the file and whether it is walked backwards (BIDS, SliceEncodingDirection)."""


def sidecar_of(image: Path) -> Path:
    """Where the sidecar of an image lies if it has one.

    Examples
    --------
    >>> sidecar_of(Path("sub-01_T2w.nii.gz")).name
    'sub-01_T2w.json'
    """
    stem = stem_of(image)
    lower, upper = image.with_name(f"{stem}.json"), image.with_name(f"{stem}.JSON")
    return upper if not _is_file(lower) and _is_file(upper) else lower


def stem_of(image: Path) -> str:
    """An image's name without its suffixes, as the files beside it begin.

    Examples
    --------
    >>> stem_of(Path("sub-01_T2w.NII.GZ"))
    'sub-01_T2w'
    """
    return _SUFFIX.sub("", image.name)


def stated_thickness(sidecar: Path) -> float | None:
    """SliceThickness, mm; None where there is no such file or entry. Refused where it is no number."""
    remedy = "repair the file, or give the thicknesses"
    content = _entries(sidecar, remedy)
    value = content.get("SliceThickness")
    if value is None:
        return None
    thickness = _millimetres(value)
    if thickness is None:
        raise InputError(f"{sidecar}: its SliceThickness cannot be read, it is no number of mm; {remedy}")
    return thickness


def stated_axis(sidecar: Path) -> int | None:
    """The axis of the file that SliceEncodingDirection names, 0 to 2; None where it is not told."""
    try:
        direction = _entries(sidecar, "").get("SliceEncodingDirection")
    except InputError:
        # Whoever gives thickness and axes by hand does not need the file: what needs it refuses it.
        return None
    match = _DIRECTION.fullmatch(direction) if isinstance(direction, str) else None
    return "ijk".index(match[1]) if match else None


def stated_times(sidecar: Path, count: int) -> list[float] | None:
    """SliceTiming, s, of as many slices, in the order of the file; None where it is not told or cannot be meant so.

    NaN for a slice whose entry is null, as of one that is missing.

    Slices that are all said to be acquired at once are not: it is what converters write who do not know.
    """
    try:
        content = _entries(sidecar, "")
    except InputError:
        return None
    times = content.get("SliceTiming")
    if not (isinstance(times, list) and len(times) == count):
        return None
    if not all(time is None or (isinstance(time, (int, float)) and math.isfinite(time)) for time in times):
        return None
    if len(set(times) - {None}) < 2:
        return None
    backwards = str(content.get("SliceEncodingDirection", "")).endswith("-")
    return [math.nan if time is None else float(time) for time in (reversed(times) if backwards else times)]


def _entries(sidecar: Path, remedy: str) -> dict[str, Any]:
    if not _is_file(sidecar):
        return {}
    content = read_json(sidecar, remedy)
    if not isinstance(content, dict):
        raise InputError(f"{sidecar}: its SliceThickness cannot be read, it holds no JSON object; {remedy}")
    return content


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A name may just fit the file system with .nii and not with .json.
        return False


def _millimetres(value: Any) -> float | None:
    if isinstance(value, str):
        match = _MILLIMETRES.fullmatch(value)
        return float(match[1].replace(",", ".")) if match else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
