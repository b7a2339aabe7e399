"""How many examinations simply work: the volume within 1 dB of the same examination with its true poses given.

The one with true poses goes without the slices that lost their signal when they were acquired, as a reconstruction does
that recognises them.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence

import nibabel as nib
import numpy as np
from bench_accuracy import with_true_poses
from cases import Case, Row, Rows, image_quality, parser, say, step_seconds, true_dropouts, true_motion
from intervals import of_cases, told, wilson
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scenarios import LEVELS, Examination, Scenario, examination, scenario

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import cut_slices
from slicesplat.pipeline import reconstruct
from slicesplat.records import SliceRecord
from slicesplat.result import Reconstruction
from slicesplat.validation.pose_error import pose_error

BENCHMARK = "success"
COUNT = 105
QUICK = 6
ALLOWED_LOSS = 1.0  # dB below what the true poses give
FAR = 3.0  # mm
_ARM = 30.0  # mm, of the points that stand for a slice
_TRIMMED_ROUNDS = 10


class _Warnings(logging.Handler):
    """Counts what the user is warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def brought_home(volume: SpatialImage, records: Sequence[SliceRecord], case: Case) -> SpatialImage:
    """The volume moved to the truth's place, by the better half of its slices: it may be turned by any angle."""
    slices = cut_slices(case.stacks)
    keys = list(zip(slices.stack.tolist(), slices.index.tolist(), strict=True))
    estimates = {(record.stack, record.slice): record.world_transform for record in records}
    which = [s for s, key in enumerate(keys) if key in estimates]
    frame = slices.frame[which]
    corners = _ARM * np.concatenate([np.eye(3)[:2], -np.eye(3)[:2]])
    found = (Rigid(np.array([estimates[keys[s]] for s in which])) @ frame).map(np.tile(corners, (len(which), 1, 1)))
    actual = (true_motion(case, slices)[which] @ frame).map(np.tile(corners, (len(which), 1, 1)))
    kept = np.ones(len(which), bool)
    for _ in range(_TRIMMED_ROUNDS):
        there = Rigid.kabsch(found[kept].reshape(-1, 3), actual[kept].reshape(-1, 3))
        distance = np.linalg.norm(there.map(found.reshape(-1, 3)).reshape(found.shape) - actual, axis=2).mean(axis=1)
        kept = distance <= np.median(distance)
    return nib.Nifti1Image(np.asarray(volume.dataobj), there.matrix @ volume.affine)


def _seen(case: Case) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """Of every stack, what of the subject is in its mask, and the affine."""
    assert case.seen is not None
    for stack, seen in zip(case.stacks, case.seen, strict=True):
        yield (stack.mask & seen).astype(np.uint8), stack.affine


def slice_quality(records: Sequence[SliceRecord], case: Case) -> Row:
    """Used slices and those of them that are far off, sound slices and those of them that were left out.

    Only slices that show something of the subject have a place that they can be off: a mask may reach beyond it.
    """
    assert case.motion is not None
    seen = case.masks if case.seen is None else [nib.Nifti1Image(*pair) for pair in _seen(case)]
    found = pose_error(records, case.motion, seen)
    used = {(record.stack, record.slice) for record in records if record.used}
    sound = set(found.errors) - true_dropouts(case)
    mine = [error for key, error in found.errors.items() if key in used]
    return {
        "median_mm": round(found.tre_median, 3),
        "used": len(mine),
        "far": sum(error > FAR for error in mine),
        "sound": len(sound),
        "lost": len(sound - used),
    }


def sound_records(result: Reconstruction, numbers: Sequence[int]) -> list[SliceRecord]:
    """The records of the stacks that show the subject, counted among themselves."""
    place = {number: i for i, number in enumerate(numbers)}
    return [
        SliceRecord(place[r.stack], r.slice, r.world_transform, r.weight, r.gain, r.ncc, r.left_out)
        for r in result.slice_records()
        if r.stack in place
    ]


def measured(made: Examination, config: Config) -> Row:
    """One reconstruction as a user runs it, beside the one with true poses."""
    case, counter, log = made.sound, _Warnings(), logging.getLogger("slicesplat")
    log.addHandler(counter)
    start = time.perf_counter()
    try:
        result = reconstruct(made.stacks, config)
    except InputError as error:
        return {"success": "no", "refused": str(error)}
    finally:
        log.removeHandler(counter)
    seconds = time.perf_counter() - start
    records = sound_records(result, made.numbers)
    psnr = image_quality(brought_home(result.volume, records, case), case).get("psnr", 0.0)
    reference = with_true_poses(case, config, true_dropouts(case))["psnr"]
    return {
        "psnr": psnr,
        "true_poses_psnr": reference,
        "success": "yes" if psnr >= reference - ALLOWED_LOSS else "no",
        **slice_quality(records, case),
        "warnings": counter.count,
        **step_seconds(step for step in result.steps if step.step in ("register", "fit")),
        "wall_s": round(seconds, 1),
    }


def total(level: str, rows: Sequence[Row]) -> Row:
    """The cases of a level together, with intervals; of slices only where there is a volume."""
    share = sum(row["success"] == "yes" for row in rows) / len(rows)
    done = [row for row in rows if "used" in row]
    far, lost = (
        of_cases([row[part] for row in done], [row[whole] for row in done])
        for part, whole in (("far", "used"), ("lost", "sound"))
    )
    silent = sum(row["success"] == "no" and row.get("warnings") == 0 for row in rows)
    return {
        "case": f"{level}: {len(rows)} cases",
        "success": told(share, *wilson(share, len(rows))),
        f"used_over_{FAR:g}_mm": told(*far),
        "sound_left_out": told(*lost),
        "failed_silently": silent,
    }


def chosen(args: argparse.Namespace) -> Iterator[Scenario]:
    """The cases of this shard."""
    part, parts = (int(value) for value in args.shard.split("/"))
    numbers = range(QUICK if args.quick else args.count) if args.numbers is None else args.numbers
    made = (scenario(number) for i, number in enumerate(numbers) if i % parts == part - 1)
    return (one for one in made if one.level in args.level)


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--count", type=int, default=COUNT, help="cases; levels of motion take turns")
    options.add_argument("--numbers", type=int, nargs="+", metavar="N", help="only the cases of these numbers")
    options.add_argument("--level", choices=LEVELS, nargs="+", default=list(LEVELS), help="of motion; default: all")
    options.add_argument("--shard", default="1/1", metavar="I/N", help="the Ith of N parts, to run them side by side")
    args = options.parse_args()
    config = Config(resolution=1.2)
    rows = Rows("Success", BENCHMARK, args)
    levels: dict[str, list[Row]] = {level: [] for level in LEVELS}
    for one in chosen(args):
        row = rows.before.get(one.number) or {
            "number": one.number,
            "case": one.name,
            **measured(examination(one), config),
        }
        rows.add(**row)
        levels[one.level].append(row)
    for level, done in levels.items():
        if done:
            rows.add(**total(level, done))
    every = [row for done in levels.values() for row in done]
    if every:
        rows.add(**total("all", every))
    else:
        say("no case in this part")
    rows.show()


if __name__ == "__main__":
    main()
