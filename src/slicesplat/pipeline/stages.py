"""The stages of a reconstruction, each from what the one before has left and its settings to what it leaves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.estimate.fit import Watch, joint_fit
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.rigid import Float, Rigid
from slicesplat.geometry.slices import FIT_MARGIN, Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.likelihood.noise import Noise
from slicesplat.likelihood.robust import Weights
from slicesplat.motion.astray import judge_stray
from slicesplat.motion.coarse_to_fine import Poses, as_scanned, as_stacks, pose_errors, register, register_roughly
from slicesplat.motion.ends import search_ends
from slicesplat.motion.gauge import gauge
from slicesplat.motion.stacks import register_by_one_mask
from slicesplat.motion.stillness import simplest_motion
from slicesplat.prepare.assess import StackAssessment, assess, least_motion, warn_of_shading
from slicesplat.prepare.common_bias import common_bias
from slicesplat.prepare.coverage import unresolved
from slicesplat.prepare.intensity import Intensities, scale_intensities, signal
from slicesplat.prepare.outline import outlines
from slicesplat.prepare.refine_masks import agreed_masks, refine_masks
from slicesplat.progress import ReportProgress
from slicesplat.records import SweepRecord
from slicesplat.splat import Backend

log = logging.getLogger("slicesplat")


@dataclass(frozen=True, eq=False)
class Prepared:
    """Stacks that can be worked with.

    Attributes
    ----------
    signals : list of Stack
        Without an offset of their intensities, and without their bias fields if that was asked for.
    scaled : list of Stack
        The same with the brightest tissue at 1.
    intensities : Intensities
        The way back.
    start : dict or None
        By stack and index, where each slice is about: transforms (4, 4); None where nothing is known.
    common_bias : float
        How many times more the brightest part of the region was lit than the darkest, by a field that all stacks
        shared and that they were divided by; 1 where there was none.
    """

    signals: list[Stack]
    scaled: list[Stack]
    intensities: Intensities
    start: dict[tuple[int, int], Float] | None = None
    common_bias: float = 1.0


@dataclass(frozen=True, eq=False)
class Registered:
    """Slices at their places.

    Attributes
    ----------
    stacks : list of Stack
        On the scale of the input; without their bias fields if that was asked for.
    scaled : list of Stack
        The same with the brightest tissue at 1.
    intensities : Intensities
        The way back.
    reference : int
        The stack whose scanner space everything is in.
    dropout : (S,) bool
        Slices that had lost their signal.
    poses : Poses
    slices : Slices
        As the fit sees them, where they were found.
    free : bool
        Whether the slices moved each by itself, as far as the data say.
    common_bias : float
        As `Prepared` has it.
    """

    stacks: list[Stack]
    scaled: list[Stack]
    intensities: Intensities
    reference: int
    dropout: NDArray[np.bool_]
    poses: Poses
    slices: Slices
    free: bool = False
    common_bias: float = 1.0


@dataclass(frozen=True, eq=False)
class Estimated:
    """The field, and slices at their final places, in the scanner space of the reference stack.

    Attributes
    ----------
    field : GaussianField
    slices : Slices
    weights : Weights
    ncc : (S,)
    validation_error : float
    standard_error : (S,)
        Of the poses, mm.
    held : (S,) bool
        Slices that are where their neighbours in time are.
    sweeps : tuple of SweepRecord
        The error after every sweep of the fit, the brightest tissue at 1.
    noise : Noise
        In the pixels.
    image : (P,) float32 or None
        What the field predicts for the slices at gain 1, where it is known.
    """

    field: GaussianField
    slices: Slices
    weights: Weights
    ncc: Float
    validation_error: float
    standard_error: Float
    held: NDArray[np.bool_]
    sweeps: tuple[SweepRecord, ...]
    noise: Noise
    image: Tensor | None


def prepare(stacks: Sequence[Stack], config: Config) -> Prepared:
    """Intensities that can be compared; where it is asked for, without bias fields."""
    for sentence in unresolved(stacks):
        log.warning(sentence)
    if config.interleave:  # what is asked for is believed, not the times
        stacks = [replace(stack, times=None) for stack in stacks]
    signals, intensities = signal(stacks)
    signals, common = _evenly_lit(signals, config)
    alike = config.fit.likelihood.gains
    return Prepared(signals, *scale_intensities(signals, intensities, alike), common_bias=common)


def _evenly_lit(signals: list[Stack], config: Config) -> tuple[list[Stack], float]:
    """The stacks without their bias fields by N4, or without the one that they share; and how large that was."""
    if config.bias_field_correction:
        if config.estimate_bias_field:
            log.info("N4 evens out the stacks: no bias field is estimated in the model")
        from slicesplat.prepare.bias import correct_bias_field  # ITK is slow to import

        return [correct_bias_field(stack) for stack in signals], 1.0
    found = common_bias(signals, config.common_bias) if config.models_bias_field else None
    if found is None:
        return signals, 1.0
    log.info(
        "a bias field that all stacks share lights the brightest part of the region %.1f times as much as the darkest; "
        "it is divided out; --no-estimate-bias-field keeps it",
        found.ratio,
    )
    return [found.divided_out(stack) for stack in signals], found.ratio


def refine(prepared: Prepared, config: Config, report_progress: ReportProgress, backend: Backend) -> Prepared:
    """Carried-over masks that fit, and about where each slice is.

    Raises
    ------
    InputError
        A stack does not show the region.
    """
    scaled = prepared.scaled
    assessments = assess(scaled)
    reference = least_motion(scaled, assessments)
    slices = cut(scaled, config, FIT_MARGIN)
    if prepared.start is not None:
        slices = slices.moved(looked_up(prepared.start, slices)[0])
    elif config.motion != "none":
        found = register_by_one_mask(slices, reference, _dropouts(assessments, slices), config.registration, backend)
        slices = slices.moved(found)
    start = _by_name(slices) if prepared.start is None else prepared.start
    if config.motion != "slices":
        margin = config.masks.between_slices if config.motion == "stack" else config.masks.of_rough_poses
        signals = refine_masks(prepared.signals, slices, np.ones(len(slices)), margin, backend)
        scaled, intensities = scale_intensities(signals, prepared.intensities)
        return replace(prepared, signals=signals, scaled=scaled, intensities=intensities, start=start)
    # Once for what moved between the stacks, once for what moved within them.
    refined = refine_masks(scaled, slices, np.ones(len(slices)), config.masks.between_slices, backend)
    assessments = assess(refined)
    slices = cut(refined, config, FIT_MARGIN, _packages(assessments, config.interleave))
    dropout = _dropouts(assessments, slices)
    motion, weight = register_roughly(
        slices, reference, dropout, looked_up(start, slices)[0], report_progress, backend, config.registration
    )
    slices = slices.moved(motion)
    # A mask that was drawn on a slice without signal says where the region is all the same.
    trust = np.where(dropout, 1.0, weight)
    signals = refine_masks(prepared.signals, slices, trust, config.masks.of_rough_poses, backend)
    scaled, intensities = scale_intensities(signals, prepared.intensities)
    return replace(prepared, signals=signals, scaled=scaled, intensities=intensities, start=_by_name(slices))


def agree_on_masks(prepared: Prepared, config: Config, report_progress: ReportProgress, backend: Backend) -> Prepared:
    """Masks that a network found, made one region in space, and about where each slice is."""
    scaled = prepared.scaled
    assessments = assess(scaled)
    reference, interleave = least_motion(scaled, assessments), _packages(assessments, config.interleave)
    slices = cut(scaled, config, FIT_MARGIN, interleave)
    dropout = _dropouts(assessments, slices)
    weight = np.where(dropout, 0.0, 1.0)
    if config.motion != "none":
        wide = cut(scaled, config, config.registration.outline_margin, interleave)
        start = as_stacks(wide, reference, dropout, None, backend, config.registration).motion
        if config.motion == "slices":
            given = (reference, dropout, start, report_progress, backend, config.registration)
            start, weight = register_roughly(slices, *given)
        slices = slices.moved(start)
    sure = [scaled[stack].found for stack in slices.stack]
    trust = [1.0 if found is None else found[k] for found, k in zip(sure, slices.index, strict=True)]
    motion = _with_neighbours(_by_name(slices), scaled, config.masks.beyond)
    margin = config.masks.of_found
    signals = agreed_masks(prepared.signals, slices, weight * np.nan_to_num(trust), motion, margin, backend)
    scaled, intensities = scale_intensities(signals, prepared.intensities)
    return replace(prepared, signals=signals, scaled=scaled, intensities=intensities, start=motion)


def _with_neighbours(
    motions: dict[tuple[int, int], Float], stacks: Sequence[Stack], most: int
) -> dict[tuple[int, int], Float]:
    """Motions of slices, and for up to so many beyond them that of the nearest one."""
    out = dict(motions)
    for number, stack in enumerate(stacks):
        known = np.array([k for of, k in motions if of == number])
        for k in range(stack.n_slices) if len(known) else ():
            nearest = int(known[np.argmin(np.abs(known - k))])
            if 0 < abs(nearest - k) <= most:
                out[number, k] = motions[number, nearest]
    return out


def register_slices(
    prepared: Prepared, config: Config, report_progress: ReportProgress, backend: Backend
) -> Registered:
    """Where every slice is."""
    scaled, intensities = prepared.scaled, prepared.intensities
    stacks = [intensities.on_input_scale(stack, number) for number, stack in enumerate(prepared.signals)]
    assessments = assess(scaled)
    interleave = _packages(assessments, config.interleave)
    wide = cut(scaled, config, config.registration.outline_margin, interleave)
    slices = cut(scaled, config, FIT_MARGIN, interleave)
    if not config.bias_field_correction:
        warn_of_shading(assessments)
    reference = least_motion(scaled, assessments)
    log.info("reference stack: %s", stacks[reference].name)
    log.debug("packages: %s", interleave)
    dropout = _dropouts(assessments, slices)
    known, free = None, False
    if prepared.start is not None:
        known, there = looked_up(prepared.start, slices)
        dropout = dropout | ~there
    if len(stacks) == 1 or config.motion == "none":
        poses = as_scanned(slices, dropout)
        poses = poses if known is None else replace(poses, motion=known)
    elif config.motion == "stack":
        outline = outlines(scaled, config.masks.outline)
        poses = as_stacks(wide, reference, dropout, known, backend, config.registration, outline)
    else:
        posed = any(stack.poses is not None for stack in scaled)
        start = Rigid.identity(len(slices)) if known is None and posed else known
        random = np.random.default_rng(config.seed)
        outline = outlines(scaled, config.masks.outline)
        given = (reference, dropout, random, report_progress, backend, start, config.registration, outline)
        poses = register(wide, slices, *given)
        simple = simplest_motion(slices, poses.motion, poses.weight, config.registration, backend)
        free = simple is None
        if simple is not None:
            # A stack that matches nowhere does so where it was scanned, too.
            unlike = ~np.isin(slices.stack, slices.stack[poses.weight > 0])
            poses = replace(poses, motion=simple, weight=as_scanned(slices, dropout | unlike).weight)
    here, common = slices.moved(poses.motion), prepared.common_bias
    return Registered(stacks, scaled, intensities, reference, dropout, poses, here, free, common)


def estimate(
    registered: Registered,
    config: Config,
    report_progress: ReportProgress,
    backend: Backend,
    watch: Watch | None = None,
) -> Estimated:
    """The field, and everything else that is unknown, from the slices; `watch` is shown the field on the way.

    Raises
    ------
    InputError
        No slice matches the others.
    """
    slices, stacks = registered.slices, registered.stacks
    kept = slices.mask & slices.measured & (registered.poses.weight > 0)[slices.slice_of_pixel()]
    if not kept.any():
        raise InputError(f"{stacks[0].name} and the other stacks: no slice matches the others; check the masks")
    # Poses fitted where nothing moved, or to a single stack, whose slices nothing crosses, would only follow noise.
    settings = config.fit if registered.free else replace(config.fit, pose_steps=0)
    if not config.models_bias_field or len(stacks) == 1:
        settings = replace(settings, likelihood=replace(settings.likelihood, bias_field=None))
    random = np.random.default_rng(config.seed)
    fit = joint_fit(slices, kept, settings, random, report_progress, backend, config.registration, watch)
    known = (fit.weights, fit.ncc, fit.validation_error, fit.standard_error, fit.held, fit.sweeps, fit.noise, fit.image)
    slices = slices.interpolated(fit.noise.step)
    slices = _without_bias(slices, fit.weights, stacks)
    if config.motion == "none":
        return Estimated(fit.field, slices, *known)
    # Field and slices may have moved as one.
    back = gauge(slices.moved(fit.motion), registered.reference, fit.weights.slice)
    slices = slices.moved(back @ fit.motion)
    return Estimated(fit.field.moved(back), slices, *known)


def believe(registered: Registered, config: Config, backend: Backend) -> tuple[Registered, Float, NDArray[np.bool_]]:
    """What is believed of a registration: poses, their standard errors (S,) mm, and which slices (S,) are held.

    Standard errors are NaN where slices were not moved by themselves.
    """
    slices, poses, settings = registered.slices, registered.poses, config.registration
    held = np.zeros(len(slices), bool)
    if len(registered.stacks) == 1 or config.motion != "slices":
        return registered, np.full(len(slices), np.nan), held
    inside, random = backend.tensor(slices.mask), np.random.default_rng(config.seed)
    motion, moved = search_ends(slices, inside, poses.weight, poses.gain, random, settings, backend)
    verdict = judge_stray(slices.moved(motion), inside, poses.weight, poses.gain, settings, backend, moved)
    if verdict is not None:
        held, motion = verdict.taken_back(len(slices)), verdict.motion(motion)
    errors = pose_errors(slices.moved(motion), poses, held, settings, backend)
    weight = np.where(errors > settings.known_to, 0.0, poses.weight)
    if verdict is not None or moved.any() or (weight != poses.weight).any():
        motion = gauge(slices.moved(motion), registered.reference, weight) @ motion
    poses = replace(poses, motion=motion, weight=weight)
    return replace(registered, poses=poses, slices=slices.moved(motion)), errors, held


def _without_bias(slices: Slices, weights: Weights, stacks: Sequence[Stack]) -> Slices:
    """The slices without the bias fields of the model; what these are is in the log."""
    if weights.bias is None:
        return slices
    ratios = weights.bias.ratios(slices)
    told = ", ".join(f"{100 * (r - 1):.0f} % in {stack.name}" for r, stack in zip(ratios, stacks, strict=True))
    log.info("bias fields are part of the model: brightest over darkest %s", told)
    return replace(slices, pixels=slices.pixels / weights.bias.pixel.cpu().numpy())


def cut(stacks: Sequence[Stack], config: Config, margin: int, interleave: Sequence[int] | None = None) -> Slices:
    """The slices of the stacks, with a margin of so many pixels."""
    try:
        return cut_slices(stacks, config.slice_profile, margin, interleave=interleave)
    except ValueError as error:
        raise InputError(f"{stacks[0].name} and the other stacks: {error}") from error


def _by_name(slices: Slices) -> dict[tuple[int, int], Float]:
    """By stack and index, the motions of slices."""
    names = zip(slices.stack.tolist(), slices.index.tolist(), strict=True)
    return dict(zip(names, slices.motion.matrix, strict=True))


def looked_up(motions: Mapping[tuple[int, int], Float], slices: Slices) -> tuple[Rigid, NDArray[np.bool_]]:
    """The motions (S) of slices, and (S,) for which there is one; the others are where the scanner put them."""
    names = list(zip(slices.stack.tolist(), slices.index.tolist(), strict=True))
    there = np.array([name in motions for name in names], bool)
    return Rigid(np.array([motions.get(name, np.eye(4)) for name in names])), there


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
