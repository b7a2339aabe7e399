"""How well slices are found: pose errors over the shared cases and many more, simulated with other seeds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from cases import (
    SIMULATED,
    STACKS,
    Case,
    Row,
    Rows,
    case_folder,
    load_case,
    made_case,
    parser,
    phantom_source,
    pose_quality,
    quick_case,
    say,
    shared_sources,
    step_seconds,
)

from slicesplat.config import Config
from slicesplat.pipeline import reconstruct
from slicesplat.validation.simulate import Motion

# Simulated cases per level.
COUNTS: dict[Motion, int] = {"none": 4, "mild": 8, "moderate": 20, "severe": 20}
# What a case has to reach: column, bound, and whether it is the least or the most that is allowed.
TARGETS: dict[Motion, list[tuple[str, str, float]]] = {
    "none": [("median_mm", "<=", 0.1)],
    "mild": [("median_mm", "<=", 0.15)],
    "moderate": [("median_mm", "<=", 0.2), ("under_1mm_share", ">=", 0.97), ("lost_share", "<=", 0.03)],
    "severe": [("median_mm", "<=", 0.4), ("under_2mm_share", ">=", 0.95)],
}


def cases_of(level: Motion, args: argparse.Namespace) -> Iterator[Case]:
    """The shared cases of a level of motion, then simulated ones, the volumes taking turns."""
    if args.cases:
        named = (load_case(case_folder(name)) for name in args.cases)
        yield from (case for case in named if case.motion and case.motion["args"]["motion"] == level)
        return
    if args.quick:
        yield quick_case(level, args.seed)
        return
    if not args.no_shared:
        shared = (load_case(folder) for folder in sorted(SIMULATED.glob("*/")))
        yield from (case for case in shared if case.motion and case.motion["args"]["motion"] == level)
    sources = [phantom_source(), *shared_sources()]
    for i in range(COUNTS[level] if args.count is None else args.count):
        yield made_case(sources[(args.seed + i) % len(sources)], level, args.seed + i)


def reached(row: Row, level: Motion) -> bool:
    """Whether a case meets every target of its level."""
    return all(
        row[column] <= bound if relation == "<=" else row[column] >= bound for column, relation, bound in TARGETS[level]
    )


def measured(case: Case, config: Config) -> Row:
    """Pose errors of one reconstruction, and the seconds of its steps."""
    result = reconstruct(case.stacks, config)
    seconds = step_seconds(step for step in result.steps if step.step in ("register", "fit"))
    return {**pose_quality(result.slice_records(), case), **seconds}


def total(level: Motion, rows: Sequence[Row]) -> Row:
    """The level's cases together: medians over cases, and how many met the targets."""
    names = ("median_mm", "under_1mm_share", "under_2mm_share", "lost_share", "register_s", "fit_s")
    middle = {name: round(float(np.median([row[name] for row in rows])), 4) for name in names if name in rows[0]}
    wanted = ", ".join(f"{column.replace('_', ' ')} {relation} {bound:g}" for column, relation, bound in TARGETS[level])
    met = sum(row["reached"] == "yes" for row in rows)
    return {"case": f"{level}: {wanted}", **middle, "reached": f"{met} of {len(rows)}"}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--level", choices=STACKS, nargs="+", default=list(STACKS), help="of motion; default: all")
    options.add_argument("--count", type=int, help=f"simulated cases per level; default: {COUNTS}")
    options.add_argument("--seed", type=int, default=100, help="of the first simulated case; the next ones follow")
    options.add_argument("--no-shared", action="store_true", help="simulated cases only")
    args = options.parse_args()
    if not SIMULATED.is_dir():
        say("no shared cases here: simulating from the phantom only")
    config = Config(resolution=2.0)  # poses do not depend on the grid that the volume is sampled on
    rows = Rows("Motion", args.json)
    totals = []
    for level in args.level:
        done = []
        for case in cases_of(level, args):
            row = measured(case, config)
            done.append({**row, "reached": "yes" if reached(row, level) else "no"})
            rows.add(case=case.name, **done[-1])
        if done:
            totals.append(total(level, done))
    for row in totals:
        rows.add(**row)
    rows.show()


if __name__ == "__main__":
    main()
