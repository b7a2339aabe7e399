"""The last stage: what is made of the field, in scanner space or where a template has its brain."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.estimate.background import background_field
from slicesplat.evidence.consistency import Consistency, consistency
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.placement import Placement
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import cut_slices
from slicesplat.io.model import Model
from slicesplat.io.templates import built_in_templates, load_template
from slicesplat.motion.agreement import Agreement
from slicesplat.pipeline.stages import Estimated, Registered
from slicesplat.prepare.region import region_field
from slicesplat.progress import ReportProgress
from slicesplat.sampling import Grid, sample_volume
from slicesplat.splat import Backend, predict

log = logging.getLogger("slicesplat")


@dataclass(frozen=True, eq=False)
class Sampled:
    """The output.

    Attributes
    ----------
    volume, mask : nibabel image
    model : Model
        What they were sampled from, on the host.
    """

    volume: nib.Nifti1Image
    mask: nib.Nifti1Image
    model: Model


def model_of(registered: Registered, estimated: Estimated, config: Config, backend: Backend) -> Model:
    """The field with what sampling it needs, on the host."""
    known = registered.intensities
    return Model(
        field=estimated.field.to("cpu"),
        region=region_field(estimated.slices, estimated.weights.slice, backend).to("cpu"),
        scale=known.scale,
        unit=known.unit,
        offset=known.common_offset,
        resolution=config.resolution,
        slice_profile=config.slice_profile,
        space="standard" if config.orientation == "standard" else "scanner",
    )


def placement(registered: Registered, estimated: Estimated, config: Config, backend: Backend) -> Placement:
    """How the brain lies in standard space.

    Raises
    ------
    InputError
        The template is none, or nothing is left to align.
    """
    from slicesplat.prepare.standard_space import SPACING, align_to_template  # what it needs is slow to import

    templates = [load_template(config.template)] if config.template else built_in_templates()
    model = model_of(registered, estimated, config, backend)
    volume, mask = sample_volume(model, Grid.around(model, SPACING, backend=backend), backend=backend)
    inside = np.asarray(mask.dataobj) > 0
    if not inside.any():
        raise InputError(
            f"{registered.stacks[0].name} and the other stacks: nothing is left to be aligned; check the masks"
        )
    found = align_to_template(np.asarray(volume.dataobj), inside, volume.affine, templates)
    log.info("standard space: template %s, correlation %.2f", found.template, found.ncc)
    return found


def in_standard_space(estimated: Estimated, placed: Placement) -> Estimated:
    """Field and slices where a template has its brain."""
    there = placed.transform
    slices = estimated.slices.moved(there @ estimated.slices.motion)
    return replace(estimated, field=estimated.field.moved(there), slices=slices)


def sample(
    registered: Registered, estimated: Estimated, config: Config, backend: Backend, axes: Float | None = None
) -> Sampled:
    """The field and the region's mask on the output grid, with the background where it is asked for.

    The grid lies along `axes` (3, 3), columns, where they are given, else along the world's.
    """
    model = model_of(registered, estimated, config, backend)
    volume, mask = sample_volume(model, Grid.around(model, axes=axes, backend=backend), backend=backend)
    if config.with_background:
        background = _background(registered, estimated, config, backend)
        model = replace(model, background=background.to("cpu"), margin=config.sample.background_margin)
        volume, mask = _surrounded(volume, mask, model, axes, backend)
    return Sampled(volume, mask, model)


def compared(
    estimated: Estimated, stacks: int, config: Config, backend: Backend
) -> tuple[list[Agreement], list[Consistency]]:
    """How each of so many stacks agrees with the others, and what it would look like if it showed the field."""
    slices, weights = estimated.slices, estimated.weights
    image = estimated.image
    if image is None:
        image = predict(estimated.field, slices, np.ones(len(slices)), backend)
    given = (image.cpu().numpy(), weights.gain, weights.slice, estimated.noise, stacks)
    return consistency(slices, *given, np.random.default_rng(config.seed), config.registration, backend)


def standard_errors(
    registered: Registered, estimated: Estimated, sampled: Sampled, config: Config, report_progress: ReportProgress
) -> nib.Nifti1Image:
    """The standard error of every voxel."""
    from slicesplat.estimate.uncertainty import standard_error  # what it needs is slow to import

    inside, affine = np.asarray(sampled.mask.dataobj) > 0, sampled.mask.affine
    given = (sampled.model.field, estimated.slices, estimated.weights, inside, affine)
    random = np.random.default_rng(config.seed)
    error = standard_error(*given, random, report_progress, config.uncertainty_map)
    return nib.Nifti1Image(registered.intensities.error(error), affine)


def _surrounded(
    volume: nib.Nifti1Image, mask: nib.Nifti1Image, model: Model, axes: Float | None, backend: Backend
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Volume and mask on a grid with a margin: the background outside the mask, the very bytes that were inside it."""
    grid = Grid.around(model, axes=axes, backend=backend)
    margin = (grid.shape[0] - volume.shape[0]) // 2
    inside = np.pad(np.asarray(mask.dataobj), margin)
    shown = np.asarray(sample_volume(model, grid, backend=backend)[0].dataobj)
    values = np.where(inside, np.pad(np.asarray(volume.dataobj), margin), shown)
    return nib.Nifti1Image(values, grid.affine), nib.Nifti1Image(inside, grid.affine)


def _background(registered: Registered, estimated: Estimated, config: Config, backend: Backend) -> GaussianField:
    """What lies around the region, to be added to the field there."""
    slices, around = estimated.slices, config.sample.background_margin
    bias = estimated.weights.bias
    even = registered.scaled if bias is None else [bias.divided_out(n, s) for n, s in enumerate(registered.scaled)]
    wide = cut_slices(even, config.slice_profile, int(np.ceil(around / slices.step.min())))
    return background_field(wide.moved(slices.motion), estimated.field, estimated.weights, config.sample, backend)
