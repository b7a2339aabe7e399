"""Stacks from NIfTI files, volumes to NIfTI files.

World coordinates are nibabel's: RAS+ millimetres, the sform where it is set, else the qform. A file is
checked before it is used and refused with an `InputError`; nothing is repaired silently, what is assumed is
logged.
"""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from slicesplat.errors import InputError
from slicesplat.io.atomic import atomic_path
from slicesplat.stack import Stack

FilePath: TypeAlias = str | PathLike[str]
Float = NDArray[np.float64]

log = logging.getLogger("slicesplat")

MIN_SLICES = 3
MAX_SHEAR = 1e-3
"""Largest cosine between two voxel axes: above a header's rounding, yet below 0.2 mm over 200 mm."""
SAME_GRID = 0.1
"""Two grids are the same when no corner is further apart than this part of a voxel: headers are rounded."""
THICK_AXIS = 1.5
"""Slices lie along another axis than the third when its spacing is this many times both others."""
CHUNK = 1 << 20
TEMPLATE_MARGIN = 10.0
"""mm: how far the region may have moved between the stack that has the mask and the others."""


@dataclass(frozen=True, eq=False)
class _Image:
    """A checked grid with its values, slices along the third axis."""

    path: Path
    data: NDArray[np.float32]
    affine: Float
    moved_axis: int = 2

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def spacing(self) -> Float:
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def load_stacks(
    paths: Sequence[FilePath],
    masks: Sequence[FilePath] | None = None,
    thicknesses: float | Sequence[float] | None = None,
) -> list[Stack]:
    """Read stacks of slices, check them, and give each its mask and slice thickness.

    Parameters
    ----------
    paths : sequence of paths
        NIfTI files, one per stack. Slices lie along the third axis; where another axis has a clearly larger
        spacing, that one is moved to third, and the slice index counts along it.
    masks : sequence of paths, optional
        One per stack, on the same grid; voxels above zero belong to the region. A single mask for several
        stacks is carried over in world space from the stack it is drawn on, 10 mm wider on the others. Not
        given: the region is where the image is not zero.
    thicknesses : float or sequence of float, optional
        Slice thickness in mm, one per stack or one for all. Not given: `SliceThickness` of the JSON file
        beside the stack, else the distance between slices.

    Returns
    -------
    list of Stack
        In the order of `paths`. Values that are not finite and outside the mask are set to 0.

    Raises
    ------
    InputError
        A file is missing, damaged or not NIfTI; it is not a stack of three or more slices; its geometry is
        sheared or singular; it has values that are not finite inside the mask; a mask is empty or on another
        grid; the stacks do not overlap; masks or thicknesses are of the wrong number, or a thickness is not
        positive.
    """
    if not paths:
        raise InputError("no stack given; name one NIfTI file or more")
    images = [_read_stack(Path(path)) for path in paths]
    notes = [_axis_note(image) for image in images if image.moved_axis != 2]
    regions, template, mask_notes = _regions(images, [Path(mask) for mask in masks or ()])
    depths, depth_notes = _thicknesses(images, thicknesses)
    data = [_finite(image, region) for image, region in zip(images, regions, strict=True)]
    stacks = [
        Stack(values, region, image.affine, depth, image.name, carried=template not in (None, number))
        for number, (values, region, image, depth) in enumerate(zip(data, regions, images, depths, strict=True))
    ]
    _check_overlap(stacks, images)
    # A refusal is one line and nothing else, so what was assumed is told only once everything is accepted.
    for note in itertools.chain(notes, mask_notes, depth_notes):
        log.info(note)
    return stacks


def load_volume(path: FilePath) -> nib.Nifti1Image:
    """Read a volume.

    Parameters
    ----------
    path : path
        A NIfTI file.

    Returns
    -------
    nibabel image
        float32, the header's scaling applied; geometry only, nothing else of the header.

    Raises
    ------
    InputError
        As `load_stacks`, or a value is not finite.
    """
    data, affine = _read_image(Path(path))
    if not np.isfinite(data).all():
        raise InputError(f"{path}: has NaN or infinite values; replace them, by 0 outside the region")
    return nib.Nifti1Image(data, affine)


