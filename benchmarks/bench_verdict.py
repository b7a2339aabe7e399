"""What the verdict catches: examinations with a fault and sound ones, and how many of each are flagged."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from bench_accuracy import with_true_poses
from bench_success import brought_home, sound_records
from cases import Row, Rows, image_quality, parser
from faults import FAULTS, Trial, made, trial, without_fault
from intervals import told, wilson
from scenarios import Examination

from slicesplat.config import Config, FitSettings
from slicesplat.errors import InputError
from slicesplat.pipeline import reconstruct
from slicesplat.pipeline.setup import LOAD_KERNELS
from slicesplat.result import Reconstruction
from slicesplat.splat.cpu.threads import limited_threads

BENCHMARK = "verdict"
COUNT, QUICK = 64, 4
FAILED = 3.0  # dB of error, from which on a case has to be flagged
# One lattice, few turns: what the verdict looks at is decided by then, and so many cases are done in an hour.
SHORT = FitSettings(spacings=(1.3,), strengths=(), final_rounds=0, rounds=3)
CONFIG = Config(resolution=1.2, threads=1, fit=SHORT)
SOUND = "sound"


def measured(one: Trial, config: Config = CONFIG) -> Row:
    """A reconstruction, how far it is from what these stacks give without the fault, and the verdict on it."""
    examined = made(one)
    head = {"number": one.number, "case": one.name, "kind": one.fault or SOUND}
    try:
        result = reconstruct(examined.stacks, config)
    except InputError as error:
        return {**head, "grade": "refused", "reasons": str(error)}
    return {**head, **judged(one, examined, result, config)}


def judged(one: Trial, examined: Examination, result: Reconstruction, config: Config = CONFIG) -> Row:
    """The error of a reconstruction, the verdict, and what it was given by.

    The error is dB below the same examination without the fault and with its true poses.
    """
    records = sound_records(result, examined.numbers)
    volume = brought_home(result.volume, records, examined.sound)
    psnr = image_quality(volume, examined.sound, register=False).get("psnr", 0.0)
    with limited_threads(1):
        best = with_true_poses(without_fault(one).sound, config)["psnr"]
    known = result.evidence
    return {
        "psnr": psnr,
        "true_poses_psnr": best,
        "error_db": round(best - psnr, 2),
        "grade": result.verdict.grade,
        "reasons": " | ".join(result.verdict.reasons),
        "left_out": round(sum(s.left_out for s in known.stacks) / max(sum(s.slices for s in known.stacks), 1), 3),
        "agreement": [round(s.ncc, 3) for s in known.stacks],
        "possible": [round(s.possible_ncc, 3) for s in known.stacks],
        "excess": [round(s.excess, 2) for s in known.stacks],
        "thinner": [round(s.thinner, 3) for s in known.stacks],
        "mirror_lead": [round(s.mirror_lead, 3) for s in known.stacks],
        "pose_error_mm": round(known.pose_error, 3),
        "flat_share": round(known.flat_share, 3),
        "contrast": round(known.contrast, 2),
        "check_s": round(sum(step.seconds for step in result.steps if step.step == "check"), 2),
        "run_s": round(sum(step.seconds for step in result.steps if step.step != LOAD_KERNELS), 2),
    }


def total(kind: str, rows: Sequence[Row]) -> Row:
    """The cases of a kind together: those that failed and those that did not, and how many of each are flagged."""
    failed = [row for row in rows if row.get("error_db", np.inf) > FAILED]
    others = [row for row in rows if row.get("error_db", np.inf) <= FAILED]
    caught, flagged = (sum(row["grade"] != "pass" for row in some) for some in (failed, others))
    return {
        "case": f"{kind}: {len(rows)} cases",
        "kind": kind,
        "cases": len(rows),
        "failed": len(failed),
        "failed_flagged": caught,
        "others_flagged": flagged,
        "others_flagged_share": told(flagged / len(others), *wilson(flagged / len(others), len(others)))
        if others
        else "",
    }


def chosen(args: argparse.Namespace) -> Iterator[Trial]:
    """The cases of this shard."""
    part, parts = (int(value) for value in args.shard.split("/"))
    numbers = range(QUICK if args.quick else args.count) if args.numbers is None else args.numbers
    return (trial(number, args.seeds) for i, number in enumerate(numbers) if i % parts == part - 1)


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--count", type=int, default=COUNT, help="cases; every second one has a fault")
    options.add_argument("--numbers", type=int, nargs="+", metavar="N", help="only the cases of these numbers")
    options.add_argument(
        "--seeds", choices=("judgement", "development"), default="judgement", help="limits were set on the other"
    )
    options.add_argument("--shard", default="1/1", metavar="I/N", help="the Ith of N parts, to run them side by side")
    args = options.parse_args()
    rows = Rows("Verdict", BENCHMARK, args)
    done = []
    for one in chosen(args):
        done.append(rows.before.get(one.number) or measured(one))
        rows.add(**done[-1])
    for kind in (SOUND, *FAULTS):
        if some := [row for row in done if row["kind"] == kind]:
            rows.add(**total(kind, some))
    if faulty := [row for row in done if row["kind"] != SOUND]:
        rows.add(**total("all with a fault", faulty))
    rows.show()


if __name__ == "__main__":
    main()
