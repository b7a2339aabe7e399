"""Volumes side by side: one row each, three orthogonal planes through the same world point.

Every plane is a grid in world coordinates, so that stacks, reconstructions and truths on different grids show the same
anatomy at the same place. Neurological orientation: the subject's left is on the left, and letters say so.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates

from slicesplat.io.atomic import atomic_path

Float = NDArray[np.float64]
Panel = tuple[ArrayLike, ArrayLike]

# Name, world axis to the right, world axis upwards, and the letters at the left, right, top and bottom.
_PLANES = (
    ("axial", 0, 1, "LRAP"),
    ("coronal", 0, 2, "LRSI"),
    ("sagittal", 1, 2, "PASI"),
)
# A panel whose voxels are longer than this many times their width shows them as they are, not interpolated.
_THICK = 1.5
_WINDOW_PERCENTILES = (1.0, 99.5)
_LABEL_SIZE = 14
_LABEL_WIDTH = 130
_HEADER_HEIGHT = 24
_GAP = 4
_INK = 235
_DIM_INK = 150


def _corners(shape: tuple[int, ...], affine: Float) -> Float:
    """(8, 3) mm: world positions of a volume's corner voxels."""
    voxels = np.array(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij")).reshape(3, -1).T
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def _bounds(array: NDArray[np.generic], affine: Float) -> tuple[Float, Float]:
    """World box in mm around what a volume shows, or around all of it if it is zero everywhere."""
    shown = np.argwhere(np.asarray(array) != 0)
    points = shown @ affine[:3, :3].T + affine[:3, 3] if len(shown) else _corners(array.shape, affine)
    return points.min(axis=0), points.max(axis=0)


def _plane_points(point: Float, low: Float, high: Float, axes: tuple[int, int], pixel: float) -> Float:
    """(rows, columns, 3) mm: world positions of the pixels of a plane through `point`, top row first."""
    right, up = axes
    columns = np.arange(low[right], high[right] + pixel, pixel)
    rows = np.arange(low[up], high[up] + pixel, pixel)[::-1]
    points = np.empty((len(rows), len(columns), 3))
    points[:] = point
    points[..., right] = columns
    points[..., up] = rows[:, None]
    return points


def _resample(array: NDArray[np.generic], affine: Float, points: Float) -> Float:
    """Values at world positions (..., 3) mm; zero outside the volume."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    inverse = np.linalg.inv(affine)
    voxels = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
    order = 0 if spacing.max() > _THICK * spacing.min() else 1
    return map_coordinates(np.asarray(array, dtype=np.float64), voxels, order=order, mode="grid-constant")


def _window(array: NDArray[np.generic]) -> tuple[float, float]:
    """Intensities shown black and white."""
    shown = np.asarray(array)[np.asarray(array) != 0]
    if not shown.size:
        return 0.0, 1.0
    low, high = np.percentile(shown, _WINDOW_PERCENTILES)
    return min(0.0, float(low)), max(float(high), float(low) + 1e-6)


def _grey(values: Float, window: tuple[float, float]) -> Image.Image:
    """Eight-bit picture of a plane."""
    low, high = window
    return Image.fromarray((np.clip((values - low) / (high - low), 0, 1) * 255).round().astype(np.uint8))


def _letter(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], letters: str) -> None:
    """Write what lies left, right, up and down at the edges of a plane's box (left, top, right, bottom)."""
    left, top, right, bottom = box
    font = ImageFont.load_default(_LABEL_SIZE - 3)
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    places = (((left + 3, middle_y), "lm"), ((right - 3, middle_y), "rm"), ((middle_x, top + 2), "mt"))
    for (position, anchor), letter in zip((*places, ((middle_x, bottom - 2), "mb")), letters, strict=True):
        draw.text(position, letter, fill=_DIM_INK, font=font, anchor=anchor)


def three_planes(
    panels: Mapping[str, Panel], point: ArrayLike | None = None, pixel: float = 0.4, margin: float = 4.0
) -> Image.Image:
    """Draw volumes in three orthogonal planes.

    Parameters
    ----------
    panels : mapping of label to (array, affine)
        Arrays (nx, ny, nz) with affines (4, 4), voxel index to world, mm RAS+; one row each. The last one gives the
        field of view. Each is shown in its own window of intensities.
    point : (3,) mm, optional
        Where the planes cross; the middle of what the last panel shows when not given.
    pixel : float
        Size of a pixel of the picture, mm.
    margin : float
        Border around what the last panel shows, mm.

    Returns
    -------
    PIL.Image.Image
        Eight-bit grey. Columns: axial, coronal, sagittal; left is left.

    Raises
    ------
    ValueError
        There is nothing to draw, or an array is not 3-D.
    """
    volumes = {label: (np.asarray(a), np.asarray(m, dtype=np.float64)) for label, (a, m) in panels.items()}
    if not volumes:
        raise ValueError("no panels to draw")
    for label, (array, _) in volumes.items():
        if array.ndim != 3:
            raise ValueError(f"panel {label!r} has shape {array.shape}; it has to be 3-D")
    low, high = _bounds(*list(volumes.values())[-1])
    crossing = (low + high) / 2 if point is None else np.asarray(point, dtype=np.float64)
    low, high = low - margin, high + margin
    grids = [_plane_points(crossing, low, high, (right, up), pixel) for _, right, up, _ in _PLANES]

    lefts = np.cumsum([_LABEL_WIDTH, *(grid.shape[1] + _GAP for grid in grids)])
    height = max(grid.shape[0] for grid in grids) + _GAP
    canvas = Image.new("L", (int(lefts[-1]), _HEADER_HEIGHT + height * len(volumes)))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(_LABEL_SIZE)
    for (name, *_), left, grid in zip(_PLANES, lefts, grids, strict=False):
        draw.text((left + grid.shape[1] // 2, _HEADER_HEIGHT // 2), name, fill=_INK, font=font, anchor="mm")
    for row, (label, (array, affine)) in enumerate(volumes.items()):
        top, window = _HEADER_HEIGHT + row * height, _window(array)
        draw.text((8, top + height // 2), label, fill=_INK, font=font, anchor="lm")
        for (*_, letters), left, grid in zip(_PLANES, lefts, grids, strict=False):
            box = (int(left), top, int(left) + grid.shape[1], top + grid.shape[0])
            canvas.paste(_grey(_resample(array, affine, grid), window), box)
            _letter(draw, box, letters)
    return canvas


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def save_png(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(png(picture))
