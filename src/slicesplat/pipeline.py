"""`reconstruct`: stacks in, a sharp volume out, in seven steps, each one call (docs/method.md)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numba
import numpy as np
import torch
from numpy.typing import NDArray

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.estimate.agreement import UNKNOWN, Agreement, agreement
from slicesplat.estimate.background import BACKGROUND_MARGIN, background_field
from slicesplat.estimate.joint import Fit, FitSettings, joint_fit
from slicesplat.estimate.uncertainty import standard_error
from slicesplat.estimate.warm_up import compile_kernels
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.jit import keeps_kernels, when_compiling
from slicesplat.motion.register import Registration as Poses
from slicesplat.motion.register import Tell, as_scanned, gauge, register_by_one_mask, register_roughly
from slicesplat.motion.register import register as find_poses
from slicesplat.prepare.assess import StackAssessment, assess, least_motion, warn_of_shading
from slicesplat.prepare.bias import correct_bias_field
from slicesplat.prepare.coverage import unresolved
from slicesplat.prepare.duplicates import find_copies, warn_of_copies
from slicesplat.prepare.intensity import Intensities, scale_intensities, signal
from slicesplat.prepare.memory import within_memory
from slicesplat.prepare.refine_masks import BETWEEN_SLICES, OF_ROUGH_POSES, refine_masks
from slicesplat.prepare.region import grid_over, region_field, region_mask
from slicesplat.progress import Callback, StepClock
from slicesplat.result import Reconstruction, Registration
from slicesplat.splat import Backend, choose_backend
from slicesplat.splat.grid import sample_on_grid

__all__ = ["reconstruct", "register"]

log = logging.getLogger("slicesplat")

LOAD_KERNELS = "load kernels"
OUTLINE_MARGIN = 8  # pixels around the mask that the coarse registration sees as empty
FIT_MARGIN = 2  # pixels; the fit sees the mask only


def reconstruct(
    stacks: Sequence[Stack], config: Config | None = None, progress: Callback | None = None
) -> Reconstruction:
    """Reconstruct one isotropic volume from stacks of thick, moved slices.

    Parameters
    ----------
    stacks : sequence of Stack
        With their masks, as `load_stacks` gives them.
    config : Config, optional
    progress : callable, optional
        Called with a `Progress` now and then.

    Raises
    ------
    InputError
        The stacks hold nothing to reconstruct, or there is no such device.

    Examples
    --------
    >>> from slicesplat.validation.phantom import brain_phantom
    >>> from slicesplat.validation.simulate import SimulationConfig, simulate
    >>> phantom = brain_phantom(size_mm=40.0, spacing=1.6)
    >>> stacks = simulate(*phantom, SimulationConfig(motion="none")).stacks
    >>> result = reconstruct(stacks, Config(resolution=1.6))
    >>> [round(float(size), 3) for size in result.volume.header.get_zooms()]
    [1.6, 1.6, 1.6]
    """
    config = config or Config()
    clock = StepClock(progress)
    with _ready(stacks, config) as (used, copies):
        start = _registered(used, config, clock)
        backend, slices, intensities = start.backend, start.slices, start.intensities
        with clock.step("fit") as tell:
            kept = slices.mask & slices.measured & (start.poses.weight > 0)[slices.slice_of_pixel()]
            if not kept.any():
                raise InputError(f"{stacks[0].name} and the other stacks: no slice matches the others; check the masks")
            random = np.random.default_rng(config.seed)
            # Nothing crosses the slices of a single stack: poses fitted to it would only follow its noise.
            settings = FitSettings() if len(start.stacks) > 1 else replace(FitSettings(), pose_steps=0)
            fit = joint_fit(slices, kept, settings, start.interleave, random, tell, backend)
            slices, field = _keep_gauge(fit, slices, start.reference)
        with clock.step("sample"):
            volume, mask = _sample(field, fit.weights.slice, slices, config.resolution, intensities, backend)
            if config.with_background:
                around = background_field(_with_margin(slices, start.scaled, config), field, fit.weights, backend)
                both = GaussianField.concatenate([field, around])
                volume, mask = _surround(volume, mask, both, intensities, backend)
            field = field.to("cpu")
            agree = agreement(slices, fit.weights.slice, len(start.stacks), backend)
        uncertainty = None
        if config.uncertainty:
            with clock.step("uncertainty") as tell:
                inside, random = np.asarray(mask.dataobj) > 0, np.random.default_rng(config.seed)
                error = standard_error(field, slices, fit.weights, inside, mask.affine, random, tell)
                uncertainty = nib.Nifti1Image(intensities.error(error), mask.affine)
    result = Reconstruction(
        **_as_given(stacks, copies, start, slices, agree),
        weight=fit.weights.slice,
        gain=fit.weights.gain,
        ncc=fit.ncc,
        settings=config,
        steps=clock.steps,
        dropout=start.dropout,
        device=backend.device.type,
        volume=volume,
        mask=mask,
        field=replace(field, amplitudes=torch.nan_to_num(field.amplitudes * intensities.brightest)),
        noise=_rounded(fit.weights.sigma * intensities.brightest),
        expected_error=_rounded(fit.held_out * intensities.brightest),
        uncertainty=uncertainty,
    )
    _log_doubts(result)
    return result


def register(stacks: Sequence[Stack], config: Config | None = None, progress: Callback | None = None) -> Registration:
    """Find the pose of every slice, without the final field.

    Parameters, errors: as `reconstruct`.
    """
    config = config or Config()
    clock = StepClock(progress)
    with _ready(stacks, config, volume=False) as (used, copies):
        start = _registered(used, config, clock)
        agree = agreement(start.slices, start.poses.weight, len(start.stacks), start.backend)
    result = Registration(
        **_as_given(stacks, copies, start, start.slices, agree),
        weight=start.poses.weight,
        gain=start.poses.gain,
        ncc=start.poses.ncc,
        settings=config,
        steps=clock.steps,
        dropout=start.dropout,
        device=start.backend.device.type,
    )
    _log_doubts(result)
    return result


@dataclass(eq=False)
class _Registered:
    """What steps 1 to 4 leave.

    Attributes
    ----------
    backend : Backend
    stacks : sequence of Stack
        On the scale of the input; without their bias fields if that was asked for.
    scaled : list of Stack
        The same with the brightest tissue at 1.
    intensities : Intensities
        The way back.
    reference : int
        The stack whose scanner space everything is in.
    interleave : list of int
        Packages of each stack.
    dropout : (S,) bool
        Slices that had lost their signal.
    poses : Poses
    slices : Slices
        As the fit sees them, at their poses.
    """

    backend: Backend
    stacks: Sequence[Stack]
    scaled: list[Stack]
    intensities: Intensities
    reference: int
    interleave: list[int]
    dropout: NDArray[np.bool_]
    poses: Poses
    slices: Slices


@contextmanager
def _ready(
    stacks: Sequence[Stack], config: Config, volume: bool = True
) -> Iterator[tuple[list[Stack], dict[int, int]]]:
    """Threads and memory for the work: the stacks to use, and those left out because they are copies of others.

    Nothing is told before it is known that the work can be done: a refusal is one line and nothing else.
    """
    found = find_copies(stacks)
    copies = {} if config.keep_duplicates else found
    used = [stack for number, stack in enumerate(stacks) if number not in copies]
    with _threads(config.threads), within_memory(used, config, FitSettings().spacings, volume):
        kept = (
            "both are used, as asked for" if config.keep_duplicates else "it is left out; --keep-duplicates uses both"
        )
        warn_of_copies(stacks, found, kept)
        yield used, copies


def _as_given(
    given: Sequence[Stack], copies: dict[int, int], start: _Registered, slices: Slices, agreement: Sequence[Agreement]
) -> dict[str, Any]:
    """What a result has for every stack, counted as the stacks were given."""
    numbers = np.array([number for number in range(len(given)) if number not in copies], np.int32)
    stacks, agrees = list(given), [UNKNOWN] * len(given)
    for number, stack, seen in zip(numbers, start.stacks, agreement, strict=True):
        stacks[number], agrees[number] = stack, seen
    return {
        "slices": replace(slices, stack=numbers[slices.stack]),
        "reference": int(numbers[start.reference]),
        "stacks": stacks,
        "intensities": start.intensities.counted(numbers.tolist(), len(given)),
        "agreement": agrees,
        "copies": copies,
    }


def _registered(stacks: Sequence[Stack], config: Config, clock: StepClock) -> _Registered:
    """Steps 1 to 4: everything ahead of the fit."""
    _check_interleave(stacks, config.interleave)
    backend = _backend(config)
    _prepare_kernels(backend, clock)
    with clock.step("prepare"):
        for sentence in unresolved(stacks):
            log.warning(sentence)
        signals, intensities = signal(stacks)
        signals = _corrected(signals, config)
        scaled, intensities = scale_intensities(signals, intensities)
    moved = None
    if any(stack.carried for stack in signals):
        with clock.step("tighten masks") as tell:
            signals, moved = _tightened(signals, scaled, config, tell, backend)
            scaled, intensities = scale_intensities(signals, intensities)
    stacks = [intensities.on_input_scale(stack, number) for number, stack in enumerate(signals)]
    with clock.step("register") as tell:
        wide = _cut(scaled, config, OUTLINE_MARGIN)
        slices = _cut(scaled, config, FIT_MARGIN)
        assessments = assess(scaled)
        if not config.bias_field_correction:
            warn_of_shading(assessments)
        reference = least_motion(scaled, assessments)
        interleave = _packages(assessments, config.interleave)
        log.info("reference stack: %s", stacks[reference].name)
        log.debug("packages: %s", interleave)
        random = np.random.default_rng(config.seed)
        dropout = _dropouts(assessments, slices)
        start = None if moved is None else np.array([moved[name] for name in _named(slices)])
        if len(stacks) == 1:
            poses = as_scanned(slices, dropout)
        else:
            poses = find_poses(wide, slices, reference, interleave, dropout, random, tell, backend, start)
        slices = slices.with_poses(poses.pose)
    return _Registered(backend, stacks, scaled, intensities, reference, interleave, dropout, poses, slices)


def _check_interleave(stacks: Sequence[Stack], interleave: int) -> None:
    for stack in stacks:
        if interleave > stack.n_slices:
            raise InputError(
                f"{stack.name}: interleave {interleave}, but only {stack.n_slices} slices; "
                "give the number of packages, or 0 to detect it"
            )


def _prepare_kernels(backend: Backend, clock: StepClock) -> None:
    """Step 1: the kernels, loaded or compiled; the step is called by what it turns out to be."""
    compiles = f"compile kernels ({'once per installation' if keeps_kernels() else 'in memory'})"
    with clock.step(LOAD_KERNELS), when_compiling(lambda: clock.rename(compiles)):
        compile_kernels(backend)


def _tightened(
    stacks: Sequence[Stack], scaled: Sequence[Stack], config: Config, tell: Tell, backend: Backend
) -> tuple[list[Stack], dict[tuple[int, int], NDArray[np.float64]]]:
    """Stacks whose carried-over masks fit, and about where each slice is: by stack and index, transforms (4, 4)."""
    slices = _cut(scaled, config, FIT_MARGIN)
    assessments = assess(scaled)
    reference = least_motion(scaled, assessments)
    slices = slices.with_poses(register_by_one_mask(slices, reference, _dropouts(assessments, slices), backend))
    moved = _transforms(slices)
    # Once for what moved between the stacks, once for what moved within them.
    tighter = refine_masks(scaled, slices, np.ones(len(slices)), BETWEEN_SLICES, backend)
    slices = _cut(tighter, config, FIT_MARGIN)
    assessments = assess(tighter)
    interleave, dropout = _packages(assessments, config.interleave), _dropouts(assessments, slices)
    start = np.array([moved[name] for name in _named(slices)])
    pose, weight = register_roughly(slices, reference, interleave, dropout, start, tell, backend)
    slices = slices.with_poses(pose)
    # A mask that was drawn on a slice without signal says where the region is all the same.
    tighter = refine_masks(stacks, slices, np.where(dropout, 1.0, weight), OF_ROUGH_POSES, backend)
    return tighter, _transforms(slices)


def _transforms(slices: Slices) -> dict[tuple[int, int], NDArray[np.float64]]:
    """By stack and index: from where the scanner put a slice to where it is, transforms (4, 4) of the world."""
    return dict(zip(_named(slices), slices.world_transforms(), strict=True))


def _cut(stacks: Sequence[Stack], config: Config, margin: int) -> Slices:
    """The slices of the stacks, with a margin of so many pixels."""
    try:
        return cut_slices(stacks, config.slice_profile, margin)
    except ValueError as error:
        raise InputError(f"{stacks[0].name} and the other stacks: {error}") from error


def _named(slices: Slices) -> list[tuple[int, int]]:
    """Stack and index of every slice."""
    return list(zip(slices.stack.tolist(), slices.index.tolist(), strict=True))


def _backend(config: Config) -> Backend:
    """The backend that was asked for."""
    try:
        backend = choose_backend(config.device)
    except ValueError as error:
        raise InputError(str(error)) from error
    log.info("device: %s", backend.device.type)
    return backend


def _log_doubts(result: Registration) -> None:
    """Say how many slices of each stack are left out and why, and what does not fit; a stack never goes silently."""
    reasons = result.left_out()
    for number, (stack, agrees) in enumerate(zip(result.stacks, result.agreement, strict=True)):
        own = [reason for reason, s in zip(reasons, result.slices.stack, strict=True) if s == number]
        lost = Counter(reason for reason in own if reason)
        if lost:
            told = ", ".join(f"{count} for {reason}" for reason, count in sorted(lost.items()))
            level = logging.WARNING if sum(lost.values()) >= len(own) / 2 else logging.INFO
            log.log(level, "%s: %d of %d slices left out: %s", stack.name, sum(lost.values()), len(own), told)
        if agrees.doubtful:
            log.warning(
                "%s: does not agree with what the other stacks show (correlation %.2f); look at the volume, and check "
                "that the stack shows the same subject and that its orientation is right",
                stack.name,
                agrees.ncc,
            )
    used = len(reasons) - sum(reason is not None for reason in reasons)
    if used < len(reasons) / 2:
        log.warning("only %d of %d slices are used; look at the volume, and check masks and stacks", used, len(reasons))


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Use so many threads in our kernels; all that there are for 0.

    PyTorch gets one: its share of the work is small, its sums depend on the number of threads, and a second pool of
    threads would spin for the cores that the first one works on.
    """
    before = numba.get_num_threads(), torch.get_num_threads()
    most = numba.config.NUMBA_NUM_THREADS
    numba.set_num_threads(min(threads, most) or most)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