def load_masked_volume(path: FilePath, mask: FilePath) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Read a volume and its mask.

    Parameters
    ----------
    path, mask : path
        NIfTI files on the same grid; voxels above zero belong to the region.

    Returns
    -------
    volume, mask : nibabel images
        float32 and uint8. Values that are not finite and outside the mask are set to 0.

    Raises
    ------
    InputError
        As `load_stacks`.
    """
    volume = _Image(Path(path), *_read_image(Path(path)))
    region = _mask_on(_read_mask(Path(mask)), volume)
    data = _finite(volume, region)
    return nib.Nifti1Image(data, volume.affine), nib.Nifti1Image(region.astype(np.uint8), volume.affine)


def save_volume(image: nib.Nifti1Image, path: FilePath) -> None:
    """Write a volume as float32 NIfTI, whole or not at all.

    The header is new: geometry and units, nothing that came with an input. The same values give the same
    bytes.

    Parameters
    ----------
    image : nibabel image
        Its affine, a rotation with spacings in mm, becomes both sform and qform.
    path : path
        Ends in .nii or .nii.gz.
    """
    volume = nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    volume.header.set_xyzt_units("mm")
    volume.set_sform(image.affine, code=1)
    volume.set_qform(image.affine, code=1)
    with atomic_path(path) as temporary:
        nib.save(volume, temporary)


def save_stack(stack: Stack, original: FilePath, path: FilePath) -> None:
    """Write a stack as float32 NIfTI on the grid of the file that it was read from, whole or not at all.

    Parameters
    ----------
    stack : Stack
        Read from `original` by `load_stacks`; its values may have changed.
    original : path
        Where the order of the axes is taken from: a mask drawn on the original fits what is written.
    path : path
        Ends in .nii or .nii.gz.
    """
    order = np.insert([0, 1], _read_stack(Path(original)).moved_axis, 2)
    save_volume(nib.Nifti1Image(stack.data.transpose(order), stack.affine[:, [*order, 3]]), path)


def _read_image(path: Path) -> tuple[NDArray[np.float32], Float]:
    """A 3-D image and its affine, checked; a fourth axis of length one is dropped."""
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a NIfTI file")
    if path.suffix == ".gz":
        _check_gzip(path)
    try:
        with LoggingOutputSuppressor():
            image = nib.load(path)
            if not isinstance(image, nib.Nifti1Pair):
                raise InputError(f"{path}: is not NIfTI; convert it to .nii.gz first")
            if image.get_data_dtype().kind not in "iufb":
                raise InputError(f"{path}: holds colours or complex numbers; give plain intensities")
            data = np.asarray(image.dataobj, dtype=np.float32)
    except ImageFileError as error:
        raise InputError(f"{path}: is not a readable NIfTI file; check it or convert it to .nii.gz") from error
    except HeaderDataError as error:
        raise InputError(f"{path}: its header is damaged; convert it again from the original") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read whole; check permissions, or copy it again") from error
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise InputError(f"{path}: has {data.ndim} dimensions; give one 3-D stack per file")
    affine = np.asarray(image.affine, dtype=np.float64)
    _check_affine(path, affine)
    return data, affine


def _check_gzip(path: Path) -> None:
    """Read to the end, where the checksum is: nibabel stops before it and takes damaged values for good."""
    try:
        with gzip.open(path) as content:
            while content.read(CHUNK):
                pass
    except EOFError as error:
        raise InputError(f"{path}: ends too early (truncated gzip); copy or export it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: is not NIfTI, or a damaged gzip; copy or export it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _check_affine(path: Path, affine: Float) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of the unit axes, so that the test does not depend on the voxel size.
    if (
        not np.isfinite(affine).all()
        or (spacing == 0).any()
        or abs(np.linalg.det(affine[:3, :3] / spacing)) < MAX_SHEAR
    ):
        raise InputError(f"{path}: its affine is singular; convert it again, or set a valid sform or qform")
    axes = affine[:3, :3] / spacing
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > MAX_SHEAR:
        raise InputError(f"{path}: its affine is sheared; resample it to a grid with right angles")


def _read_stack(path: Path) -> _Image:
    data, affine = _read_image(path)
    image = _thick_axis_last(_Image(path, data, affine))
    if image.data.shape[2] < MIN_SLICES:
        raise InputError(f"{path}: has only {image.data.shape[2]} slices; give a stack of {MIN_SLICES} or more")
    return image


def _thick_axis_last(image: _Image) -> _Image:
    spacing = image.spacing
    thick = int(np.argmax(spacing))
    if thick == 2 or spacing[thick] <= THICK_AXIS * np.delete(spacing, thick).max():
        return image
    return _with_axis_last(image, thick)


def _with_axis_last(image: _Image, axis: int) -> _Image:
    """The same voxels in the same places of the world, with `axis` as the third."""
    order = [a for a in range(3) if a != axis] + [axis]
    affine = image.affine[:, [*order, 3]]
    data = np.ascontiguousarray(image.data.transpose(order))
    return replace(image, data=data, affine=affine, moved_axis=axis)


def _axis_note(image: _Image) -> str:
    return f"{image.name}: slices lie along axis {image.moved_axis + 1} of the file and are counted along it"


def _regions(
    images: Sequence[_Image], mask_paths: Sequence[Path]
) -> tuple[list[NDArray[np.bool_]], int | None, list[str]]:
    """The region of each stack, the stack that the others have it from if there is one, and what to tell about it."""
    if not mask_paths:
        regions = [image.data != 0 for image in images]
        for image, region in zip(images, regions, strict=True):
            if not region.any():
                raise InputError(f"{image.path}: every voxel is zero; check the file")
        return regions, None, [f"{image.name}: no mask given, using its non-zero voxels" for image in images]
    masks = [_read_mask(path) for path in mask_paths]
    if len(masks) == len(images):
        return [_mask_on(mask, image) for mask, image in zip(masks, images, strict=True)], None, []
    template = _template(masks, images)
    if template is None:
        raise InputError(
            f"{mask_paths[-1]}: wrong number of masks, {len(masks)} for {len(images)} stacks; "
            "give one per stack in the same order, or a single one drawn on just one of them"
        )
    regions, notes = _transfer(masks[0], images, template)
    return regions, template, notes


def _read_mask(path: Path) -> _Image:
    data, affine = _read_image(path)
    if not np.isfinite(data).all():
        raise InputError(f"{path}: the mask has NaN or infinite values; save it with 0 outside and 1 inside")
    if not (data > 0).any():
        raise InputError(f"{path}: the mask is empty; draw the region to reconstruct")
    return _Image(path, data, affine)


def _on_the_axes_of(mask: _Image, image: _Image) -> _Image:
    return mask if image.moved_axis == 2 else _with_axis_last(mask, image.moved_axis)


def _same_grid(a: _Image, b: _Image) -> bool:
    if a.data.shape != b.data.shape:
        return False
    corners = _corners(np.zeros(3), np.array(a.data.shape) - 1.0)
    apart = corners @ (a.affine - b.affine)[:3, :3].T + (a.affine - b.affine)[:3, 3]
    return bool(np.linalg.norm(apart, axis=1).max() <= SAME_GRID * b.spacing.min())


def _mask_on(mask: _Image, image: _Image) -> NDArray[np.bool_]:
    mask = _on_the_axes_of(mask, image)
    if mask.data.shape != image.data.shape:
        raise InputError(
            f"{mask.path}: its shape {mask.data.shape} is not that of {image.name}, {image.data.shape}; "
            "give masks in the order of the stacks, on the same grid"
        )
    if not _same_grid(mask, image):
        raise InputError(
            f"{mask.path}: its affine is not that of {image.name}; "
            "give masks in the order of the stacks, or resample it to the stack's grid"
        )
    return mask.data > 0


def _template(masks: Sequence[_Image], images: Sequence[_Image]) -> int | None:
    """Which stack the only mask is drawn on; None when there is no telling."""
    if len(masks) != 1:
        return None
    drawn_on = [index for index, image in enumerate(images) if _same_grid(_on_the_axes_of(masks[0], image), image)]
    return drawn_on[0] if len(drawn_on) == 1 else None


def _transfer(mask: _Image, images: Sequence[_Image], template: int) -> tuple[list[NDArray[np.bool_]], list[str]]:
    """The template stack's mask on every stack: nearest in world space, widened where it was not drawn."""
    mask = _on_the_axes_of(mask, images[template])
    inside = mask.data > 0
    # The widened region may reach beyond the template's grid.
    pad = np.ceil(TEMPLATE_MARGIN / mask.spacing).astype(int) + 1
    outside = np.pad(~inside, [(p, p) for p in pad], constant_values=True)
    wide = (ndimage.distance_transform_edt(outside, sampling=mask.spacing) <= TEMPLATE_MARGIN).astype(np.uint8)
    regions, notes = [], []
    for index, image in enumerate(images):
        if index == template:
            regions.append(inside)
            continue
        to_mask = np.linalg.inv(mask.affine) @ image.affine
        region = ndimage.affine_transform(
            wide,
            to_mask[:3, :3],
            to_mask[:3, 3] + pad,
            output_shape=image.data.shape,
            order=0,
            prefilter=False,
        ).astype(bool)
        if not region.any():
            raise InputError(f"{mask.path}: the mask does not reach {image.name}; give one mask per stack")
        regions.append(region)
        notes.append(f"{image.name}: mask carried over from {images[template].name}, {TEMPLATE_MARGIN:g} mm wider")
    return regions, notes


