"""What a user should look at: told with every result, so that no stack goes silently."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np

from slicesplat.motion.astray import astray
from slicesplat.motion.relocate import convincing
from slicesplat.motion.time_prior import time_prior
from slicesplat.result import Reconstruction, Registration

log = logging.getLogger("slicesplat")


def log_doubts(result: Registration) -> None:
    """Say how many slices of each stack are left out and why, which poses are odd, and which stack does not fit."""
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
    placed = result.placement if isinstance(result, Reconstruction) else None
    if placed is not None and placed.doubtful:
        log.warning(
            "standard space: the brain's orientation is not certain (correlation %.2f with the template, %.3f above "
            "the next best orientation); look at the volume, and give --template, or take --orientation scanner",
            placed.ncc,
            placed.lead,
        )
    _log_odd_poses(result)
    _log_searches(result)
    used = len(reasons) - sum(reason is not None for reason in reasons)
    if used < len(reasons) / 2:
        log.warning("only %d of %d slices are used; look at the volume, and check masks and stacks", used, len(reasons))


def _log_odd_poses(result: Registration) -> None:
    """Name the slices whose own pixels do not say where they are, and those that lie off their neighbours in time."""
    if result.settings.motion != "slices" or not np.isfinite(result.standard_error).any():
        return
    slices, used = result.slices, np.array([record.used for record in result.slice_records()])
    settings = result.settings.registration
    prior = time_prior(slices, np.where(result.held, 0.0, result.weight), settings.time)
    step = prior.deviation(slices.pose)
    off = used & ~result.held & astray(slices, prior, settings.recovery)
    for number, stack in enumerate(result.stacks):
        held, odd = (np.flatnonzero(choice & (slices.stack == number)) for choice in (used & result.held, off))
        if len(held):
            log.info(
                "%s: slices %s (counting from 0) do not show where they are; they were put where their neighbours in "
                "time are, known to %.1f mm",
                stack.name,
                ", ".join(str(slices.index[s]) for s in held),
                result.standard_error[held].max(),
            )
        if len(odd):
            log.info(
                "%s: slices %s (counting from 0) lie up to %.1f mm and %.1f degrees from where their neighbours in "
                "time are; if the subject did not jump, look at them among the simulated slices",
                stack.name,
                ", ".join(str(slices.index[s]) for s in odd),
                np.linalg.norm(step[odd, :3], axis=1).max(),
                np.rad2deg(np.linalg.norm(step[odd, 3:], axis=1).max()),
            )


def _log_searches(result: Registration) -> None:
    """Say which stacks were searched over all rotations, and which of them may be anywhere."""
    settings = result.settings.registration
    for search in result.searches:
        name, agrees = result.stacks[search.stack].name, result.agreement[search.stack]
        if search.lead < settings.relocation.sure and not convincing(agrees, settings):
            log.warning(
                "%s: may be at a wrong place (correlation %.2f with the other stacks, only %.2f more than at the next "
                "best place); look at the volume",
                name,
                search.ncc,
                search.lead,
            )
        elif search.moved:
            log.info("%s: found again at another place than at first (correlation %.2f)", name, search.ncc)