def _corrected(stacks: list[Stack], config: Config) -> list[Stack]:
    """Step 2: the stacks without their bias fields where that is asked for."""
    return [correct_bias_field(stack) for stack in stacks] if config.bias_field_correction else stacks


def _rounded(value: float) -> float:
    """Six significant digits: scales of intensities differ."""
    return float(f"{value:.6g}")


def _packages(assessments: Sequence[StackAssessment], given: int) -> list[int]:
    """Packages of each stack: as given, or the most that any stack of one protocol shows: a still one shows none."""
    if given:
        return [given] * len(assessments)
    protocol = [(round(seen.spacing, 2), round(seen.thickness, 2)) for seen in assessments]
    return [
        max(seen.interleave for seen, other in zip(assessments, protocol, strict=True) if other == mine)
        for mine in protocol
    ]


def _dropouts(assessments: Sequence[StackAssessment], slices: Slices) -> NDArray[np.bool_]:
    """(S,) the slices that lost their signal."""
    empty = np.logical_and.reduceat(~(slices.mask & slices.measured), slices.offset[:-1])
    lost = [index in assessments[stack].dropouts for stack, index in zip(slices.stack, slices.index, strict=True)]
    return np.array(lost, bool) | empty


def _keep_gauge(fit: Fit, slices: Slices, reference: int) -> tuple[Slices, GaussianField]:
    """Slices and field moved as one so that the reference stack is, on average, where the scanner put it."""
    back = gauge(fit.pose, slices, reference, fit.weights.slice)
    return slices.with_poses(back @ fit.pose), fit.field.moved(back)


