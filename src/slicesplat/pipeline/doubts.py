"""What a user should look at: told with every result, so that no stack goes silently."""

from __future__ import annotations

import logging
from collections import Counter

from slicesplat.motion.relocate import convincing
from slicesplat.result import Registration

log = logging.getLogger("slicesplat")


def log_doubts(result: Registration) -> None:
    """Say how many slices of each stack are left out and why, and which stack does not fit the others."""
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
    _log_searches(result)
    used = len(reasons) - sum(reason is not None for reason in reasons)
    if used < len(reasons) / 2:
        log.warning("only %d of %d slices are used; look at the volume, and check masks and stacks", used, len(reasons))


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
