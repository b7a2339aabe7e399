"""What a cohort's overview shows of a subject: key figures of its result, and a small picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slicesplat.errors import InputError
from slicesplat.io.files import load_json

_SIDE = 64  # pixels of each plane: a thousand pictures are some megabytes
_WHITE = 99.5  # percent of the voxels that show something are darker
_QUALITY = 70


@dataclass(frozen=True)
class Figures:
    """Key figures; None where they are not known.

    Attributes
    ----------
    verdict : str or None
    reasons : tuple of str
        What speaks against the volume.
    stacks, slices : int or None
        How many were used.
    left_out : float or None
        Share of the slices that were not.
    ncc : float or None
        Mean correlation of the used slices with what the volume shows there.
    error : float or None
        Root-mean-square error of pixels left out of the fit, over the noise.
    gaussians : int or None
    seconds : float or None
        All steps of the reconstruction.
    memory : float or None
        Bytes at the peak.
    picture : str
        Three planes of the volume, a JPEG in base64.
    """

    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    stacks: int | None = None
    slices: int | None = None
    left_out: float | None = None
    ncc: float | None = None
    error: float | None = None
    gaussians: int | None = None
    seconds: float | None = None
    memory: float | None = None
    picture: str = ""


def figures_of(about: Path, volume: Path) -> Figures:
    """Figures of a result's JSON file and of its volume; what cannot be read is not known."""
    try:
        found = load_json(about)
    except InputError:
        found = {}
    return Figures(**_told(found), picture=_picture(volume))


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    verdict = found.get("verdict") or {}
    slices = found.get("slices") or []
    used = [each for each in slices if each.get("left_out") is None]
    nccs = [each["ncc"] for each in used if isinstance(each.get("ncc"), (int, float))]
    steps = found.get("steps") or []
    peaks = [step["peak_memory_mb"] for step in steps if step.get("peak_memory_mb")]
    noise, error = found.get("noise"), found.get("expected_error")
    return {
        "verdict": verdict.get("grade"),
        "reasons": tuple(verdict.get("reasons", ())),
        "stacks": len({each["stack"] for each in used}) if slices else None,
        "slices": len(used) if slices else None,
        "left_out": round(1 - len(used) / len(slices), 4) if slices else None,
        "ncc": round(float(np.mean(nccs)), 4) if nccs else None,
        "error": round(error / noise, 3) if noise and error else None,
        "gaussians": found.get("gaussians"),
        "seconds": round(sum(step["seconds"] for step in steps), 1) if steps else None,
        "memory": float(max(peaks)) * 2**20 if peaks else None,
    }


def _picture(path: Path) -> str:
    """Three planes through the middle of a volume, side by side; "" where it cannot be read."""
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from PIL import Image, ImageOps

    try:
        image = nib.as_closest_canonical(nib.load(path))
        values = np.asarray(image.dataobj, np.float32)
    except (OSError, ImageFileError, ValueError):
        return ""
    shown = np.argwhere(values > 0)
    if values.ndim != 3 or not len(shown):
        return ""
    low, high = shown.min(axis=0), shown.max(axis=0) + 1
    white = np.percentile(values[values > 0], _WHITE)
    # Neurological: the subject's left is on the left.
    i, j, k = (low + high) // 2
    x, y, z = (slice(a, b) for a, b in zip(low, high, strict=True))
    planes = [np.rot90(values[x, y, k]), np.rot90(values[x, j, z]), np.rot90(values[i, y, z])]
    canvas = Image.new("L", (3 * _SIDE, _SIDE))
    for number, plane in enumerate(planes):
        grey = Image.fromarray((np.clip(plane / white, 0, 1) * 255).astype(np.uint8))
        grey = ImageOps.contain(grey, (_SIDE, _SIDE))
        canvas.paste(grey, (number * _SIDE + (_SIDE - grey.width) // 2, (_SIDE - grey.height) // 2))
    stream = io.BytesIO()
    canvas.save(stream, "JPEG", quality=_QUALITY)
    return base64.b64encode(stream.getvalue()).decode("ascii")
