"""Examinations of many kinds, made here and now: what the subject does, and what else goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import nibabel as nib
import numpy as np
from cases import SHARED, SIMULATED, Case, Source, phantom_source
from scipy.ndimage import distance_transform_edt

from slicesplat.geometry.stack import Stack
from slicesplat.io.nifti import load_volume
from slicesplat.validation.motion import Motion
from slicesplat.validation.simulate import SimulationConfig, simulate

ATLAS = SHARED / "data" / "atlas-cc0"
LEVELS: dict[str, tuple[Motion, float, tuple[int, int]]] = {
    "none": ("none", 0.0, (2, 6)),
    "mild": ("mild", 0.0, (2, 6)),
    "moderate": ("moderate", 0.0, (3, 8)),
    "severe": ("severe", 0.0, (4, 8)),
    "turned": ("moderate", 180.0, (3, 8)),
}
"""By name: motion within the stacks, turns between them of up to so many degrees, fewest and most stacks."""
PIXEL = 1.4
"""mm."""
DILATED = 5.0
"""mm."""
MISSING_END = 0.2
"""Share of the slices of a mask."""


@dataclass(frozen=True)
class Scenario:
    """One case of the benchmark; the same number is the same case everywhere."""

    number: int
    level: str
    source: str
    stacks: int
    trouble: str

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.number}: {self.source}, {self.level}, {self.stacks} stacks, {self.trouble}"


@dataclass(frozen=True, eq=False)
class Examination:
    """What a user has, and the sound part of it, of which the truth is known.

    Attributes
    ----------
    stacks : list of Stack
        All of them.
    sound : Case
        Those that show the subject.
    numbers : list of int
        Their places among all.
    """

    stacks: list[Stack]
    sound: Case
    numbers: list[int]


def source_names() -> list[str]:
    """What can be simulated from: the phantom, the ages of the atlas, the truths of the shared cases."""
    atlas = [path.name.replace("-srr.nii.gz", "") for path in sorted(ATLAS.glob("*-srr.nii.gz"))]
    return [
        "phantom",
        *atlas[::2],
        *(name for name in ("infant-severe", "infant-still") if (SIMULATED / name).is_dir()),
    ]


@lru_cache(maxsize=4)
def source(name: str) -> Source:
    """The volume of that name."""
    if name == "phantom":
        return phantom_source(80.0, 1.0)
    if (ATLAS / f"{name}-srr.nii.gz").exists():
        paths = [ATLAS / f"{name}-{kind}.nii.gz" for kind in ("srr", "mask")]
    else:
        paths = [SIMULATED / name / f"{kind}.nii.gz" for kind in ("truth", "truth-mask")]
    volume, mask = (load_volume(path) for path in paths)
    inside = np.asarray(mask.dataobj) > 0
    return Source(name, np.asarray(volume.dataobj, np.float32), np.asarray(volume.affine, np.float64), inside)


def scenario(number: int) -> Scenario:
    """The case of that number: levels take turns, everything else is drawn."""
    rng = np.random.default_rng([12, number])
    level = list(LEVELS)[number % len(LEVELS)]
    names = source_names()
    fewest, most = LEVELS[level][2]
    trouble = list(TROUBLES)[int(rng.integers(len(TROUBLES)))]
    # A stack that shows nothing of the subject comes on top of two that do.
    least = max(fewest, 3) if trouble in _WITHOUT_SUBJECT else fewest
    return Scenario(number, level, names[int(rng.integers(len(names)))], int(rng.integers(least, most + 1)), trouble)


def examination(chosen: Scenario, given: Source | None = None, pixel: float = PIXEL) -> Examination:
    """The stacks of a case, coarser than a scanner's so that a hundred of them are done within an hour.

    They show the scenario's source, or the one that is given.
    """
    motion, turn, _ = LEVELS[chosen.level]
    config = SimulationConfig(
        stacks=chosen.stacks,
        motion=motion,
        turn=turn,
        pixel=pixel,
        spacing=4.0,
        thickness=3.6,
        dropout=0.1 if chosen.trouble == "dropouts" else 0.03,
        bias_field=0.15 if chosen.trouble == "bias" else 0.0,
        seed=chosen.number,
    )
    given = given or source(chosen.source)
    scan = simulate(given.volume, given.affine, given.mask, config)
    rng = np.random.default_rng([13, chosen.number])
    worst = int(rng.integers(chosen.stacks))
    stacks = TROUBLES[chosen.trouble](scan.stacks, worst, config, rng)
    numbers = [i for i in range(len(stacks)) if chosen.trouble not in _WITHOUT_SUBJECT or i != worst]
    truth = nib.Nifti1Image(given.volume, given.affine)
    mask = nib.Nifti1Image(given.mask.astype(np.uint8), given.affine)
    case = Case(chosen.name, stacks, truth, mask, scan.truth, [stack.mask for stack in scan.stacks])
    return Examination(stacks, case.subset(numbers, chosen.name), numbers)


def _as_scanned(stacks: list[Stack], _worst: int, _config: SimulationConfig, _rng: np.random.Generator) -> list[Stack]:
    return stacks


def _dilated(stacks: list[Stack], _worst: int, _config: SimulationConfig, _rng: np.random.Generator) -> list[Stack]:
    """Masks drawn too wide."""
    return [
        replace(stack, mask=distance_transform_edt(~stack.mask, sampling=stack.spacing) <= DILATED) for stack in stacks
    ]


def _missing_end(stacks: list[Stack], _worst: int, _config: SimulationConfig, rng: np.random.Generator) -> list[Stack]:
    """Masks that end too early on one side."""
    short = []
    for stack in stacks:
        mask, held = stack.mask.copy(), np.flatnonzero(stack.mask.any(axis=(0, 1)))
        count = round(MISSING_END * len(held))
        mask[:, :, held[:count] if rng.random() < 0.5 else held[len(held) - count :]] = False
        short.append(replace(stack, mask=mask))
    return short


def _stranger(stacks: list[Stack], worst: int, config: SimulationConfig, rng: np.random.Generator) -> list[Stack]:
    """One stack shows another subject, at about the same place."""
    others = [name for name in source_names() if name != "phantom"] or ["phantom"]
    other = source(others[int(rng.integers(len(others)))])
    seed = config.seed + 100_000
    shown = simulate(other.volume, other.affine, other.mask, replace(config, seed=seed)).stacks[worst]
    affine = shown.affine.copy()
    affine[:3, 3] += stacks[worst].masked_points().mean(axis=0) - shown.masked_points().mean(axis=0)
    scale = np.median(stacks[worst].data[stacks[worst].mask]) / np.median(shown.data[shown.mask])
    return [*stacks[:worst], replace(shown, affine=affine, data=shown.data * scale), *stacks[worst + 1 :]]


def _empty(stacks: list[Stack], worst: int, config: SimulationConfig, rng: np.random.Generator) -> list[Stack]:
    """One stack shows nothing but noise."""
    stack = stacks[worst]
    sigma = max(config.noise, 0.01) * float(np.percentile(stack.data[stack.mask], 99))
    noise = np.hypot(*(sigma * rng.standard_normal((2, *stack.data.shape)))).astype(np.float32)
    return [*stacks[:worst], replace(stack, data=noise), *stacks[worst + 1 :]]


_WITHOUT_SUBJECT = ("stranger", "empty")
TROUBLES: dict[str, Callable[[list[Stack], int, SimulationConfig, np.random.Generator], list[Stack]]] = {
    "as scanned": _as_scanned,
    "dropouts": _as_scanned,
    "bias": _as_scanned,
    "stranger": _stranger,
    "empty": _empty,
    "wide masks": _dilated,
    "masks miss an end": _missing_end,
}
"""What else goes wrong, by name; dropouts and bias are simulated."""
