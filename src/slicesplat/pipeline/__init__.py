"""From stacks to a volume, as a row of stages: prepare, refine the masks, register, estimate, sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import Config
from slicesplat.estimate.fit import Watch
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices
from slicesplat.geometry.stack import Stack
from slicesplat.likelihood.bias_field import BiasField
from slicesplat.motion.agreement import Agreement, agreement
from slicesplat.notices import kept_warnings
from slicesplat.pipeline.doubts import log_doubts
from slicesplat.pipeline.output import compared, in_standard_space, placement, sample, standard_errors
from slicesplat.pipeline.setup import chosen_backend, load_kernels, numbers_with_a_region, ready
from slicesplat.pipeline.stages import (
    Registered,
    agree_on_masks,
    believe,
    estimate,
    prepare,
    refine,
    register_slices,
)
from slicesplat.progress import Callback, StepClock
from slicesplat.records import BiasRecord, SweepRecord
from slicesplat.result import Reconstruction, Registration
from slicesplat.splat import Backend

__all__ = ["reconstruct", "register"]


Result = TypeVar("Result", bound=Registration)
Given = ParamSpec("Given")


def _with_warnings(make: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same, and the result has the warnings that were given while it was made."""

    @wraps(make)
    def made(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with kept_warnings() as told:
            result = make(*args, **kwargs)
        return replace(result, warnings=tuple(told))

    return made


@_with_warnings
def reconstruct(
    stacks: Sequence[Stack],
    config: Config | None = None,
    progress: Callback | None = None,
    watch: Watch | None = None,
) -> Reconstruction:
    """Reconstruct one isotropic volume from stacks of thick, moved slices.

    Parameters
    ----------
    stacks : sequence of Stack
        With their masks, as `load_stacks` gives them.
    config : Config, optional
    progress : callable, optional
        Called with a `Progress` now and then.
    watch : callable, optional
        Shown the field after every sweep of the fit, such as `report.snapshots.Snapshots`; nothing changes by it.

    Raises
    ------
    InputError
        The stacks hold nothing to reconstruct, or there is no such device, prior or strategy.

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
    config, clock = config or Config(), StepClock(progress)
    with ready(stacks, config) as (used, copies):
        backend, registered = _registered(used, _before_fit(config), clock)
        with clock.step("fit") as report_progress:
            estimated = estimate(registered, config, report_progress, backend, watch)
        placed, axes = None, None
        if config.orientation != "scanner":
            with clock.step("orient"):
                placed = placement(registered, estimated, config, backend)
            if config.orientation == "standard":
                estimated = in_standard_space(estimated, placed)
            else:
                axes = placed.axes
        with clock.step("sample"):
            sampled = sample(registered, estimated, config, backend, axes)
        with clock.step("check"):
            agree, possible = compared(estimated, len(used), config, backend)
        uncertainty = None
        if config.uncertainty:
            with clock.step("uncertainty") as report_progress:
                uncertainty = standard_errors(registered, estimated, sampled, config, report_progress)
    weights, brightest = estimated.weights, registered.intensities.brightest
    known = _Known(weights.slice, weights.gain, estimated.ncc, estimated.standard_error, estimated.held)
    found = _registration(registered, estimated.slices, known, agree, config, clock, backend, weights.bias)
    result = Reconstruction(
        **vars(found),
        volume=sampled.volume,
        mask=sampled.mask,
        model=sampled.model,
        noise=_rounded(weights.sigma * brightest),
        expected_error=_rounded(estimated.validation_error * brightest),
        uncertainty=uncertainty,
        placement=placed,
        lit=None if weights.bias is None else weights.bias.pixel.cpu().numpy(),
        consistency=possible,
        sweeps=[SweepRecord(seen.part, _rounded(seen.error * brightest)) for seen in estimated.sweeps],
    )
    return _told(result, stacks, copies)


@_with_warnings
def register(stacks: Sequence[Stack], config: Config | None = None, progress: Callback | None = None) -> Registration:
    """Find the pose of every slice, without the final field.

    Parameters, errors: as `reconstruct`.
    """
    config, clock = config or Config(), StepClock(progress)
    with ready(stacks, config, volume=False) as (used, copies):
        backend, registered = _registered(used, config, clock)
        registered, standard_error, held = believe(registered, config, backend)
        slices, poses = registered.slices, registered.poses
        agree = agreement(slices, poses.weight, len(used), config.registration, backend)
    known = _Known(poses.weight, poses.gain, poses.ncc, standard_error, held)
    found = _registration(registered, slices, known, agree, config, clock, backend)
    return _told(found, stacks, copies)


def _before_fit(config: Config) -> Config:
    """Settings by which slices are registered when the fit refines their poses."""
    if not config.fit.pose_steps:
        return config
    return replace(config, registration=replace(config.registration, fine=config.registration.before_fit))


def _registered(stacks: Sequence[Stack], config: Config, clock: StepClock) -> tuple[Backend, Registered]:
    """The stages ahead of the estimate."""
    backend = chosen_backend(stacks, config)
    load_kernels(backend, clock, config.fit.strategy)
    with clock.step("prepare"):
        prepared = prepare(stacks, config)
    if any(stack.carried for stack in prepared.signals):
        with clock.step("refine masks") as report_progress:
            prepared = refine(prepared, config, report_progress, backend)
    elif len(stacks) > 1 and config.masks.agree and any(stack.found is not None for stack in prepared.signals):
        with clock.step("refine masks") as report_progress:
            prepared = agree_on_masks(prepared, config, report_progress, backend)
    with clock.step("register") as report_progress:
        return backend, register_slices(prepared, config, report_progress, backend)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of every slice: see `Registration`."""

    weight: Float
    gain: Float
    ncc: Float
    standard_error: Float
    held: NDArray[np.bool_]


def _registration(
    registered: Registered,
    slices: Slices,
    known: _Known,
    agree: Sequence[Agreement],
    config: Config,
    clock: StepClock,
    backend: Backend,
    bias: BiasField | None = None,
) -> Registration:
    """What is known of the slices in the end, counted by the stacks that were used."""
    return Registration(
        slices=slices,
        **vars(known),
        reference=registered.reference,
        settings=config,
        steps=clock.steps,
        dropout=registered.dropout,
        device=backend.name,
        stacks=registered.stacks,
        intensities=registered.intensities,
        agreement=agree,
        searches=registered.poses.searches,
        bias=_bias_records(registered, None if bias is None else bias.ratios(slices)),
    )


def _bias_records(registered: Registered, own: Float | None) -> list[BiasRecord]:
    """How unevenly each stack was lit."""
    ratios = np.ones(len(registered.stacks)) if own is None else own
    return [BiasRecord(number, float(ratio), registered.common_bias) for number, ratio in enumerate(ratios)]


def _told(result: Result, stacks: Sequence[Stack], copies: dict[int, int]) -> Result:
    """The result counted by the stacks as they were given, copies of others among them; its doubts are in the log."""
    used = [number for number in numbers_with_a_region(stacks) if number not in copies]
    result = replace(result.counted(stacks, used), copies=copies)
    log_doubts(result)
    return result


def _rounded(value: float) -> float:
    """Six significant digits: scales of intensities differ."""
    return float(f"{value:.6g}")
