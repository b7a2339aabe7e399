"""What the benchmarks share: cases with a known truth, what is measured on them, options and tables."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from records import Record, Row, add_json_option, rows_of_this_source
from rich.console import Console
from rich.table import Table

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.io.nifti import load_volume
from slicesplat.prepare.load import load_stacks
from slicesplat.progress import StepRecord
from slicesplat.records import SliceRecord
from slicesplat.validation.acquisition import Quadrature, Subject
from slicesplat.validation.evaluate import score
from slicesplat.validation.motion import Motion
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.pose_error import pose_error
from slicesplat.validation.simulate import SimulationConfig, Truth, simulate

Float = NDArray[np.float64]
SliceKey = tuple[int, int]

SHARED = Path(__file__).resolve().parents[2] / "shared"
SIMULATED = SHARED / "data" / "sim"
REAL = SHARED / "data" / "mial-sub01"

# Stacks that go with each level of motion: who moves more is scanned more often.
STACKS: dict[Motion, int] = {"none": 3, "mild": 3, "moderate": 6, "severe": 6}
# A small head on coarse voxels: reconstructed in seconds.
QUICK_SIZE, QUICK_SPACING = 55.0, 1.2
# A dropout leaves at most 0.4 of a slice's signal; gains of other slices scatter by 4 % around 1.
_DROPOUT_GAIN = 0.6
# Decimals of a column, by the end of its name; the end is the unit.
_DECIMALS = {"psnr": 2, "ssim": 4, "ncc": 4, "mm": 3, "s": 1, "share": 3, "mb": 0}


@dataclass(frozen=True, eq=False)
class Case:
    """Stacks, and what is true about them where that is known.

    Attributes
    ----------
    name : str
    stacks : list of Stack
    truth, truth_mask : image or None
    motion : Truth or None
    seen : list of (nx, ny, nz) or None
        Where in each stack the subject really is, whatever the masks say; None for inside the masks.
    """

    name: str
    stacks: list[Stack]
    truth: SpatialImage | None = None
    truth_mask: SpatialImage | None = None
    motion: Truth | None = None
    seen: list[NDArray[np.bool_]] | None = None

    @property
    def masks(self) -> list[SpatialImage]:
        """Mask of each stack."""
        return [nib.Nifti1Image(stack.mask.astype(np.uint8), stack.affine) for stack in self.stacks]

    def subset(self, which: Sequence[int], name: str) -> Case:
        """The same case with some of its stacks."""
        motion = self.motion and self.motion.of_stacks(which)
        seen = self.seen and [self.seen[i] for i in which]
        return replace(self, name=name, stacks=[self.stacks[i] for i in which], motion=motion, seen=seen)


@dataclass(frozen=True, eq=False)
class Source:
    """A volume to simulate from."""

    name: str
    volume: NDArray[np.float32]
    affine: Float
    mask: NDArray[np.bool_]


def phantom_source(size_mm: float = 92.0, spacing: float = 0.8) -> Source:
    """The package's own phantom."""
    volume, affine, mask = brain_phantom(size_mm, spacing)
    return Source("phantom", np.asarray(volume, dtype=np.float32), affine, mask)


def shared_sources() -> list[Source]:
    """The volumes behind the shared cases, each once."""
    sources: dict[bytes, Source] = {}
    for folder in sorted(SIMULATED.glob("*/")):
        truth, mask = load_volume(folder / "truth.nii.gz"), load_volume(folder / "truth-mask.nii.gz")
        volume, inside = np.asarray(truth.dataobj), np.asarray(mask.dataobj) > 0
        name = f"truth of {folder.name}"
        sources.setdefault(volume.tobytes(), Source(name, volume, np.asarray(truth.affine, np.float64), inside))
    return list(sources.values())


def made_case(source: Source, level: Motion, seed: int, stacks: int | None = None) -> Case:
    """A case simulated here and now."""
    config = SimulationConfig(stacks=stacks or STACKS[level], motion=level, seed=seed)
    scan = simulate(source.volume, source.affine, source.mask, config)
    return Case(
        f"{source.name}, {level}, seed {seed}",
        scan.stacks,
        nib.Nifti1Image(source.volume, source.affine),
        nib.Nifti1Image(source.mask.astype(np.uint8), source.affine),
        scan.truth,
    )


def quick_case(level: Motion = "mild", seed: int = 0, stacks: int = 3) -> Case:
    """A case for --quick."""
    return made_case(phantom_source(QUICK_SIZE, QUICK_SPACING), level, seed, stacks)


def stack_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of the stacks of a case and of their masks, by number."""
    stacks = sorted(folder.glob("stack-*.nii.gz"), key=lambda path: int(path.name.split(".")[0].split("-")[1]))
    return stacks, [path.with_name(path.name.replace("stack", "mask")) for path in stacks]


def load_case(folder: Path) -> Case:
    """A case on disk: a simulated folder, or stacks and masks alone."""
    stacks, masks = stack_files(folder)
    if not (folder / "truth.json").exists():
        return Case(folder.name, load_stacks(stacks, masks))
    motion = Truth.from_json(json.loads((folder / "truth.json").read_text(encoding="utf-8")))
    return Case(
        folder.name,
        load_stacks(stacks, masks, motion.settings.thickness),
        load_volume(folder / "truth.nii.gz"),
        load_volume(folder / "truth-mask.nii.gz"),
        motion,
    )


def case_folder(name: str) -> Path:
    """Where the case of that name lies: a shared one, or any folder."""
    for folder in (SIMULATED / name, REAL.parent / name, Path(name)):
        if stack_files(folder)[0]:
            return folder
    raise SystemExit(f"{name}: no such case; name a folder that holds stack-1.nii.gz and so on")


def chosen_cases(args: argparse.Namespace) -> Iterator[Case]:
    """The cases that --cases names; else a small one for --quick, the shared ones, or some made here."""
    if args.cases:
        yield from (load_case(case_folder(name)) for name in args.cases)
    elif args.quick:
        yield quick_case()
    elif SIMULATED.is_dir():
        yield from (load_case(folder) for folder in sorted(SIMULATED.glob("*/")))
    else:
        say("no shared cases here: simulating some from the phantom")
        yield from (made_case(phantom_source(), level, 0) for level in STACKS)


def true_motion(case: Case, slices: Slices) -> Rigid:
    """How each slice (S) really moved: to the truth's world."""
    assert case.motion is not None
    moved = [case.motion.transforms(stack) for stack in range(len(case.stacks))]
    return Rigid(np.array([moved[i][k] for i, k in zip(slices.stack, slices.index, strict=True)]))


