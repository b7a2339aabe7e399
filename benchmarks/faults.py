"""Examinations that are sound, and such that something is wrong with: what a verdict has to tell apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from cases import SIMULATED, Source, phantom_source
from scenarios import ATLAS, LEVELS, Examination, Scenario, examination, source
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial.transform import Rotation

from slicesplat.geometry.stack import Stack
from slicesplat.validation.motion import Motion
from slicesplat.validation.simulate import SimulationConfig, simulate

SOUND = ("as scanned", "dropouts", "bias")
"""What every examination has some of, and a reconstruction copes with. (Masks 5 mm too wide hold as much again as the
brain where that is small, and cost up to 4.6 dB.)"""
HEAVY_NOISE = (0.15, 0.35)
"""Standard deviation, of the brightest tissue; usual is 0.03."""
AGES = ("ga22", "ga23", "ga24")
"""Of the atlas: brains of 60 to 69 mm. Larger ones take longer, and tell nothing else."""
INFANTS = ("infant-severe", "infant-still")
"""Individuals, finely folded and not symmetric; shrunk to the size of a fetus's brain."""
SIZE, SPACING = 66.0, 0.8
"""mm: length of what is shrunk, and of its voxels."""
PHANTOM_SIZE = 62.0
"""mm."""
PIXEL = 1.25
"""mm, as fetuses are scanned; slices are 3.6 mm thick, every 4 mm."""
_USUAL = 3  # stacks at most, or as many as the motion asks for
_ORGAN_SIZE = 64.0  # mm
_ORGAN_SCALES = (2.5, 6.0)  # mm, of its texture
_CUT = 0.15
"""How far from the middle half a brain may be cut, as a share of its length."""
_SEEDS = {"development": 400_000, "judgement": 3_200_000}
"""By name of a set of cases, where the numbers of its scenarios begin: no case is in two sets."""


@dataclass(frozen=True)
class Trial:
    """One case: sound, or with a fault.

    Attributes
    ----------
    number : int
    fault : str
        "" for a sound one.
    scenario : Scenario
        What the fault was made to.
    """

    number: int
    fault: str
    scenario: Scenario

    @property
    def name(self) -> str:
        """What it is called in tables."""
        one = self.scenario
        return f"{self.number}: {one.source}, {one.level}, {one.stacks} stacks, {self.fault or one.trouble}"


def subjects() -> list[str]:
    """What can be simulated from; the phantom where nothing is shared, whose symmetry hides half of the faults."""
    atlas = [name for name in AGES if (ATLAS / f"{name}-srr.nii.gz").exists()]
    return [*atlas, *(name for name in INFANTS if (SIMULATED / name).is_dir())] or ["phantom"]


@lru_cache(maxsize=4)
def subject(name: str) -> Source:
    """The volume of that name, an infant's made smaller."""
    if name == "phantom":
        return phantom_source(PHANTOM_SIZE, SPACING)
    fine = source(name)
    if name not in INFANTS:
        return fine
    step = np.linalg.norm(fine.affine[:3, :3], axis=0)
    extent = np.ptp(np.argwhere(fine.mask) * step, axis=0)
    factor = step * SIZE / (extent.max() * SPACING)
    smooth = gaussian_filter(fine.volume, 0.4 / factor)  # what the coarse grid cannot hold
    volume, mask = zoom(smooth, factor, order=1), zoom(fine.mask.astype(np.float32), factor, order=1) >= 0.5
    affine = np.eye(4)
    affine[:3, :3] = fine.affine[:3, :3] / step * SPACING
    return Source(name, volume.astype(np.float32), affine, mask)