def _finite(image: _Image, region: NDArray[np.bool_]) -> NDArray[np.float32]:
    finite = np.isfinite(image.data)
    bad = int((region & ~finite).sum())
    if bad:
        raise InputError(
            f"{image.path}: {bad} voxels inside its region are NaN or infinite; "
            "repair them, or give a mask that leaves them out"
        )
    return np.where(finite, image.data, np.float32(0))


def _thicknesses(images: Sequence[_Image], given: float | Sequence[float] | None) -> tuple[list[float], list[str]]:
    """The slice thickness of each stack in mm, and where it comes from."""
    if given is None or (isinstance(given, Sequence) and not given):
        found = [_thickness_of(image) for image in images]
        return [depth for depth, _ in found], [note for _, note in found]
    depths = np.atleast_1d(np.asarray(given, dtype=np.float64)).tolist()
    if len(depths) == 1:
        depths = depths * len(images)
    if len(depths) != len(images):
        raise InputError(
            f"{images[-1].path}: wrong number of thicknesses, {len(depths)} for {len(images)} stacks; "
            "give one per stack, or one for all"
        )
    for image, depth in zip(images, depths, strict=True):
        _check_thickness(depth, image.path)
    return depths, [
        f"{image.name}: slice thickness {depth:g} mm as given" for image, depth in zip(images, depths, strict=True)
    ]


