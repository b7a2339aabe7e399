"""Stacks from NIfTI files, each with its region and slice thickness. What is assumed is logged."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from slicesplat.errors import InputError
from slicesplat.io.masks import finite_values
from slicesplat.io.nifti import FilePath, Image, box_corners, read_image
from slicesplat.prepare.masks import regions as find_regions
from slicesplat.prepare.thickness import thicknesses as find_thicknesses
from slicesplat.stack import Stack

Float = NDArray[np.float64]

log = logging.getLogger("slicesplat")

MIN_SLICES = 3
THICK_AXIS = 1.5
"""Slices lie along another axis than the third when its spacing is this many times both others."""


def load_stacks(
    paths: Sequence[FilePath],
    masks: Sequence[FilePath] | None = None,
    thicknesses: float | Sequence[float] | None = None,
    mask_of: int | None = None,
) -> list[Stack]:
    """Read stacks of slices, check them, and give each its mask and slice thickness.

    Parameters
    ----------
    paths : sequence of paths
        NIfTI files, one per stack. Slices lie along the third axis; where another axis has a clearly larger
        spacing, that one is moved to third, and the slice index counts along it.
    masks : sequence of paths, optional
        One per stack, on the same grid; voxels above zero belong to the region, and soft masks are cut at half
        their range. Slices left out between drawn ones are filled in, small pieces far from the body left out.
        A single mask for several stacks is carried over in world space from the stack it is drawn on, 10 mm
        wider on the others. Not given: the region is where the image is not zero.
    thicknesses : float or sequence of float, optional
        Slice thickness in mm, one per stack or one for all. Not given: `SliceThickness` of the JSON file
        beside the stack, else the distance between slices.
    mask_of : int, optional
        Which stack, counted from 1, the single mask is drawn on. Not given: the first on the mask's grid.

    Returns
    -------
    list of Stack
        In the order of `paths`. Values that are not finite and outside the mask are set to 0.

    Raises
    ------
    InputError
        A file is missing, damaged or not NIfTI; it is not a stack of three or more slices; its geometry is
        sheared or singular; it has values that are not finite inside the mask; a mask is empty, inverted or on
        another grid; the stacks do not overlap; masks or thicknesses are of the wrong number, or a thickness is not
        positive.
    """
    if not paths:
        raise InputError("no stack given; name one NIfTI file or more")
    images = [_read_stack(Path(path)) for path in paths]
    notes = [_axis_note(image) for image in images if image.slice_axis != 2]
    regions = find_regions(images, [Path(mask) for mask in masks or ()], mask_of)
    depths, depth_notes = find_thicknesses(images, thicknesses)
    data = [finite_values(image, region) for image, region in zip(images, regions.masks, strict=True)]
    stacks = [
        Stack(values, region, image.affine, depth, image.name, regions.template not in (None, number), image.slice_axis)
        for number, (values, region, image, depth) in enumerate(zip(data, regions.masks, images, depths, strict=True))
    ]
    _check_overlap(stacks, images)
    # A refusal is one line and nothing else, so what was assumed is told only once everything is accepted.
    for note in itertools.chain(notes, regions.notes, depth_notes):
        log.info(note)
    for warning in regions.warnings:
        log.warning(warning)
    return stacks


def _read_stack(path: Path) -> Image:
    image = _thick_axis_last(read_image(path))
    if image.data.shape[2] < MIN_SLICES:
        raise InputError(f"{path}: has only {image.data.shape[2]} slices; give a stack of {MIN_SLICES} or more")
    return image


def _thick_axis_last(image: Image) -> Image:
    spacing = image.spacing
    thick = int(np.argmax(spacing))
    if thick == 2 or spacing[thick] <= THICK_AXIS * np.delete(spacing, thick).max():
        return image
    return image.with_axis_last(thick)


def _axis_note(image: Image) -> str:
    return f"{image.name}: slices lie along axis {image.slice_axis + 1} of the file and are counted along it"


def _check_overlap(stacks: Sequence[Stack], images: Sequence[Image]) -> None:
    """Refuse stacks whose regions, as boxes along the world's axes, do not hang together."""
    boxes = np.array([_world_box(stack) for stack in stacks])
    low, high = boxes[:, 0], boxes[:, 1]
    touching = ((low[:, None] < high[None]) & (low[None] < high[:, None])).all(axis=-1)
    groups, group = connected_components(touching, directed=False)
    if groups > 1:
        alone = int(np.argmin(np.bincount(group)[group]))
        raise InputError(
            f"{images[alone].path}: its region does not overlap the other stacks; "
            "check that all show the same subject and session, or leave it out"
        )


def _world_box(stack: Stack) -> Float:
    """(2, 3) mm: lowest and highest world coordinates of the region."""
    used = [np.flatnonzero(stack.mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    corners = box_corners(np.array([u[0] - 0.5 for u in used]), np.array([u[-1] + 0.5 for u in used]))
    world = corners @ stack.affine[:3, :3].T + stack.affine[:3, 3]
    return np.array([world.min(axis=0), world.max(axis=0)])
