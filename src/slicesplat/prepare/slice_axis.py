"""The axis that slices lie along: as given, as the file says, from the spacing, or as the images show it.

A tool that turns a file to canonical axes moves the slices to another axis. Where they overlap, or the volume is
isotropic, the spacing does not show it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.io.nifti import Image
from slicesplat.io.sidecar import sidecar_of, stated_axis

SliceAxis = int | str
"""1 to 3, as a number or a text, or i, j, k."""

CLEARLY_LARGER = 1.5
"""Spacings to both others from which there is no doubt: pixels are square, or nearly."""
SQUARE, ODD = 1e-3, 1e-2
"""Relative differences of two spacings: up to the first they are equal but for a header's rounding, and a third that is
further from both than the second is the distance between slices."""

ROUGHER = 1.25
"""Roughness along slices to that along both image axes; those differ by up to 1.09 (benchmarks/bench_slice_axis.py)."""
JUMPING, MORE_JUMPING = 0.9, 2.5
"""How much the means of slices jump at least, and to those of rows and columns, which jump by 0.7 at most."""
LOOKED_AT = 128
"""Voxels along each axis that are looked at, around the middle: the brain, in a tenth of a second."""
MIN_PLANES = 8
"""Fewer say nothing about how a course jumps."""

_LETTERS = "ijk"


@dataclass(frozen=True)
class _Choice:
    """An axis of the file, 0 to 2; why it was chosen, for a note, and what speaks against it, for a warning."""

    axis: int
    reason: str = ""
    doubt: str = ""
    guessed: bool = False


def axes_last(
    images: Sequence[Image], given: SliceAxis | Sequence[SliceAxis] | None
) -> tuple[list[Image], list[str], list[str]]:
    """The images with their slices along the third axis; what to note about the choice, and what to warn of.

    Parameters
    ----------
    images : sequence of Image
        As read.
    given : int or str, or a sequence of them, optional
        1 to 3 or i, j, k; one for all or one per image.

    Raises
    ------
    InputError
        `given` is no axis, or not one per image.
    """
    chosen = [_Choice(axis, "as given") for axis in _given(images, given)] or [_found(image) for image in images]
    turned = [image.with_axis_last(choice.axis) for image, choice in zip(images, chosen, strict=True)]
    notes = [
        f"{image.name}: slices lie along axis {choice.axis + 1} of the file and are counted along it"
        + (f" ({choice.reason})" if choice.reason else "")
        for image, choice in zip(images, chosen, strict=True)
        if choice.axis != 2 or choice.guessed
    ]
    doubts = [
        f"{image.name}: {choice.doubt}; taken along axis {choice.axis + 1}, give --slice-axes if that is wrong"
        for image, choice in zip(images, chosen, strict=True)
        if choice.doubt
    ]
    return turned, notes, doubts


def _given(images: Sequence[Image], given: SliceAxis | Sequence[SliceAxis] | None) -> list[int]:
    values = [given] if isinstance(given, (int, str)) else list(given or ())
    axes = [_axis(value) for value in values]
    if len(axes) == 1:
        return axes * len(images)
    if axes and len(axes) != len(images):
        raise InputError(
            f"{images[-1].source}: wrong number of slice axes, {len(axes)} for {len(images)} stacks; "
            "give one per stack, or one for all"
        )
    return axes


def _axis(value: SliceAxis) -> int:
    text = str(value)
    if text in tuple(_LETTERS):
        return _LETTERS.index(text)
    if text in ("1", "2", "3"):
        return int(text) - 1
    raise InputError(f"slice axis {text!r}: no axis of a file; give 1, 2 or 3, or i, j or k")


def _found(image: Image) -> _Choice:
    stated, source = _stated(image)
    clear = clearly_larger(image.spacing)
    if clear is not None:
        # A tool that turned the axes may have left the statement as it was; pixels are never that oblong.
        stale = stated not in (None, clear)
        return _Choice(clear, doubt=f"its spacing contradicts {source}" if stale else "")
    odd = _odd_one(image.spacing)
    if stated is None and odd is not None:
        return _Choice(odd, "its spacing differs from the two others")
    shown = axis_shown(image.data)
    if stated is None:
        if shown is None:
            return _Choice(2, doubt="neither spacing nor images tell which axis its slices lie along")
        return _Choice(shown, "as the images show, since the spacing does not", guessed=True)
    if shown == stated or (shown is None and odd in (None, stated)):
        return _Choice(stated, f"as {source} says")
    if shown is None:
        return _Choice(stated, f"as {source} says", doubt=f"its spacing differs along another axis than {source} says")
    if shown == odd:
        return _Choice(shown, doubt=f"its spacing and images contradict {source}")
    return _Choice(stated, doubt=f"its images look as if slices lay along axis {shown + 1}, not as {source} says")


def _stated(image: Image) -> tuple[int | None, str]:
    """The axis that the sidecar, or else the header, names, and which of them it was."""
    sidecar = sidecar_of(image.path) if image.path else None
    axis = stated_axis(sidecar) if sidecar else None
    return (image.stated_axis, "its header") if sidecar is None or axis is None else (axis, sidecar.name)


def clearly_larger(spacing: NDArray[np.float64]) -> int | None:
    """The axis whose spacing (mm) leaves no doubt that it is the distance between slices; None without one."""
    thick = int(np.argmax(spacing))
    return thick if spacing[thick] > CLEARLY_LARGER * np.delete(spacing, thick).max() else None


def _odd_one(spacing: NDArray[np.float64]) -> int | None:
    """The axis whose spacing differs from two equal ones."""
    for axis in range(3):
        a, b = np.delete(spacing, axis)
        if abs(a - b) <= SQUARE * a and min(abs(spacing[axis] - a), abs(spacing[axis] - b)) > ODD * a:
            return axis
    return None


def axis_shown(data: NDArray[np.float32]) -> int | None:
    """The axis along which an image changes as only slices do; None where it does not show.

    Slices are acquired one after the other: motion, spin history and gain differ from one to the next. So the mean of a
    plane jumps along the slice axis and nowhere else, and neighbouring planes differ more, compared with those two
    apart, than neighbouring rows or columns do. Slices without motion or gain look like a volume: None.

    Parameters
    ----------
    data : (nx, ny, nz)
        Pixels as far apart as slices, or nearly.
    """
    if min(data.shape) < MIN_PLANES:
        return None
    corner = [max(0, (length - LOOKED_AT) // 2) for length in data.shape]
    block = np.nan_to_num(data[tuple(slice(c, c + LOOKED_AT) for c in corner)], posinf=0.0, neginf=0.0)
    # The squares of large values would overflow; an image of zeros divides by zero and shows nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        block = block / np.abs(block).max()
        changes = [_changes(np.moveaxis(block, axis, 0)) for axis in range(3)]
    jumps, roughness = np.array(changes).T
    leaders = {_leader(roughness, ROUGHER)}
    if jumps.max() > JUMPING:
        leaders.add(_leader(jumps, MORE_JUMPING))
    leaders.discard(None)
    return leaders.pop() if len(leaders) == 1 else None


def _changes(planes: NDArray[np.float32]) -> tuple[float, float]:
    """How much the means of planes jump, and how rough the image is across them; both without a unit.

    Jumps: the median fourth difference of the means, by size, over their mean difference between planes two apart; a
    course that is smooth but for single structures, as the fissure between the hemispheres, has few, independent means
    have 5. Roughness: squared differences of neighbours over those of planes two apart; 1/4 where it is smooth, 1 for
    noise.
    """
    mean = planes.mean(axis=(1, 2), dtype=np.float64)
    jumps = np.median(np.abs(np.diff(mean, 4))) / np.abs(mean[2:] - mean[:-2]).mean()
    near = np.square(planes[1:] - planes[:-1]).mean(dtype=np.float64)
    far = np.square(planes[2:] - planes[:-2]).mean(dtype=np.float64)
    return float(jumps), float(near / far)


def _leader(values: NDArray[np.float64], ratio: float) -> int | None:
    """The axis whose value is `ratio` times both others'."""
    second, first = np.argsort(values)[1:]
    return int(first) if values[first] > ratio * values[second] else None
