"""Brains to put into heads: those of an atlas, and the package's phantom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from shapes import Float

ROLLING = 0.16
"""Radius, in brain lengths, of the ball that closes the fissures and hollows of a brain: there is liquor, and bone
at the base."""


@dataclass(frozen=True, eq=False)
class Brain:
    """A brain to put into a head: tissues, signal, and the distance from its surface, on one grid.

    Attributes
    ----------
    tissue : (X, Y, Z) uint8
        0 outside, 1 to 8 inside.
    signal : (X, Y, Z) float32
        That of fluid about 1.
    distance, cavity : (X, Y, Z) float32
        mm from the brain's surface and from that of the smooth cavity around it, negative inside.
    spacing : float
        mm; the axes point to the right, the front and the top.
    centre : (3,) voxels
    length : float
        mm from front to back.
    """

    tissue: NDArray[np.uint8]
    signal: Float
    distance: Float
    cavity: Float
    spacing: float
    centre: Float
    length: float

    @classmethod
    def made(cls, tissue: NDArray[np.integer], signal: NDArray[np.floating], spacing: float) -> Brain:
        """From tissues and signal on a grid; room for the layers of the head is made around."""
        pad = int(np.ceil(30 / spacing))
        tissue, signal = np.pad(tissue, pad).astype(np.uint8), np.pad(signal, pad).astype(np.float32)
        inside = ndimage.binary_closing(tissue > 0, iterations=max(1, round(3 / spacing)))
        # Furrows at the surface belong to the brain, as masks are drawn.
        tissue[inside & (tissue == 0)] = 4
        where = np.argwhere(inside)
        top = float(np.percentile(signal[inside], 99))
        signal[inside & (signal <= 0)] = 0.8 * top
        length = float(np.ptp(where[:, 1]) + 1) * spacing
        around = _closed(inside, ROLLING * length / spacing)
        layers = (_depth(inside) * spacing, _depth(around) * spacing)
        return cls(tissue, signal / top, *layers, spacing, where.mean(axis=0), length)


def _depth(inside: NDArray[np.bool_]) -> Float:
    """Distance from a surface in voxels, negative inside."""
    away = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    return np.asarray(away, np.float32)


def _closed(inside: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """With all hollows that a ball of so many voxels cannot enter."""
    wide = ndimage.distance_transform_edt(~inside) <= radius
    return np.asarray(inside | (ndimage.distance_transform_edt(wide) > radius))


def atlas_brains(folder: Path, ages: Sequence[int] | None = None, spacing: float = 1.6) -> list[Brain]:
    """Brains of the open spina bifida atlas: files gaNN-srr.nii.gz and gaNN-parcellation.nii.gz of 0.8 mm."""
    found = []
    for path in sorted(folder.glob("ga*-srr.nii.gz")):
        if ages is not None and int(path.name[2:4]) not in ages:
            continue
        image = nib.load(path)
        step = round(spacing / float(image.header.get_zooms()[0]))
        parcels = nib.load(path.with_name(path.name.replace("srr", "parcellation")))
        # Anti-aliased by the mean of the neighbours, labels by their middle voxel.
        signal = ndimage.uniform_filter(np.asarray(image.dataobj, np.float32), step)[::step, ::step, ::step]
        tissue = np.asarray(parcels.dataobj).astype(np.uint8)[::step, ::step, ::step]
        found.append(Brain.made(tissue, signal, spacing))
    return found


def phantom_brain(length_mm: float, seed: int, spacing: float = 1.6) -> Brain:
    """The package's digital phantom as a brain; its tissues are told apart by their signal."""
    from slicesplat.validation.phantom import brain_phantom

    volume, _, mask = brain_phantom(size_mm=length_mm, spacing=spacing, seed=seed)
    volume = np.asarray(volume, np.float32)
    levels = np.percentile(volume[mask], [25, 50, 80, 93])
    tissue = np.where(mask, 1 + np.array([4, 2, 0, 5, 1])[np.searchsorted(levels, volume)], 0)
    return Brain.made(tissue, np.where(mask, volume, 0), spacing)