def _sample(
    field: GaussianField,
    weight: NDArray[np.float64],
    slices: Slices,
    resolution: float,
    intensities: Intensities,
    backend: Backend,
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Step 7: the field and the region's mask on the output grid."""
    region = region_field(slices, weight, backend)
    affine, shape = grid_over(region, resolution, backend)
    mask = region_mask(region, affine, shape, backend)
    values = np.maximum(sample_on_grid(field, affine, shape, backend), 0.0)
    volume = nib.Nifti1Image(intensities.volume(np.where(mask, values, 0.0)), affine)
    return volume, nib.Nifti1Image(mask.astype(np.uint8), affine)


def _with_margin(slices: Slices, stacks: Sequence[Stack], config: Config) -> Slices:
    """The same slices at the same poses, with their surroundings."""
    wide = cut_slices(stacks, config.slice_profile, int(np.ceil(BACKGROUND_MARGIN / slices.step.min())))
    return wide.with_poses(slices.world_transforms() @ wide.nominal)


def _surround(
    volume: nib.Nifti1Image, mask: nib.Nifti1Image, field: GaussianField, intensities: Intensities, backend: Backend
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Volume and mask on a grid with a margin; the field outside the mask, what was there inside it."""
    spacing = float(volume.header.get_zooms()[0])
    margin = int(np.ceil(BACKGROUND_MARGIN / spacing))
    affine = volume.affine.copy()
    affine[:3, 3] -= margin * affine[:3, :3].sum(axis=1)
    values, inside = np.pad(np.asarray(volume.dataobj), margin), np.pad(np.asarray(mask.dataobj), margin)
    around = intensities.volume(np.maximum(sample_on_grid(field, affine, values.shape, backend), 0.0))
    return nib.Nifti1Image(np.where(inside, values, around), affine), nib.Nifti1Image(inside, affine)
