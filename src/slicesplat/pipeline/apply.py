"""Other data on motion that was found before: the poses stay, only a field is solved for.

Echoes and other contrasts by the objective of a reconstruction, with the poses held. Quantitative maps without robust
weights, gains or a common intensity: their numbers mean something. Labels by one field each, of which
the largest decides (`pipeline.labels`): thick slices are taken apart as they are for intensities.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.config import Config, FitSettings
from slicesplat.errors import InputError
from slicesplat.geometry.reach import FIT_CUTOFF, SAMPLING_CUTOFF
from slicesplat.geometry.slices import FIT_MARGIN
from slicesplat.geometry.stack import Stack, values_where
from slicesplat.motion.coarse_to_fine import Poses
from slicesplat.pipeline.labels import LabelFields, LabelSettings
from slicesplat.pipeline.output import model_of
from slicesplat.pipeline.setup import chosen_backend, load_kernels
from slicesplat.pipeline.stages import (
    Prepared,
    Registered,
    cut,
    estimate,
    looked_up,
    prepare,
    refine,
)
from slicesplat.prepare.known_motion import KnownMotion
from slicesplat.prepare.memory import within_memory
from slicesplat.prepare.region import grid_over, region_field, region_mask
from slicesplat.progress import Callback, StepClock
from slicesplat.sampling import Grid, sample_volume
from slicesplat.splat.cpu.threads import limited_threads

__all__ = ["ApplySettings", "apply", "apply_labels"]

log = logging.getLogger("slicesplat")

MOST_LABELS = 512


@dataclass(frozen=True)
class ApplySettings:
    """How other data are solved for.

    Attributes
    ----------
    spacing : float
        Lattice constant, in-plane pixels: what the fit of a reconstruction chooses as a rule.
    rounds : int
        Updates of prior, gains and weights, twice.
    labels : LabelSettings
    """

    spacing: float = 1.05
    rounds: int = 2
    labels: LabelSettings = field(default_factory=LabelSettings)


_DEFAULT = ApplySettings()


def apply(
    stacks: Sequence[Stack],
    motion: KnownMotion,
    config: Config | None = None,
    robust: bool = True,
    grid: Grid | None = None,
    progress: Callback | None = None,
    settings: ApplySettings = _DEFAULT,
) -> nib.Nifti1Image:
    """A volume of other stacks on known motion.

    Parameters
    ----------
    stacks : sequence of Stack
        On the grids of those that the motion was found with, in the same order.
    motion : dict
        As `prepare.known_motion.load_motion` gives it; slices without any are left out.
    config : Config, optional
        Resolution, slice profile, seed, threads, device and memory of it count.
    robust : bool
        Weigh pixels and slices by how well they fit, and let the intensity of slices and stacks differ.
    grid : Grid, optional
        Of the volume; around the region, at the resolution that `config` says, when not given.
    progress : callable, optional
    settings : ApplySettings

    Raises
    ------
    InputError
        The stacks hold nothing to reconstruct, or no slice has a pose.
    """
    config, clock = _held(config or Config(), robust, settings), StepClock(progress)
    with limited_threads(config.threads), within_memory(stacks, config, config.fit.spacings):
        backend = chosen_backend(stacks, config)
        load_kernels(backend, clock)
        with clock.step("prepare"):
            prepared = replace(prepare(stacks, config), start=motion)
            if any(stack.carried for stack in prepared.signals):
                prepared = refine(prepared, config, lambda done, total, loss: None, backend)
            registered = _registered(prepared, motion, config)
        with clock.step("fit") as report_progress:
            estimated = estimate(registered, config, report_progress, backend)
        with clock.step("sample"):
            model = model_of(registered, estimated, config, backend)
            if not robust:
                model = replace(model, scale=model.scale * _within(FIT_CUTOFF) / _within(SAMPLING_CUTOFF))
            laid = Grid.around(model, backend=backend) if grid is None else grid
            return sample_volume(model, laid, backend=backend)[0]


def _within(cutoff: float) -> float:
    """The part of a Gaussian's integral that lies within so many standard deviations.

    A field that was fitted with Gaussians that end early is too bright where they are sampled further out, by 2.9 %:
    nothing to an image, an error of a quantitative map.
    """
    return math.erf(cutoff / math.sqrt(2)) - math.sqrt(2 / math.pi) * cutoff * math.exp(-(cutoff**2) / 2)


def _registered(prepared: Prepared, motion: KnownMotion, config: Config) -> Registered:
    """The slices where they are known to be; nothing has to be found out about them but their values."""
    slices = cut(prepared.scaled, config, FIT_MARGIN)
    moved, known = looked_up(motion, slices)
    trust = known.astype(np.float64)
    return Registered(
        stacks=list(prepared.signals),
        scaled=prepared.scaled,
        intensities=prepared.intensities,
        reference=0,
        dropout=~known,
        poses=Poses(moved, np.ones(len(slices)), trust, trust),
        slices=slices.moved(moved),
        common_bias=prepared.common_bias,
    )


def _held(config: Config, robust: bool, settings: ApplySettings) -> Config:
    """The settings with which nothing moves and one lattice is fitted."""
    likelihood = config.fit.likelihood
    if not robust:
        likelihood = replace(likelihood, pixel_limit=np.inf, slice_limit=np.inf, gains=False)
    fit: FitSettings = replace(
        config.fit,
        spacings=(settings.spacing,),
        strengths=(),
        pose_rounds=1,
        final_rounds=0,
        rounds=settings.rounds,
        likelihood=likelihood,
    )
    return replace(config, motion="none", fit=fit)


def apply_labels(
    stacks: Sequence[Stack],
    motion: KnownMotion,
    config: Config | None = None,
    grid: Grid | None = None,
    progress: Callback | None = None,
    settings: ApplySettings = _DEFAULT,
) -> nib.Nifti1Image:
    """A label map of stacks of labels on known motion: at every voxel the label whose field is largest.

    Parameters, errors: as `apply`; also an InputError where values are no labels.
    """
    config, clock = replace(config or Config(), motion="none"), StepClock(progress)
    values = _labels(stacks)
    with limited_threads(config.threads), within_memory(stacks, config, config.fit.spacings):
        backend = chosen_backend(stacks, config)
        load_kernels(backend, clock)
        slices = cut(stacks, config, FIT_MARGIN)
        moved, known = looked_up(motion, slices)
        slices = slices.moved(moved)
        if not known.any():
            raise InputError(
                f"{stacks[0].name} and the other stacks: no slice of the region has a pose; check the poses"
            )
        trust = known.astype(np.float64)
        region = region_field(slices, trust, backend).to("cpu")
        laid = Grid(*grid_over(region, config.resolution, backend)) if grid is None else grid
        inside = region_mask(region, laid.affine, laid.shape, backend)
        with clock.step("labels") as report_progress:
            fields = LabelFields(slices, trust, values, backend, settings.labels)
            fields.solve(lambda done: report_progress(done, fields.steps, None))
            found = fields.largest(laid)
    return nib.Nifti1Image(np.where(inside, found, 0).astype(np.float32), laid.affine)


def _labels(stacks: Sequence[Stack]) -> NDArray[np.float32]:
    """The labels in the stacks' masks, 0 the first of them."""
    seen = np.unique(
        np.concatenate([np.unique(values_where(stack.data, stack.mask)) for stack in stacks] + [np.zeros(1)])
    )
    if len(seen) > MOST_LABELS or (seen < 0).any() or (seen != np.rint(seen)).any():
        raise InputError(
            f"{stacks[0].name} and the other stacks: their values are no labels, whole numbers from 0 on of which "
            f"there are at most {MOST_LABELS}; leave out --labels"
        )
    return seen.astype(np.float32)