def trial(number: int, which: str = "judgement") -> Trial:
    """The case of that number: even ones are sound, and faults take turns among the others."""
    seed = _SEEDS[which] + number
    rng = np.random.default_rng([14, seed])
    names = subjects()
    shown = names[int(rng.integers(len(names)))]
    fault = list(FAULTS)[number // 2 % len(FAULTS)] if number % 2 else ""
    if fault == "two stacks, severe":
        return Trial(number, fault, Scenario(seed, "severe", shown, 2, "as scanned"))
    level = list(LEVELS)[int(rng.integers(len(LEVELS)))] if fault else list(LEVELS)[number // 2 % len(LEVELS)]
    fewest = LEVELS[level][2][0]
    trouble = "as scanned" if fault else SOUND[int(rng.integers(len(SOUND)))]
    return Trial(
        number, fault, Scenario(seed, level, shown, int(rng.integers(fewest, max(fewest, _USUAL) + 1)), trouble)
    )


@lru_cache(maxsize=1)
def without_fault(chosen: Trial) -> Examination:
    """What a user would have if nothing were wrong."""
    return examination(chosen.scenario, subject(chosen.scenario.source), PIXEL)


def made(chosen: Trial) -> Examination:
    """What a user has, faults included; the sound part of it is as if there were none."""
    found = without_fault(chosen)
    if not chosen.fault:
        return found
    rng = np.random.default_rng([15, chosen.scenario.number])
    worst = int(rng.integers(len(found.stacks)))
    stacks, lost = FAULTS[chosen.fault](found.stacks, worst, chosen.scenario, rng)
    numbers = [number for number in range(len(stacks)) if number not in lost]
    if not numbers:
        return replace(found, stacks=stacks)
    return Examination(stacks, found.sound.subset(numbers, found.sound.name), numbers)


Faulty = tuple[list[Stack], list[int]]
"""The stacks, and the numbers of those that show nothing of the subject as it is."""


def _mirrored(stacks: list[Stack], worst: int, _scenario: Scenario, _rng: np.random.Generator) -> Faulty:
    """The affine of one stack has left and right swapped, about the middle of what it shows."""
    stack = stacks[worst]
    swap = np.diag([-1.0, 1.0, 1.0, 1.0])
    swap[0, 3] = 2 * stack.masked_points()[:, 0].mean()
    return _with(stacks, worst, replace(stack, affine=swap @ stack.affine)), [worst]


def _scaled_thickness(factor: float) -> Callable[[list[Stack], int, Scenario, np.random.Generator], Faulty]:
    def scaled(stacks: list[Stack], worst: int, _scenario: Scenario, rng: np.random.Generator) -> Faulty:
        """Of all stacks, or of one alone."""
        chosen = range(len(stacks)) if rng.random() < 0.5 else [worst]
        for number in chosen:
            stacks = _with(stacks, number, replace(stacks[number], thickness=factor * stacks[number].thickness))
        return stacks, []

    return scaled


def _stranger(stacks: list[Stack], worst: int, scenario: Scenario, rng: np.random.Generator) -> Faulty:
    """One stack shows another subject, at about the same place."""
    others = [name for name in subjects() if name != scenario.source] or ["phantom"]
    other = subject(others[int(rng.integers(len(others)))])
    return _with(stacks, worst, _in_place_of(stacks[worst], other, scenario, worst)), [worst]


def _organs(stacks: list[Stack], worst: int, scenario: Scenario, rng: np.random.Generator) -> Faulty:
    """The masks of one to all of the stacks lie on something else, another part of it in each."""
    first, *others = rng.permutation(len(stacks)).tolist()
    chosen = [first, *others[: int(rng.integers(len(stacks)))]]
    for number in chosen:
        stacks = _with(stacks, number, _in_place_of(stacks[number], organ(rng), scenario, number))
    return stacks, chosen


def _half(stacks: list[Stack], _worst: int, _scenario: Scenario, rng: np.random.Generator) -> Faulty:
    """The masks of all stacks hold the same half of the brain or so; or nothing more was in the field of view."""
    normal = Rotation.random(random_state=rng).as_matrix()[0]
    length = float(np.ptp(stacks[0].masked_points() @ normal))
    where_cut = rng.uniform(-_CUT, _CUT) * length
    cropped = bool(rng.random() < 0.5)
    cut = []
    for stack in stacks:
        where = np.indices(stack.data.shape).reshape(3, -1).T @ stack.affine[:3, :3].T + stack.affine[:3, 3]
        kept = ((where - stack.masked_points().mean(axis=0)) @ normal < where_cut).reshape(stack.data.shape)
        data = np.where(kept, stack.data, 0).astype(np.float32) if cropped else stack.data
        cut.append(replace(stack, data=data, mask=stack.mask & kept))
    return cut, []


def _noise(stacks: list[Stack], _worst: int, _scenario: Scenario, rng: np.random.Generator) -> Faulty:
    """Much more noise, in all stacks."""
    level = float(rng.uniform(*HEAVY_NOISE))
    noisy = []
    for stack in stacks:
        sigma = level * float(np.percentile(stack.data[stack.mask], 99))
        parts = sigma * rng.standard_normal((2, *stack.data.shape))
        noisy.append(replace(stack, data=np.hypot(stack.data + parts[0], parts[1]).astype(np.float32)))
    return noisy, []


def _as_it_is(stacks: list[Stack], _worst: int, _scenario: Scenario, _rng: np.random.Generator) -> Faulty:
    return stacks, []


FAULTS: dict[str, Callable[[list[Stack], int, Scenario, np.random.Generator], Faulty]] = {
    "left-right swapped": _mirrored,
    "thickness doubled": _scaled_thickness(2.0),
    "thickness halved": _scaled_thickness(0.5),
    "another subject": _stranger,
    "two stacks, severe": _as_it_is,
    "another organ": _organs,
    "half missing": _half,
    "heavy noise": _noise,
}
"""What is wrong, by name."""


def organ(rng: np.random.Generator, spacing: float = SPACING) -> Source:
    """Tissue that is no brain: an ellipsoid of random texture."""
    size = round(_ORGAN_SIZE / spacing)
    axes = np.indices((size,) * 3) * spacing - _ORGAN_SIZE / 2
    half = rng.uniform(0.3, 0.48, 3) * _ORGAN_SIZE
    inside = sum((axis / length) ** 2 for axis, length in zip(axes, half, strict=True)) < 1
    texture = [gaussian_filter(rng.standard_normal(inside.shape), scale / spacing) for scale in _ORGAN_SCALES]
    values = 600 + 120 * sum(part / part.std() for part in texture)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -_ORGAN_SIZE / 2
    return Source("organ", (np.maximum(values, 0) * inside).astype(np.float32), affine, np.asarray(inside))


def _in_place_of(stack: Stack, other: Source, scenario: Scenario, number: int) -> Stack:
    """A stack of something else, as bright and at the same place."""
    motion: Motion = LEVELS[scenario.level][0]
    config = SimulationConfig(
        stacks=number + 1, motion=motion, pixel=float(stack.spacing[0]), spacing=float(stack.spacing[2]),
        thickness=stack.thickness, seed=scenario.number + 100_000,
    )  # fmt: skip
    shown = simulate(other.volume, other.affine, other.mask, config).stacks[number]
    affine = shown.affine.copy()
    affine[:3, 3] += stack.masked_points().mean(axis=0) - shown.masked_points().mean(axis=0)
    scale = np.median(stack.data[stack.mask]) / np.median(shown.data[shown.mask])
    return replace(shown, affine=affine, data=shown.data * scale, name=stack.name)


def _with(stacks: list[Stack], number: int, stack: Stack) -> list[Stack]:
    return [*stacks[:number], stack, *stacks[number + 1 :]]
