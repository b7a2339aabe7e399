"""Where pixels say little about poses: still slices under masks that are no outline, two stacks, ends of real ones.

Each row has what a case came to, and whether that is what is asked. Stacks of a still subject under ellipsoids inside
tissue, beside the same without motion; every pair of a case's stacks, beside the strength of the prior that the truth
would choose; and how far slices at full weight are turned against their neighbours in time, in real stacks.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_situations import ellipsoids, read
from cases import (
    QUICK_SPACING,
    SHARED,
    SIMULATED,
    Case,
    Row,
    Rows,
    image_quality,
    load_case,
    made_case,
    parser,
    phantom_source,
    quick_case,
    say,
)

from slicesplat.config import Config
from slicesplat.motion.time_prior import time_prior
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.load import load_stacks
from slicesplat.validation.pose_error import pose_error

BENCHMARK = "undetermined"
CHECKS = ("ellipsoids", "pairs", "neighbours")

STILL_CASE, PAIRED_CASE = "infant-still", "fetal-mild"
REAL = SHARED / "data" / "fabian-fetpype"
STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
MEDIAN, LARGEST, HARM = 0.15, 1.0, 0.3  # mm, mm, dB
SHORT = 0.5  # dB below the best strength
TURN, FULL_WEIGHT = 3.0, 0.9  # degrees


def verdict(fine: bool) -> str:
    return "ok" if fine else "NOT REACHED"


def under_ellipsoids(case: Case, config: Config) -> list[Row]:
    """The case with masks that are drawn through tissue, and the same with motion switched off."""
    files, rows, psnr = ellipsoids(case.stacks), [], {}
    for motion in ("none", config.motion):
        with tempfile.TemporaryDirectory() as folder:
            stacks = read(files, Path(folder))
        result = reconstruct(stacks, replace(config, motion=motion))
        psnr[motion] = image_quality(result.volume, files.judged(case))["psnr"]
        assert case.motion is not None
        errors = pose_error(result.slice_records(), case.motion, replace(case, stacks=stacks).masks).errors
        used = [errors[record.stack, record.slice] for record in result.slice_records() if record.used]
        row = {"psnr": psnr[motion], "median_mm": float(np.median(used)), "largest_mm": float(max(used))}
        fine = row["median_mm"] <= MEDIAN and row["largest_mm"] <= LARGEST and psnr["none"] - psnr[motion] <= HARM
        rows.append({"case": case.name, "check": f"ellipsoids, motion {motion}", **row, "verdict": verdict(fine)})
    return rows


def pair(case: Case, which: tuple[int, int], config: Config) -> Row:
    """Two stacks of the case: what is chosen, and the best of several strengths, chosen with the truth."""
    two = case.subset(which, case.name)

    def psnr(settings: Config) -> float:
        return float(image_quality(reconstruct(two.stacks, settings).volume, case)["psnr"])

    found = psnr(config)
    given = {
        strength: psnr(
            replace(config, fit=replace(config.fit, smoothness=strength * config.fit.smoothness, strengths=()))
        )
        for strength in STRENGTHS
    }
    best = max(given, key=lambda strength: given[strength])
    names = " and ".join(str(number + 1) for number in which)
    return {
        "case": case.name,
        "check": f"stacks {names}",
        "psnr": found,
        "best_psnr": given[best],
        "best_strength": best,
        "verdict": verdict(given[best] - found <= SHORT),
    }


def neighbours(config: Config) -> Row:
    """Real stacks: how far slices at full weight are turned against their neighbours in time."""
    paths, masks = (sorted(REAL.rglob(name)) for name in ("*T2w.nii.gz", "*mask.nii.gz"))
    result = reconstruct(load_stacks(paths, masks), config)
    slices, weight = result.slices, np.where(result.held, 0.0, result.weight)
    step = time_prior(slices, weight, config.registration.time).deviation(slices.pose)
    turn = np.rad2deg(np.linalg.norm(step[:, 3:], axis=1))[weight > FULL_WEIGHT]
    return {
        "case": REAL.name,
        "check": f"{len(turn)} slices at full weight",
        "largest_degrees": round(float(turn.max()), 1),
        "over_3_degrees": int((turn > TURN).sum()),
        "left_out": sum(reason is not None for reason in result.left_out()),
        "verdict": verdict(bool(turn.max() <= TURN)),
    }


def shared_or_made(name: str, args: argparse.Namespace) -> Case:
    """The shared case of that name; one of the phantom where it is not here, or for --quick."""
    motion = "none" if name == STILL_CASE else "mild"
    if args.quick:
        return quick_case(motion)
    if (SIMULATED / name).is_dir():
        return load_case(SIMULATED / name)
    say(f"{name} is not here: simulating one from the phantom")
    return made_case(phantom_source(), motion, 0)


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--checks", nargs="+", choices=CHECKS, default=CHECKS, help="some of them")
    args = options.parse_args()
    config = Config(resolution=QUICK_SPACING) if args.quick else Config()
    rows = Rows("Poses that pixels say little about", BENCHMARK, args)
    if "ellipsoids" in args.checks:
        for row in under_ellipsoids(shared_or_made(STILL_CASE, args), config):
            rows.add(**row)
    if "pairs" in args.checks:
        case = shared_or_made(PAIRED_CASE, args)
        pairs = list(itertools.combinations(range(len(case.stacks)), 2))
        for which in pairs[:1] if args.quick else pairs:
            rows.add(**pair(case, which, config))
    if "neighbours" in args.checks and not args.quick:
        if REAL.is_dir():
            rows.add(**neighbours(config))
        else:
            say("the real stacks are not here: skipped")
    rows.show()


if __name__ == "__main__":
    main()