def _thickness_of(image: _Image) -> tuple[float, str]:
    sidecar = image.path.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    stated = _slice_thickness(sidecar)
    if stated is None:
        depth = float(image.spacing[2])
        return depth, f"{image.name}: slice thickness {depth:g} mm, taken from the distance between slices"
    _check_thickness(stated, sidecar)
    return stated, f"{image.name}: slice thickness {stated:g} mm, from {sidecar.name}"


def _slice_thickness(sidecar: Path) -> float | None:
    if not sidecar.is_file():
        return None
    try:
        content: Any = json.loads(sidecar.read_text(encoding="utf-8"))
        value = content.get("SliceThickness")
        return None if value is None else float(value)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{sidecar}: its SliceThickness cannot be read; repair the file, or give the thicknesses"
        ) from error


def _check_thickness(depth: float, source: Path) -> None:
    if not (np.isfinite(depth) and depth > 0):
        raise InputError(f"{source}: slice thickness {depth:g} mm is not positive; give it in mm, as in 3.0")


def _check_overlap(stacks: Sequence[Stack], images: Sequence[_Image]) -> None:
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
    corners = _corners(np.array([u[0] - 0.5 for u in used]), np.array([u[-1] + 0.5 for u in used]))
    world = corners @ stack.affine[:3, :3].T + stack.affine[:3, 3]
    return np.array([world.min(axis=0), world.max(axis=0)])


def _corners(low: Iterable[float], high: Iterable[float]) -> Float:
    return np.array(list(itertools.product(*zip(low, high, strict=True))))
