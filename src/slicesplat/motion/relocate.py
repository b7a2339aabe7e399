"""Whole stacks that ended at a wrong place are searched again, over all rotations.

A brain turns by any angle between stacks, its outline is nearly symmetric, and slices that stand in a wrong basin still
find something to match, each by itself. What tells is what the OTHER stacks show: a stack in place correlates with it
inside its masks, one in a wrong basin does not. So the stacks are split into a set that agrees and the rest. Each of
the rest is laid over the set's field turned by all 60 rotations of the icosahedron, none of which is further than 44
degrees from any other rotation; the best of them descend, from the whole stack to single slices, and the most certain
stacks join the set before the others are looked for again (as Prim's spanning tree grows, Bell System Technical Journal
36, 1957, 1389-1401). docs/method.md, Motion.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.pixels import broadcast_to_pixels
from slicesplat.geometry.rigid import Float, Rigid, displacement
from slicesplat.geometry.slices import Slices
from slicesplat.motion.acceptance import least_ncc
from slicesplat.motion.agreement import Agreement, agreement, binned_for_agreement, field_of, predicted
from slicesplat.motion.align import Alignment, align
from slicesplat.motion.runs import runs_in_time
from slicesplat.motion.stacks import SCALE
from slicesplat.solvers.amplitudes import fit_lattice
from slicesplat.splat import CPU, Backend

log = logging.getLogger("slicesplat")
_DEFAULT = RegistrationSettings()


@dataclass(frozen=True)
class StackSearch:
    """How the search for a stack over all rotations ended.

    Attributes
    ----------
    stack : int
    moved : bool
        Whether it was found elsewhere than it was.
    ncc : float
        Correlation of its slices with what the stacks in place show, where it is now.
    lead : float
        By how much that is more than at the best of the starts that ended elsewhere. Where it is little, the stack may
        be anywhere.
    """

    stack: int
    moved: bool
    ncc: float
    lead: float

    def json(self) -> dict[str, Any]:
        """The entry of a result's JSON file."""
        found = {"ncc": round(self.ncc, 4), "start_lead": round(self.lead, 4)}
        return {"stack": self.stack, "moved": self.moved, **found}


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a search has put the slices of a stack."""

    motion: Rigid
    search: StackSearch


def relocate(
    slices: Slices,
    weight: Float,
    reference: int,
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> tuple[Rigid, list[StackSearch]]:
    """Search the stacks that do not agree with the others; motions (S), and what became of each of these stacks.

    Parameters
    ----------
    slices : Slices
        Where they are believed to be, every slice by itself; cut with a margin, so that the outline shows.
    weight : (S,)
        Trust in them; those without any neither tell nor are asked, and move with their stack.
    reference : int
        The stack to begin with where no two agree.
    settings : RegistrationSettings
    backend : Backend
    """
    done: dict[int, StackSearch] = {}
    for _ in range(settings.relocation.passes):
        placed, lost = _split(slices, weight, reference, settings, backend)
        places = None
        if len(placed) == 1 and len(lost) > 1:
            slices, placed, lost, places = _beginning(slices, weight, placed + lost, settings, backend)
        while lost:
            places = places or _searched(slices, weight, placed, lost, settings, backend)
            for stack in _joining(places, settings.relocation.sure):
                log.debug("stack %d searched again: %s", stack, places[stack].search)
                slices = _with_stack(slices, stack, places[stack].motion)
                before = done.get(stack)
                moved = places[stack].search.moved or (before is not None and before.moved)
                done[stack] = replace(places[stack].search, moved=moved)
                placed.append(stack)
                lost.remove(stack)
            places = None
        if not any(search.moved for search in done.values()):
            break
    return slices.motion, [done[stack] for stack in sorted(done)]


def strangers(
    slices: Slices,
    searches: Sequence[StackSearch],
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> NDArray[np.bool_]:
    """Slices (S,) of stacks that agree with the others nowhere: they show another subject, or nothing.

    None where fewer than two stacks would be left.

    Parameters
    ----------
    slices : Slices
    searches : sequence of StackSearch
        How the search for them has ended.
    settings : RegistrationSettings
    backend : Backend
    """
    if not searches:
        return np.zeros(len(slices), bool)
    least = least_ncc(slices, settings, backend)
    unlike = [
        search.stack
        for search in searches
        if search.ncc < least[slices.stack == search.stack].mean() and search.lead < settings.relocation.sure
    ]
    left = len(np.unique(slices.stack)) - len(unlike)
    return np.isin(slices.stack, unlike) if left > 1 else np.zeros(len(slices), bool)


def agree_better(
    slices: Slices,
    before: Rigid,
    after: Rigid,
    weight: Float,
    searches: Sequence[StackSearch],
    settings: RegistrationSettings = _DEFAULT,
    backend: Backend = CPU,
) -> bool:
    """Whether stacks agree clearly better where a search has led than where they were.

    Parameters
    ----------
    slices : Slices
    before, after : Rigid (S)
        Their motions there.
    weight : (S,)
        Trust in them; none in those that take no part.
    searches : sequence of StackSearch
        Which stacks were moved: they are asked, or all where none was.
    settings : RegistrationSettings
    backend : Backend
    """
    count = int(slices.stack.max()) + 1
    was, now = (agreement(slices.moved(motion), weight, count, settings, backend) for motion in (before, after))
    asked = [search.stack for search in searches if search.moved] or range(count)
    gains = np.array([now[stack].ncc - was[stack].ncc for stack in asked])
    known = gains[np.isfinite(gains)]
    return bool(known.size and known.mean() >= settings.relocation.improvement)


def _searched(
    slices: Slices,
    weight: Float,
    placed: list[int],
    lost: list[int],
    settings: RegistrationSettings,
    backend: Backend,
) -> dict[int, _Place]:
    """Where each of the lost stacks is in what those in place show."""
    shown = (weight > 0) & np.isin(slices.stack, placed)
    return {stack: _Search(slices, weight, shown, stack, settings, backend).run() for stack in lost}


def _beginning(
    slices: Slices, weight: Float, stacks: list[int], settings: RegistrationSettings, backend: Backend
) -> tuple[Slices, list[int], list[int], dict[int, _Place]]:
    """One stack to begin with, the others, and where these are in what it shows.

    It is taken as it was scanned: its slices have followed what does not agree with it.

    The first of the stacks that another one is sure to be found in: where none is, that may show another subject. Where
    there is no such stack among the first few, the one in which a place leads by most.
    """
    best, most = None, -np.inf
    for first in stacks[: settings.relocation.beginnings]:
        others = [stack for stack in stacks if stack != first]
        count = int((slices.stack == first).sum())
        scanned = _with_stack(slices, first, Rigid.identity(count))
        places = _searched(scanned, weight, [first], others, settings, backend)
        lead = max(place.search.lead for place in places.values())
        log.debug("beginning with stack %d, the others are found with a lead of %.3f at most", first, lead)
        if lead > most:
            best, most = (scanned, [first], others, places), lead
        if lead >= settings.relocation.sure:
            break
    assert best is not None
    return best


def _joining(places: dict[int, _Place], sure: float) -> list[int]:
    """The stacks whose places lead all others by that much; the one that leads by most where there is none."""
    first = max(places, key=lambda stack: places[stack].search.lead)
    return [stack for stack, place in places.items() if stack == first or place.search.lead >= sure]


def _with_stack(slices: Slices, stack: int, motion: Rigid) -> Slices:
    """The slices with those of one stack elsewhere."""
    moved = slices.motion.matrix.copy()
    moved[slices.stack == stack] = motion.matrix
    return slices.moved(Rigid(moved))


def _split(
    slices: Slices, weight: Float, reference: int, settings: RegistrationSettings, backend: Backend
) -> tuple[list[int], list[int]]:
    """The stacks that agree with each other, or one alone where no two do; and those to be searched."""
    stacks = sorted(int(stack) for stack in np.unique(slices.stack[weight > 0]))
    placed, confirmed = _agreeing(slices, weight, stacks, settings, backend)
    lost = [stack for stack in stacks if stack not in placed]
    if len(placed) == 1 and not confirmed and reference in lost:
        lost[lost.index(reference)], placed = placed[0], [reference]
    return placed, lost


def _agreeing(
    slices: Slices, weight: Float, stacks: list[int], settings: RegistrationSettings, backend: Backend
) -> tuple[list[int], bool]:
    """The stacks that agree with each other: the least convincing is taken away until all that are left convince.

    Where one alone is left, also whether another one confirmed it, if not well enough to go unsearched itself: a
    reference that agrees with none of them is no place to begin from then.
    """
    left, confirmed = list(stacks), False
    while len(left) > 1:
        trust = np.where(np.isin(slices.stack, left), weight, 0.0)
        seen = agreement(slices, trust, max(left) + 1, settings, backend)
        log.debug("agreement of stacks %s: %s", left, [round(seen[stack].ncc, 3) for stack in left])
        doubtful = [stack for stack in left if not convincing(seen[stack], settings)]
        if not doubtful:
            break
        left.remove(min(doubtful, key=lambda stack: seen[stack].ncc))
        confirmed = not seen[left[0]].doubtful
    return left, confirmed


def convincing(seen: Agreement, settings: RegistrationSettings = _DEFAULT) -> bool:
    """Whether a stack agrees so well with the others that no other place has to be looked for."""
    return bool(np.isnan(seen.ncc) or seen.ncc >= seen.least * settings.relocation.convincing / settings.least_ncc)


@dataclass(frozen=True, eq=False)
class _Search:
    """The search for one stack in what others show.

    Attributes
    ----------
    slices : Slices
        Where they are.
    weight : (S,)
    shown : (S,) bool
        Slices of the stacks that are in place.
    stack : int
    settings : RegistrationSettings
    backend : Backend
    """

    slices: Slices
    weight: Float
    shown: NDArray[np.bool_]
    stack: int
    settings: RegistrationSettings
    backend: Backend

    def run(self) -> _Place:
        """The best place of the stack's slices: where they are, unless another one is clearly better."""
        own = np.flatnonzero(self.slices.stack == self.stack)
        sound = own[self.weight[own] > 0]
        whole = self._ends_of_starts(sound)
        places = [self.slices.motion[sound], *self._followed(sound, whole)]
        ncc = self._validated(sound, places)
        best = int(np.argmax(ncc))
        kept = best if ncc[best] > ncc[0] + self.settings.relocation.improvement else 0
        rivals = [other for other, place in enumerate(places) if self._apart(sound, places[kept], place)]
        lead = float(ncc[kept] - max((ncc[other] for other in rivals), default=0.0))
        motion = self.slices.motion[own].matrix.copy()
        if kept:
            # Slices that were not asked go where the whole stack went.
            motion[:] = whole[kept - 1].matrix
            motion[np.isin(own, sound)] = places[kept].matrix
        return _Place(Rigid(motion), StackSearch(self.stack, kept > 0, float(ncc[kept]), lead))

    def _ends_of_starts(self, sound: NDArray[np.int64]) -> list[Rigid]:
        """Motions of the whole stack where the best starts have ended on coarse pixels, each place once."""
        settings, search = self.settings, self.settings.relocation
        few = self.slices.take(sound[:: max(1, len(sound) // search.slices)])
        few = few.moved(Rigid.identity(len(few)))
        few = few.binned(int(np.clip(round(search.pixel / float(np.median(few.step))), 1, few.shape.min())))
        centre = np.concatenate([few.world_points(s) for s in range(len(few))]).mean(axis=0)
        shown = np.flatnonzero(self.shown).tolist()
        target = np.concatenate([self.slices.world_points(s) for s in shown]).mean(axis=0)
        from scipy.spatial.transform import Rotation  # slow to import, and for stacks that are lost alone

        turns = Rotation.create_group("I").as_rotvec()
        shifts = np.broadcast_to(target - centre, turns.shape)
        starts = Rigid.exp(np.concatenate([shifts, turns], axis=1)).about(centre)
        group = np.repeat(np.arange(len(starts)), len(few))
        trial = few.take(np.tile(np.arange(len(few)), len(starts))).moved(starts[group])
        found = self._aligned(trial, group, settings.stack_spacing, settings.stack_steps, SCALE)
        pixels = np.diff(trial.offset)
        misfit = np.bincount(group, found.misfit**2 * pixels) / np.bincount(group, pixels)
        ends, kept = found.motion[:: len(few)], list[Rigid]()
        for start in np.argsort(misfit, kind="stable").tolist():
            if all(self._apart(sound, ends[start], other) for other in kept):
                kept.append(ends[start])
        return kept[: search.kept_starts]

    def _followed(self, sound: NDArray[np.int64], whole: list[Rigid]) -> list[Rigid]:
        """Motions of the stack's slices after each of these places was followed from the whole stack to single ones."""
        count, size = len(whole), len(sound)
        own = self.slices.take(sound)
        trial = own.take(np.tile(np.arange(size), count))
        trial = trial.moved(Rigid(np.repeat([place.matrix for place in whole], size, axis=0)))
        for level in self.settings.relocation.levels:
            runs = runs_in_time(own, level.run)
            group = np.concatenate([runs + number * (runs.max() + 1) for number in range(count)])
            steps = level.rounds * self.settings.steps
            trial = trial.moved(self._aligned(trial, group, level.spacing, steps, level.scale).motion)
        return [trial.motion[number * size : (number + 1) * size] for number in range(count)]

    def _aligned(self, trial: Slices, group: NDArray[np.int64], spacing: float, steps: int, scale: float) -> Alignment:
        """Groups of slices moved onto the field of the stacks in place, outlines included."""
        which, settings = np.flatnonzero(self.shown), self.settings
        others, ones = self.slices.take(which), np.ones(len(trial))
        trust = broadcast_to_pixels(self.weight[which], others, self.backend.device)
        given = (others, self.backend.tensor(others.pixels), trust, np.ones(len(which)), spacing)
        field, _ = fit_lattice(*given, settings.iterations, settings.ridge, self.backend)
        start = (trial, trial.pixels, np.ones_like(trial.pixels), ones, scale * ones, group, steps)
        return align(field, *start, backend=self.backend)

    def _validated(self, sound: NDArray[np.int64], places: list[Rigid]) -> Float:
        """Correlation (n,) of the stack's slices, inside the masks, with what the stacks in place show there."""
        coarse, which = binned_for_agreement(self.slices), np.flatnonzero(self.shown)
        field = field_of(coarse, which, self.weight[which], self.settings, self.backend)
        trial = coarse.take(np.tile(sound, len(places)))
        trial = trial.moved(Rigid(np.concatenate([place.matrix for place in places])))
        ncc, size = (part.reshape(len(places), -1) for part in predicted(field, trial, self.backend))
        return np.asarray(np.average(ncc, axis=1, weights=size))

    def _apart(self, sound: NDArray[np.int64], one: Rigid, other: Rigid) -> bool:
        """Whether two places of the stack are different ones."""
        frame = self.slices.frame[sound]
        apart = displacement(_batch(one, len(sound)) @ frame, _batch(other, len(sound)) @ frame)
        return bool(np.median(apart) > self.settings.relocation.elsewhere)


def _batch(motion: Rigid, count: int) -> Rigid:
    """One motion for each of so many slices."""
    return Rigid(np.broadcast_to(motion.matrix, (count, 4, 4)))
