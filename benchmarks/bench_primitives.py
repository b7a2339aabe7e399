"""Gaussians of any shape beside those of a lattice: how many it takes, and what they cost.

Every case is reconstructed as a user would, motion unknown, with the lattice, with as many primitives as the validation
pixels ask for, and with a sixth of the lattice's number; one case with 30,000. On request: volumes against numbers of
Gaussians for both (--curve), the recipe of the method's paper on our kernels (--paper), real stacks predicted from the
others (--leave-one-out).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench_accuracy import predict_left_out
from cases import (
    QUICK_SPACING,
    REAL,
    Case,
    Row,
    Rows,
    case_folder,
    chosen_cases,
    image_quality,
    load_case,
    parser,
    say,
    stack_files,
)
from paper_recipe import PaperSettings, paper_recipe

from slicesplat.config import Config, FitSettings
from slicesplat.io.model import save_model
from slicesplat.pipeline import reconstruct

BENCHMARK = "primitives"
NUMBER = 30_000
SIXTH = 6
CURVE = (1_000, 3_000, 10_000, 20_000, 30_000, 100_000, 200_000)
CURVE_CASE = "fetal-mild"


def with_field(config: Config, strategy: str, gaussians: int = 0) -> Config:
    return replace(config, fit=FitSettings(strategy=strategy, gaussians=gaussians))


def measured(case: Case, config: Config) -> Row:
    """One reconstruction: quality, number of Gaussians, size of the model's file, time."""
    clock, start = time.process_time(), time.perf_counter()
    result = reconstruct(case.stacks, config)
    wall, cpu = time.perf_counter() - start, time.process_time() - clock
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(result.model, path)
        size = path.stat().st_size
    times = {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}
    return {"gaussians": len(result.field), **image_quality(result.volume, case), "kb": size // 1000, **times}


def compare(rows: Rows, case: Case, config: Config) -> None:
    """The lattice, and primitives: a sixth as many, as many as the validation pixels ask for, in one case 30,000."""
    first = measured(case, with_field(config, "lattice"))
    rows.add(case=case.name, field="lattice", asked="", **first)
    asked = {"a sixth": first["gaussians"] // SIXTH, "": 0} | ({f"{NUMBER}": NUMBER} if case.name == CURVE_CASE else {})
    for name, number in asked.items():
        found = measured(case, with_field(config, "primitives", number))
        rows.add(case=case.name, field="primitives", asked=name, **found)


def curve(rows: Rows, case: Case, config: Config, numbers: Sequence[int]) -> None:
    """Both fields with so many Gaussians at most."""
    for number in numbers:
        for strategy in ("lattice", "primitives"):
            row = measured(case, with_field(config, strategy, number))
            rows.add(case=case.name, field=strategy, asked=f"{number}", **row)


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--curve", type=int, nargs="*", metavar="N", help=f"numbers of Gaussians; default {CURVE}")
    options.add_argument("--paper", action="store_true", help="the recipe of the method's paper, time and PSNR")
    options.add_argument(
        "--leave-one-out", type=int, nargs="*", metavar="N", help="predict these real stacks, from 1; default: all"
    )
    args = options.parse_args()
    config = Config(resolution=QUICK_SPACING) if args.quick else Config()
    rows = Rows("Gaussians of any shape", BENCHMARK, args)
    if args.curve is not None:
        for case in chosen_cases(args) if args.cases or args.quick else [load_case(case_folder(CURVE_CASE))]:
            curve(rows, case, config, args.curve or CURVE)
    if args.paper:
        for case in chosen_cases(args) if args.cases or args.quick else [load_case(case_folder(CURVE_CASE))]:
            settings = PaperSettings(gaussians=3_000, epochs=40) if args.quick else PaperSettings()
            for row in paper_recipe(case, config, settings):
                rows.add(case=case.name, field="paper's recipe", **row)
    if args.leave_one_out is not None:
        if stack_files(REAL)[0]:
            predict_left_out(rows, load_case(REAL), with_field(config, "primitives"), args.leave_one_out)
        else:
            say("the real stacks are not here: skipped")
    if args.curve is None and args.leave_one_out is None and not args.paper:
        for case in chosen_cases(args):
            compare(rows, case, config)
    rows.show()


if __name__ == "__main__":
    main()
