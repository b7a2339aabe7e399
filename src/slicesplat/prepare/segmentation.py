"""Masks that nobody drew: found by the network in stacks as scanned; what was cut out already is left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.errors import InputError
from slicesplat.io.nifti import Image
from slicesplat.prepare.cutout import is_cut_out, not_cut_away
from slicesplat.segment.agree import FoundMask, find_masks
from slicesplat.segment.look import Seen

Float = NDArray[np.float64]

REMEDY = "draw a mask on one stack and give it with --stack-masks"


@dataclass(frozen=True, eq=False)
class Segmented:
    """Masks of all stacks, and what to tell.

    Attributes
    ----------
    masks : list of (nx, ny, nz) bool
        Empty where a stack shows no brain.
    confidence : list of (nz,) or None
        Of each slice, as `FoundMask` has it; None for a stack that was cut out.
    notes, warnings : list of str
    """

    masks: list[NDArray[np.bool_]]
    confidence: list[Float | None]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def segmented(images: Sequence[Image], settings: SegmentationSettings) -> Segmented:
    """The brain in every stack.

    Parameters
    ----------
    images : sequence of Image
        The slices along the third axis.
    settings : SegmentationSettings

    Raises
    ------
    InputError
        No stack shows a brain.
    """
    cut_out = [is_cut_out(image.data, image.spacing) for image in images]
    scanned = [number for number, done in enumerate(cut_out) if not done]
    seen = [Seen(images[number].data, images[number].affine) for number in scanned]
    found = dict(zip(scanned, find_masks(seen, settings) if seen else [], strict=True))
    out = Segmented([], [])
    for number, image in enumerate(images):
        mask = found.get(number)
        if mask is None:
            out.masks.append(not_cut_away(image.data))
            out.confidence.append(None)
            out.notes.append(f"{image.name}: is cut out already; its mask is what is not empty")
            continue
        out.masks.append(mask.mask)
        out.confidence.append(mask.slice_confidence)
        out.notes.extend(_notes(image, mask))
    if not any(mask.any() for mask in out.masks):
        raise InputError(
            f"{images[0].source}{' and the other stacks' if len(images) > 1 else ''}: no brain is found; {REMEDY}, "
            "or take all that is not zero with --no-segmentation"
        )
    out.warnings.extend(_doubts([images[number] for number in scanned], list(found.values()), settings))
    return out


def _notes(image: Image, found: FoundMask) -> list[str]:
    if not found.volume:
        return []
    where = "a head in air" if found.in_air else "in the womb"
    return [
        f"{image.name}: no mask given; the network finds a brain, {where}, {found.volume:.0f} cm3 of it, "
        f"confidence {found.confidence:.2f}"
    ]


def _doubts(images: Sequence[Image], found: Sequence[FoundMask], settings: SegmentationSettings) -> list[str]:
    """What a user has to look at."""
    told = []
    volumes = [mask.volume for mask in found if mask.volume and not mask.cut]
    usual = float(np.median(volumes)) if volumes else 0.0
    for image, mask in zip(images, found, strict=True):
        if not mask.volume:
            told.append(
                f"{image.name}: the brain of the other stacks is not found in it, it is left out; if it shows it, "
                f"{REMEDY}"
            )
            continue
        if mask.confidence < settings.doubtful:
            told.append(
                f"{image.name}: its mask is doubtful (confidence {mask.confidence:.2f}); look at it (segment-stack "
                f"writes it), or {REMEDY}"
            )
        elif usual and abs(np.log(mask.volume / usual)) > np.log(settings.of_size) and not mask.cut:
            told.append(
                f"{image.name}: its mask holds {mask.volume:.0f} cm3, those of the other stacks {usual:.0f}; look at "
                f"it (segment-stack writes it), or {REMEDY}"
            )
        low = np.flatnonzero(mask.slice_confidence < settings.doubtful)
        if mask.confidence >= settings.doubtful and len(low) > 0.25 * np.isfinite(mask.slice_confidence).sum():
            numbers = ", ".join(str(k) for k in low)
            told.append(
                f"{image.name}: its mask is doubtful in slices {numbers} (counting from 0); if they matter, {REMEDY}"
            )
        if mask.others:
            told.append(
                f"{image.name}: there is more than one that looks like a brain; the one most stacks agree on is taken; "
                f"for another one {REMEDY}"
            )
        if mask.cut:
            told.append(f"{image.name}: the brain reaches the edge of what it shows; what lies beyond is missing")
    return told
