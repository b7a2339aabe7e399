"""Masks that nobody drew: how well they fit, and what they make of a reconstruction.

Real stacks against masks drawn by hand, and the volume from five stacks without masks beside that with them, judged on
the sixth; stacks that were cut out before; synthetic mothers of other brains, seeds and settings than those that the
network learned from (training/mothers.py), and the like with twins, heads in air, parts of a brain, and no brain.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bench_accuracy import prediction
from cases import REAL, SHARED, Rows, parser, stack_files
from mask_cases import GROUPS, Answer, dice, draw, examinations, test_brains
from nibabel.spatialimages import SpatialImage
from records import Row, source_digest

from slicesplat.config import Config
from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import reconstruct
from slicesplat.pipeline.stages import agree_on_masks, prepare
from slicesplat.prepare.load import load_stacks
from slicesplat.result import Reconstruction
from slicesplat.segment.agree import find_masks
from slicesplat.splat import CPU
from slicesplat.validation.compare import compare
from slicesplat.validation.evaluate import aligned

BENCHMARK = "masks"
CUT_OUT = SHARED / "data" / "svrtk-simulated"
FABIAN = SHARED / "data" / "fabian-fetpype"
PARTS = ("real", "volume", "cut-out", *GROUPS)
WORST = 4  # stacks in a picture of what fails
LEFT_OUT = 5  # stack of the real ones that volumes are judged on, from 0
POOR = 0.8  # Dice


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one part, which they name."""

    rows: Rows
    name: str

    def add(self, **row: Any) -> None:
        """One more."""
        self.rows.add(part=self.name, **row)


