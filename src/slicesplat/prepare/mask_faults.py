"""What masks that people draw and networks predict get wrong: told, mended where there is one way to, else refused.

A slice that was left out is filled in by shape-based interpolation of its neighbours (Raya and Udupa, IEEE Transactions
on Medical Imaging 9, 1990, 32-42): signed distances from the outlines, interpolated linearly, and cut at zero.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.errors import InputError
from slicesplat.io.nifti import Image

Mask = NDArray[np.bool_]
Float = NDArray[np.float64]

FAR = 15.0
"""mm. Between two drawn slices: outlines interpolated over as much are off by 2.1 mm in hand-drawn masks, and by 1.9 mm
over a single slice (23 mm: 2.6). Around the body, along each axis: pieces of moved slices lie within 11 mm of it, and
what is as near costs next to nothing."""
WIDE = 0.25
"""Share of the largest cross-section: a gap with as much on both sides was left out. Next to gaps that motion tore, at
the ends of a body, one side has a share of 0.09 at most."""
FEW_PIXELS = 16
"""A slice with fewer is as good as left out: `cut_slices` takes none of them."""
LISTED_SLICES = 10
"""More of them are told by the first and the last."""
LIKE_SIZE = 0.25
"""Share of the largest part: as much is another body, of which the image may have cut off some."""
SEPARATE = 5.0
"""mm between two bodies: skulls and skins of two heads. The halves of one brain are nearer."""
COVERING = 0.9
"""Share of the slices' pixels: a brain in the tightest box, an ellipsoid, fills half of it."""
EDGES = 0.95
"""Share of the pixels at the slices' edges: an inverted mask has all of them but where the region touches them."""
SMALLEST_BODY = 1000.0
"""mm3: a head is larger from the tenth week on; a hole as small is no body."""
AIR = 0.2
"""Median inside the mask over the image's brightest tissue: 0.04 to 0.09 in air, 0.50 to 0.74 in brains."""


def mended(region: Mask, mask: Image, image: Image) -> tuple[Mask, list[str], list[str]]:
    """A region as its mask meant it: gaps between slices filled, stray pieces left out.

    Parameters
    ----------
    region : (nx, ny, nz) bool
        Of the image's shape, not empty.
    mask, image : Image
        The mask that it comes from and what it is drawn on: their names, and the image's values and spacing.

    Returns
    -------
    region : (nx, ny, nz) bool
        The one given where nothing is wrong with it.
    notes, warnings : list of str
        What was filled; what may have to be put right by the user.

    Raises
    ------
    InputError
        The mask is inverted.
    """
    planes = region[:, :, region.any(axis=(0, 1))]
    if _is_inverted(planes, float(image.spacing.prod())):
        raise InputError(
            f"{mask.source}: is inverted, it reaches all edges and leaves the middle out; "
            "save it with 0 outside the region and 1 inside"
        )
    region, notes = _filled(region, image.spacing)
    region, warnings = _without_strays(region, image.spacing)
    if planes.mean() >= COVERING:
        warnings.append(f"covers {planes.mean():.0%} of {image.name}; where that shows more than the region, draw it")
    elif _is_dark(region, image):
        warnings.append(f"lies on air in {image.name}; check that it was drawn on this stack")
    return region, [f"{mask.name}: {note}" for note in notes], [f"{mask.name}: {warning}" for warning in warnings]


def _is_inverted(planes: Mask, voxel: float) -> bool:
    """Whether all edges of the slices are inside, and one body of the size of a head or more is not."""
    edges = np.concatenate([planes[[0, -1]].ravel(), planes[:, [0, -1]].ravel()])
    if edges.mean() < EDGES or planes.all():
        return False
    pieces, _ = ndimage.label(~planes)
    sizes = np.bincount(pieces.ravel())[1:]
    return bool(sizes.max() * voxel >= SMALLEST_BODY and sizes.max() > sizes.sum() / 2)


