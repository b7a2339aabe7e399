"""Stacks from NIfTI files, DICOM series or images in memory, each with its region and slice thickness.

What is assumed is logged.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike, NDArray

from slicesplat.config.segmentation import Anatomy, SegmentationSettings
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.arrays import image_in_memory, mask_in_memory
from slicesplat.io.dicom import converted
from slicesplat.io.inputs import distinct_names
from slicesplat.io.masks import finite_values
from slicesplat.io.nifti import FilePath, Image, box_corners, read_each, read_image, read_stacks
from slicesplat.prepare.cutout import without_what_is_not_finite
from slicesplat.prepare.masks import regions as find_regions
from slicesplat.prepare.narrow import Narrowing, narrowed
from slicesplat.prepare.slice_axis import SliceAxis, axes_last
from slicesplat.prepare.slice_times import slice_times, told_order
from slicesplat.prepare.thickness import thicknesses as find_thicknesses

Float = NDArray[np.float64]

log = logging.getLogger("slicesplat")

MIN_SLICES = 3
MIN_EXTENT = 8.0
"""mm along the longest axis: less than the brain of a mouse."""

_NONE = Narrowing()


def load_stacks(
    paths: Sequence[FilePath],
    masks: Sequence[FilePath] | None = None,
    thicknesses: float | Sequence[float | None] | None = None,
    slice_axes: SliceAxis | Sequence[SliceAxis] | None = None,
    mask_of: int | None = None,
    *,
    volume_mask: FilePath | None = None,
    stacks_intersection: bool = False,
    background_threshold: float | None = None,
    otsu_thresholding: bool = False,
    split_4d: bool = False,
    segmentation: bool = False,
    anatomy: Anatomy = "auto",
) -> list[Stack]:
    """Read stacks of slices, check them, and give each its mask and slice thickness.

    Parameters
    ----------
    paths : sequence of paths
        NIfTI files, one per stack; or DICOM, a folder or files in a row, of which every series of slices becomes a
        stack, localisers and derived series left out. The axis that slices lie along is moved to third, and the slice
        index counts along it.
    masks : sequence of paths, optional
        One per stack, on the same grid; voxels above zero belong to the region, and soft masks are cut at half
        their range. Slices left out between drawn ones are filled in, small pieces far from the body left out.
        A single mask for several stacks is carried over in world space from the stack it is drawn on, 10 mm
        wider on the others. Not given: the region is where the image is not zero.
    thicknesses : float or sequence of float, optional
        Slice thickness in mm, one per stack or one for all. Not given, or None for a stack: `SliceThickness` of the
        JSON file beside the stack, else the distance between slices.
    slice_axes : int or str, or a sequence of them, optional
        The axis of the file that slices lie along, 1 to 3 or i, j, k; one per stack or one for all. Not given: what the
        file beside the stack or the header says, else the axis whose spacing differs from the two others, else the
        one along which the images change from slice to slice as only slices do.
    mask_of : int, optional
        Which stack, counted from 1, the single mask is drawn on. Not given: the first on the mask's grid.
    volume_mask : path, optional
        A mask on any grid; what lies outside of it in world space is left out of all regions.
    stacks_intersection : bool
        Leave out of each region what another stack does not show. Not beside `volume_mask`.
    background_threshold : float, optional
        Leave out pixels up to this value.
    otsu_thresholding : bool
        Leave out the air around the tissue, by Otsu's threshold in each stack.
    split_4d : bool
        Take every volume of a 4-D file for a stack; its mask, thickness and axis are those of the file.
    segmentation : bool
        Where neither masks nor one of the settings above say what the region is, find the brain by a network; stacks
        that are cut out already are left as they are. A stack that does not show the brain gets an empty mask, and is
        left out by what works with it.
    anatomy : {"auto", "fetal", "neonatal"}
        What surrounds the brain that is looked for.

    Returns
    -------
    list of Stack
        In the order of `paths`. Values that are not finite and outside the mask are set to 0.

    Raises
    ------
    InputError
        A file is missing, damaged or not NIfTI; it is not a stack of three or more slices; its geometry is
        sheared or singular; it has values that are not finite inside the mask; a mask is empty, inverted or on
        another grid; the stacks do not overlap; masks, thicknesses or axes are of the wrong number, or a thickness is
        none in mm.
    """
    if not paths:
        raise InputError("no stack given; name one NIfTI file or more")
    with converted([Path(path) for path in paths]) as given:
        narrowing = Narrowing(
            read_image(Path(volume_mask)) if volume_mask is not None else None,
            stacks_intersection,
            background_threshold,
            otsu_thresholding,
        )
        drawn = read_each(read_image, map(Path, masks or ()))
        settings = SegmentationSettings(anatomy=anatomy) if segmentation and narrowing == _NONE else None
        stacks = _loaded(given.files, drawn, thicknesses, slice_axes, mask_of, narrowing, split_4d, settings)
        for note in given.notes:
            log.info(note)
    return stacks


def _loaded(
    files: Sequence[Path],
    drawn: Sequence[Image],
    thicknesses: float | Sequence[float | None] | None,
    slice_axes: SliceAxis | Sequence[SliceAxis] | None,
    mask_of: int | None,
    narrowing: Narrowing,
    split_4d: bool,
    segmentation: SegmentationSettings | None,
) -> list[Stack]:
    """Stacks of NIfTI files."""
    volumes = read_each(partial(read_stacks, split=split_4d), files)
    counts = [len(found) for found in volumes]
    names = [_volume_names(name, count) for name, count in zip(distinct_names(files), counts, strict=True)]
    read = [
        replace(image, label=label)
        for found, labels in zip(volumes, names, strict=True)
        for image, label in zip(found, labels, strict=True)
    ]
    drawn = _for_each_volume(drawn, counts)
    if mask_of is not None and 1 <= mask_of <= len(counts):
        mask_of = 1 + sum(counts[: mask_of - 1])
    depths, axes = (_for_each_volume(values, counts) for values in (thicknesses, slice_axes))
    return _checked(read, drawn, depths, axes, mask_of, narrowing, segmentation)


def _volume_names(name: str, count: int) -> list[str]:
    """What to call the volumes of a file."""
    return [name] if count == 1 else [f"{name}, volume {1 + number}" for number in range(count)]


def _for_each_volume(values: Any, counts: Sequence[int]) -> Any:
    """What is given for each file, for each of its volumes; as it is where it is given for all."""
    if values is None or np.ndim(values) == 0 or len(values) != len(counts) or max(counts) == 1:
        return values
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def stack_from_image(
    image: SpatialImage | ArrayLike,
    mask: SpatialImage | ArrayLike | None = None,
    thickness: float | None = None,
    name: str = "stack",
    slice_axis: SliceAxis | None = None,
    affine: ArrayLike | None = None,
) -> Stack:
    """A stack of what is in memory; `Stack.from_image` says what of.

    Raises
    ------
    InputError
        As `load_stacks`, and `image_in_memory`.
    """
    given = image_in_memory(image, name, affine)
    drawn = [] if mask is None else [mask_in_memory(mask, given)]
    return _checked([given], drawn, thickness, slice_axis)[0]


def _checked(
    given: Sequence[Image],
    drawn: Sequence[Image],
    thicknesses: float | Sequence[float | None] | None,
    slice_axes: SliceAxis | Sequence[SliceAxis] | None,
    mask_of: int | None = None,
    narrowing: Narrowing = _NONE,
    segmentation: SegmentationSettings | None = None,
) -> list[Stack]:
    """Stacks of images with their masks, as `load_stacks` says; the same for files and for what is in memory."""
    notes = [f"{image.name}: {note}" for image in given for note in image.notes]
    images, axis_notes, doubts = axes_last(given, slice_axes)
    for image in images:
        _check_size(image)
    regions = find_regions(images, drawn, mask_of, segmentation)
    if narrowing != _NONE:
        regions = narrowed(regions, images, narrowing)
    depths, depth_notes = find_thicknesses(images, thicknesses)
    inside = [
        without_what_is_not_finite(image.data, region) for image, region in zip(images, regions.masks, strict=True)
    ]
    data = [finite_values(image, region) for image, region in zip(images, inside, strict=True)]
    stacks = [
        Stack(
            values,
            region,
            image.affine,
            depth,
            image.name,
            carried=regions.template not in (None, number),
            slice_axis=image.slice_axis,
            times=slice_times(image),
        )
        for number, (values, region, image, depth) in enumerate(zip(data, inside, images, depths, strict=True))
    ]
    if regions.confidence is not None:
        stacks = [replace(stack, found=seen) for stack, seen in zip(stacks, regions.confidence, strict=True)]
    shown = [number for number, stack in enumerate(stacks) if stack.mask.any()]
    _check_overlap([stacks[number] for number in shown], [images[number] for number in shown])
    # A refusal is one line and nothing else, so what was assumed is told only once everything is accepted.
    order_notes = [f"{stack.name}: acquired in {told_order(stack)}" for stack in stacks if stack.times is not None]
    for note in itertools.chain(notes, axis_notes, regions.notes, depth_notes, order_notes):
        log.info(note)
    for doubt in itertools.chain(doubts, regions.warnings):
        log.warning(doubt)
    return stacks


def _check_size(image: Image) -> None:
    """Refuse what is no stack, or of nothing that has a brain."""
    count = image.data.shape[2]
    if count == 1:
        raise InputError(
            f"{image.source}: holds a single slice; give a stack of {MIN_SLICES} or more in one file, "
            "files of one slice cannot be put together yet"
        )
    if count < MIN_SLICES:
        raise InputError(f"{image.source}: has only {count} slices; give a stack of {MIN_SLICES} or more")
    extent = float((image.spacing * image.data.shape).max())
    if extent < MIN_EXTENT:
        raise InputError(f"{image.source}: is only {extent:.3g} mm long; are its lengths in centimetres? give mm")


def _check_overlap(stacks: Sequence[Stack], images: Sequence[Image]) -> None:
    """Refuse stacks whose regions, as boxes along the world's axes, do not hang together."""
    boxes = np.array([_world_box(stack) for stack in stacks])
    low, high = boxes[:, 0], boxes[:, 1]
    touching = ((low[:, None] < high[None]) & (low[None] < high[:, None])).all(axis=-1)
    if touching.all():
        return
    from scipy.sparse.csgraph import connected_components  # slow to import, and hardly ever needed

    groups, group = connected_components(touching, directed=False)
    if groups > 1:
        alone = int(np.argmin(np.bincount(group)[group]))
        raise InputError(
            f"{images[alone].source}: its region does not overlap the other stacks; "
            "check that all show the same subject and session, or leave it out"
        )


def _world_box(stack: Stack) -> Float:
    """(2, 3) mm: lowest and highest world coordinates of the region."""
    used = [np.flatnonzero(stack.mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    corners = box_corners(np.array([u[0] - 0.5 for u in used]), np.array([u[-1] + 0.5 for u in used]))
    world = corners @ stack.affine[:3, :3].T + stack.affine[:3, 3]
    return np.array([world.min(axis=0), world.max(axis=0)])