class Seconds:
    """Of the wall and of the processors since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def told(self) -> dict[str, float]:
        return {"wall_s": time.perf_counter() - self._wall, "cpu_s": time.process_time() - self._cpu}


def real_masks(rows: Part) -> None:
    """Dice of every real stack, as found and once all masks are one region, and seconds to find them."""
    stacks, masks = stack_files(REAL)
    clock = Seconds()
    found = load_stacks(stacks, segmentation=True)
    seconds = clock.told()
    drawn = load_stacks(stacks, masks)
    agreed = agreed_masks(found)
    overlaps = np.array([dice(one.mask, other.mask) for one, other in zip(found, drawn, strict=True)])
    after = np.array([dice(one, other.mask) for one, other in zip(agreed, drawn, strict=True)])
    for number, one in enumerate(found):
        confidence = float(np.nanmean(one.found)) if one.found is not None and one.mask.any() else 0.0
        rows.add(case=REAL.name, run=one.name, dice=overlaps[number], agreed=after[number], confidence=confidence)
    missed = sum(not stack.mask.any() for stack in found)
    counted = {"missed": missed, "off": int((overlaps == 0).sum()) - missed}
    rows.add(case=REAL.name, run="mean", dice=overlaps.mean(), agreed=after.mean(), **counted, **seconds)
    rows.add(case=REAL.name, run="worst", dice=overlaps.min(), agreed=after.min())


def agreed_masks(stacks: Sequence[Stack]) -> list[np.ndarray]:
    """What a reconstruction makes of masks that were found: one region in space."""
    config = Config()
    prepared = agree_on_masks(prepare(stacks, config), config, lambda *_: None, CPU)
    return [stack.mask for stack in prepared.signals]


def real_volume(rows: Part) -> None:
    """The volume from five stacks, with masks and without, judged on the sixth inside its drawn mask."""
    stacks, masks = stack_files(REAL)
    others = [number for number in range(len(stacks)) if number != LEFT_OUT]
    thickness = load_stacks([stacks[LEFT_OUT]], [masks[LEFT_OUT]])[0].thickness
    drawn: Reconstruction | None = None
    with tempfile.TemporaryDirectory() as folder:
        for run in ("drawn", "found"):
            clock = Seconds()
            given = [masks[number] for number in others] if run == "drawn" else None
            loaded = load_stacks([stacks[number] for number in others], given, segmentation=True)
            result = reconstruct(loaded, Config())
            seconds, volume, region = clock.told(), result.volume, {}
            if drawn:
                # Each lies where its reference stack was; what judges them looks for the stack from one place.
                volume = compare(drawn.volume, result.volume, drawn.mask).in_one_space[1]
                region = {"region_dice": region_overlap(drawn, volume, result.mask)}
            drawn = drawn or result
            path = Path(folder) / "volume.nii.gz"
            answer = prediction(volume, path, stacks[LEFT_OUT], masks[LEFT_OUT], thickness)
            rows.add(case=REAL.name, run=f"masks {run}, unseen stack", ncc=answer["ncc_mean"], **region, **seconds)


def region_overlap(drawn: Reconstruction, volume: SpatialImage, mask: nib.Nifti1Image) -> float:
    """Dice of the regions of two volumes, of which the second lies on the first, but not the mask that it came with."""
    there = aligned(volume, drawn.volume, drawn.mask, register=False)
    moved = nib.Nifti1Image(np.asarray(mask.dataobj), volume.affine)
    return dice(there.mask, there.resampled(moved) > 0.5)


def cut_out_masks(rows: Part) -> None:
    """Stacks that hold nothing but a head: they are left as they are."""
    drawn = {2: CUT_OUT / "mask-for-stack-2.nii.gz"}
    _kept(rows, CUT_OUT.name, sorted(CUT_OUT.glob("stack-*.nii.gz")), drawn)
    stacks = sorted(FABIAN.glob("sub-*/ses-*/anat/*_T2w.nii.gz"))
    masks = sorted(FABIAN.glob("derivatives/masks/sub-*/ses-*/anat/*_mask.nii.gz"))
    _kept(rows, FABIAN.name, stacks, dict(enumerate(masks)))


def _kept(rows: Part, case: str, stacks: Sequence[Path], drawn: dict[int, Path]) -> None:
    """Share of what is not empty that the mask of every stack keeps, and Dice where one is drawn."""
    for number, stack in enumerate(load_stacks(stacks, segmentation=True) if stacks else []):
        row = {"kept_share": float(stack.mask[stack.data != 0].mean())}
        if number in drawn:
            row["dice"] = dice(stack.mask, load_stacks([stacks[number]], [drawn[number]])[0].mask)
        rows.add(case=case, run=stack.name, **row)


def synthetic(rows: Part, name: str, numbers: Sequence[int]) -> None:
    """Mothers of one kind, one after the other, and what was found in them."""
    for number, made in zip(numbers, examinations(GROUPS[name], numbers, test_brains()), strict=True):
        clock = Seconds()
        found = find_masks(made.seen, SegmentationSettings())
        seconds = {unit: value / len(found) for unit, value in clock.told().items()}
        for answer in map(Answer, made.seen, made.brains, found):
            rows.add(case=name, run=f"number {number}", **answer.told(), **seconds)


def summary(rows: Sequence[Row]) -> Row:
    """Of all stacks: overlap, how many were missed, off, or show none and were left out, and how many were told of."""
    asked = [row for row in rows if "dice" in row]
    overlaps = np.array([row["dice"] for row in asked])
    empty = [row for row in rows if not row["shown_cm3"]]
    poor = [row for row in asked if row["dice"] < POOR]
    return {
        "stacks": len(rows),
        "dice": float(np.median(overlaps)),
        "low_dice": float(np.percentile(overlaps, 5)),
        "missed": _count(asked, found="no"),
        "off": _count(rows, off="yes"),
        "without": len(empty),
        "left_out": _count(empty, found="no"),
        "poor": len(poor),
        "warned": _count(poor, warning="yes"),
        "told_in_air": _count(asked, in_air="yes"),
    }


def _count(rows: Sequence[Row], **wanted: str) -> int:
    return sum(all(row[name] == value for name, value in wanted.items()) for row in rows)


def worst_pictures(rows: Sequence[Row], name: str, folder: Path) -> None:
    """Draw the stacks of one kind that overlap least."""
    of_kind = [row for row in rows if row["case"] == name and "dice" in row and row["run"] != "all"]
    least = sorted(of_kind, key=lambda row: row["dice"])
    numbers = list(dict.fromkeys(int(row["run"].split()[1]) for row in least))[:WORST]
    answers = []
    for made in examinations(GROUPS[name], numbers, test_brains()):
        found = find_masks(made.seen, SegmentationSettings())
        asked = [answer for answer in map(Answer, made.seen, made.brains, found) if answer.asked]
        answers.append(min(asked, key=lambda answer: answer.overlap))
    draw(answers, folder / f"masks-{name.replace(' ', '-')}.png")


def kept(path: Path | None, parts: Sequence[str], numbers: range) -> list[Row]:
    """Rows of a record of this source that are not measured anew: those of other parts and of other mothers."""
    record = json.loads(path.read_text("utf-8")) if path and path.exists() else {}
    if record.get("source") != source_digest():
        return []
    again = {f"number {number}" for number in numbers} | {"all"}
    return [
        row for row in record["rows"] if row["part"] not in parts or ("shown_cm3" in row and row["run"] not in again)
    ]


def arguments() -> argparse.Namespace:
    options = parser(__doc__, BENCHMARK)
    options.add_argument(
        "--only", nargs="+", choices=PARTS, help="parts to run (default: all but volume); a record keeps the others"
    )
    options.add_argument("--count", type=int, default=60, metavar="N", help="synthetic mothers (default: 60)")
    options.add_argument("--first", type=int, default=0, metavar="N", help="number of the first of them")
    options.add_argument("--pictures", type=Path, metavar="DIR", help="draw those that overlap least, of every kind")
    return options.parse_args()


def main() -> None:
    args = arguments()
    rows = Rows("Masks", BENCHMARK, args)
    parts = args.only or (["mothers"] if args.quick else [part for part in PARTS if part != "volume"])
    rows.rows = kept(args.json, parts, range(args.first, args.first + args.count))
    for part, data, measure in (
        ("real", REAL, real_masks),
        ("volume", REAL, real_volume),
        ("cut-out", CUT_OUT, cut_out_masks),
    ):
        if part in parts and data.is_dir():
            measure(Part(rows, part))
    for name in [name for name in GROUPS if name in parts]:
        count = 2 if args.quick else max(round(args.count * GROUPS[name].share), 1)
        synthetic(Part(rows, name), name, range(args.first, args.first + count))
        Part(rows, name).add(case=name, run="all", **summary([row for row in rows.rows if row["part"] == name]))
        if args.pictures:
            worst_pictures(rows.rows, name, args.pictures)
    rows.show()


if __name__ == "__main__":
    main()