def _filled(region: Mask, spacing: Float) -> tuple[Mask, list[str]]:
    """The region with outlines in slices that were left out between drawn ones, and what to tell."""
    area = region.sum(axis=(0, 1))
    drawn = np.flatnonzero(area >= FEW_PIXELS)
    gaps = [(low, high) for low, high in itertools.pairwise(drawn) if high - low > 1]
    # Only where a body is wide can no motion have torn the gap. Then slices were left out, at its ends as well.
    if not any(min(area[low], area[high]) >= WIDE * area.max() for low, high in gaps):
        return region, []
    region, filled = region.copy(), []
    for low, high in gaps:
        if (high - low) * spacing[2] <= FAR:
            below, above = (_signed_distance(region[:, :, k], spacing[:2]) for k in (low, high))
            for k in range(low + 1, high):
                part = (k - low) / (high - low)
                outline = (1 - part) * below + part * above > 0
                region[:, :, k] |= outline
                if outline.any():
                    filled.append(k)
    if not filled:
        return region, []
    number = _counted(len(filled), "slice")
    listed = " ".join(map(str, filled)) if len(filled) <= LISTED_SLICES else f"{filled[0]} to {filled[-1]}"
    return region, [f"{number} left out between drawn ones, filled in from the neighbours: {listed} (counted from 0)"]


def _signed_distance(inside: Mask, spacing: Float) -> Float:
    """Distance, mm, from the outline, positive inside."""
    deep, away = (ndimage.distance_transform_edt(part, sampling=spacing) for part in (inside, ~inside))
    return np.asarray(deep - away)


def _without_strays(region: Mask, spacing: Float) -> tuple[Mask, list[str]]:
    """The region without small pieces far from the body, and what to tell; several bodies stay."""
    box = _box(region)
    pieces, count = ndimage.label(region[box], np.ones((3, 3, 3)))
    if count == 1:
        return region, []
    sizes = np.bincount(pieces.ravel())[1:]
    large = 1 + np.flatnonzero(sizes >= LIKE_SIZE * sizes.max())
    told = _bodies_apart(pieces, large, 1 + int(np.argmax(sizes)), spacing) if len(large) > 1 else []
    bodies = np.isin(pieces, large)
    reach = np.ceil(FAR / spacing).astype(int)
    around = [
        tuple(slice(max(side.start - r, 0), side.stop + r) for side, r in zip(piece, reach, strict=True))
        for piece in ndimage.find_objects(pieces)
    ]
    strays = np.flatnonzero([not bodies[place].any() for place in around])
    if not len(strays):
        return region, told
    voxels, number = _counted(int(sizes[strays].sum()), "voxel"), _counted(len(strays), "piece")
    region = region.copy()
    region[box] &= ~np.isin(pieces, 1 + strays)
    return region, [*told, f"{voxels} in {number} more than {FAR:g} mm from the body, left out; check the mask"]


def _bodies_apart(pieces: NDArray[np.int32], large: NDArray[np.intp], largest: int, spacing: Float) -> list[str]:
    """What to tell where pieces of like size lie apart: all that is reconstructed moves as one."""
    distance = ndimage.distance_transform_edt(pieces != largest, sampling=spacing)
    nearest = np.array(ndimage.minimum(distance, pieces, large))
    apart = large[(large == largest) | (nearest > SEPARATE)]
    if len(apart) == 1:
        return []
    centres = np.array(ndimage.center_of_mass(pieces > 0, pieces, apart)) * spacing
    furthest = np.linalg.norm(centres - centres[apart == largest], axis=1).max()
    return [
        f"has {len(apart)} parts of like size, {furthest:.0f} mm apart; "
        "one rigid body is reconstructed: give a mask of one body at a time, without gaps"
    ]


def _box(region: Mask) -> tuple[slice, ...]:
    """The smallest box that holds a region."""
    used = [np.flatnonzero(region.any(axis=tuple(np.delete(range(3), axis)))) for axis in range(3)]
    return tuple(slice(int(along[0]), int(along[-1]) + 1) for along in used)


def _is_dark(region: Mask, image: Image) -> bool:
    """Whether the region is far darker than the image's brightest tissue."""
    # One pixel in 16 says as much of the whole image.
    box = _box(region)
    inside, seen = (values[np.isfinite(values)] for values in (image.data[box][region[box]], image.data[::4, ::4]))
    if not len(inside) or not len(seen):
        return False
    low, bright = np.percentile(seen, [1, 99])
    dark = min(low, 0.0)
    return bool(np.median(inside) - dark < AIR * (bright - dark))


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
