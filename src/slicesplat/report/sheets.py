"""Pictures of single slices: what was acquired and what the volume predicts, one sheet a stack."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slicesplat.geometry.slices import Slices
from slicesplat.geometry.stack import Stack
from slicesplat.report.figure import png
from slicesplat.report.layers import shown_window

_COLUMNS = 8  # slices side by side on a sheet


@dataclass(frozen=True, eq=False)
class Sheet:
    """The slices of a stack side by side: row by row those acquired, and below them those predicted.

    Attributes
    ----------
    png : bytes
        8-bit grey; both kinds on one scale.
    boxes : dict
        By the slice's index: left, top, width, height of what was acquired, pixels.
    below : int
        Pixels from what was acquired down to what was predicted.
    """

    png: bytes
    boxes: dict[int, tuple[int, int, int, int]]
    below: int

    def json(self) -> dict[str, Any]:
        """What the page is told."""
        return {
            "png": f"data:image/png;base64,{base64.b64encode(self.png).decode()}",
            "boxes": self.boxes,
            "below": self.below,
        }


def sheet(acquired: Stack, predicted: Stack, slices: Slices, which: Sequence[int]) -> Sheet:
    """The slices `which` of one stack, each cropped as in `slices`.

    A slice is drawn with its first axis to the right and its second upwards.
    """
    crops = [_crops(acquired, predicted, slices, s) for s in which]
    window = shown_window(np.concatenate([crop[0].ravel() for crop in crops])) if crops else (0.0, 1.0)
    width = max((crop[0].shape[1] for crop in crops), default=1)
    height = max((crop[0].shape[0] for crop in crops), default=1)
    below = -(-len(crops) // _COLUMNS) * height
    canvas = np.zeros((2 * max(below, 1), _COLUMNS * width), np.uint8)
    boxes = {}
    for place, (s, pair) in enumerate(zip(which, crops, strict=True)):
        row, column = divmod(place, _COLUMNS)
        rows, columns = pair[0].shape
        inside = slices.image(slices.mask, s).T[::-1]
        # 0 is what was not predicted: there is no difference to show.
        shown = _grey(pair[0], window), np.where(inside, np.maximum(_grey(pair[1], window), 1), 0)
        for top, crop in zip((row * height, below + row * height), shown, strict=True):
            canvas[top : top + rows, column * width : column * width + columns] = crop
        boxes[int(slices.index[s])] = (column * width, row * height, columns, rows)
    return Sheet(png(Image.fromarray(canvas)), boxes, below)


def _crops(acquired: Stack, predicted: Stack, slices: Slices, s: int) -> tuple[NDArray[Any], NDArray[Any]]:
    row, column = slices.corner[s]
    rows, columns = slices.shape[s]
    box = (slice(row, row + rows), slice(column, column + columns), int(slices.index[s]))
    first, second = (np.nan_to_num(stack.data[box]).T[::-1] for stack in (acquired, predicted))
    return first, second


def _grey(values: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = window
    return np.rint(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)