def true_dropouts(case: Case) -> set[SliceKey]:
    """Slices, by (stack, slice), that lost most of their signal when they were acquired."""
    assert case.truth is not None and case.truth_mask is not None and case.motion is not None
    subject = Subject.from_volume(
        np.asarray(case.truth.dataobj), case.truth.affine, np.asarray(case.truth_mask.dataobj)
    )
    slices = cut_slices(case.stacks)
    profile, coarse = case.motion.settings.profile, Quadrature(subdivisions=1, nodes=7, reach=2.5)
    lost = set()
    for s, pose in enumerate((true_motion(case, slices) @ slices.frame).matrix):
        corner = np.eye(4)
        corner[:2, 3] = slices.origin[s]
        rows, columns = (int(n) for n in slices.shape[s])
        thickness = case.stacks[slices.stack[s]].thickness
        pixel = float(slices.step[s, 0])
        expected = subject.acquire(pose @ corner, (rows, columns), pixel, thickness, profile, coarse).ravel()
        pixels = slice(slices.offset[s], slices.offset[s + 1])
        inside = slices.mask[pixels]
        if expected[inside] @ slices.pixels[pixels][inside] < _DROPOUT_GAIN * (expected[inside] ** 2).sum():
            lost.add((int(slices.stack[s]), int(slices.index[s])))
    return lost


def image_quality(volume: SpatialImage, case: Case, register: bool = True) -> Row:
    """PSNR (dB) and SSIM against the truth; nothing where there is none."""
    if case.truth is None or case.truth_mask is None:
        return {}
    found = score(volume, case.truth, case.truth_mask, register=register)
    return {"psnr": round(found.psnr, 3), "ssim": round(found.ssim, 4)}


def pose_quality(records: Sequence[SliceRecord], case: Case) -> Row:
    """Slice pose error, and what was left out without need; nothing where the motion is not known."""
    if case.motion is None:
        return {}
    found = pose_error(records, case.motion, case.masks)
    in_use = {(record.stack, record.slice) for record in records if record.used}
    used = np.array([error for key, error in found.errors.items() if key in in_use])
    sound = set(found.errors) - true_dropouts(case)
    lost = len(sound - in_use)
    return {
        "slices": found.slices,
        "left_out": found.slices - found.used,
        "lost_share": round(lost / max(len(sound), 1), 4),
        "median_mm": round(found.tre_median, 3),
        "under_1mm_share": round(float((used < 1).mean()), 4) if len(used) else 0.0,
        "under_2mm_share": round(float((used < 2).mean()), 4) if len(used) else 0.0,
    }


def step_seconds(steps: Iterable[StepRecord]) -> Row:
    """Seconds of each step of a reconstruction."""
    return {f"{step.step}_s": round(step.seconds, 2) for step in steps}


def say(message: str) -> None:
    """A line about how things go, beside the results."""
    print(message, file=sys.stderr, flush=True)


def parser(description: str | None, benchmark: str) -> argparse.ArgumentParser:
    """Options that every benchmark has; it goes by that name among the results."""
    out = argparse.ArgumentParser(description=description)
    out.add_argument("--cases", nargs="+", metavar="NAME", help="shared cases or folders; default: all shared ones")
    add_json_option(out, benchmark)
    out.add_argument("--quick", action="store_true", help="a small case of its own, under a minute")
    return out


class Rows:
    """Rows of a benchmark: told as they come, kept in its record, shown as a table at the end.

    Attributes
    ----------
    before : dict
        By number, rows of the run that the file is of, where it was of the same source. They stay in the file until
        this run is at its end, so that it may be ended as well.
    """

    def __init__(self, title: str, benchmark: str, args: argparse.Namespace) -> None:
        self.title, self.record = title, Record(benchmark, args.json, vars(args))
        self.rows: list[Row] = []
        self.before = {row["number"]: row for row in rows_of_this_source(args.json) if "number" in row}

    def add(self, **row: Any) -> None:
        """One more row; the file has it at once."""
        self.rows.append(row)
        say("  ".join(f"{name}={_text(name, value)}" for name, value in row.items()))
        mine = {row.get("number") for row in self.rows}
        rest = [row for number, row in self.before.items() if number not in mine]
        self.record.write([*self.rows, *rest], complete=False)

    def show(self) -> None:
        """Print all rows as one table; there will be no more."""
        self.record.write(self.rows, complete=True)
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        table = Table(title=self.title)
        for name in columns:
            numbers = [row[name] for row in self.rows if name in row]
            table.add_column(name.replace("_", " "), justify="left" if isinstance(numbers[0], str) else "right")
        for row in self.rows:
            table.add_row(*(_text(name, row[name]) if name in row else "" for name in columns))
        console = Console()
        # Wide enough for all columns where the output is a file.
        Console(width=None if console.is_terminal else 40 + 16 * len(columns)).print(table)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{_DECIMALS.get(name.split('_')[-1], 3)}f}"
