"""Is it foreseen how much memory a reconstruction takes: the estimate ahead of it, and the peak of its process."""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from cases import REAL, SIMULATED, Row, Rows, case_folder, load_case, parser, quick_case, stack_files

from slicesplat.config import Config, FitSettings
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import reconstruct, register
from slicesplat.prepare.load import load_stacks
from slicesplat.prepare.memory import GB, estimate_memory

BENCHMARK = "memory"

Masks = Literal["all", "one", "none"]


@dataclass(frozen=True)
class Job:
    """One measurement: a case, what is given of its masks, the settings, and whether a volume is made."""

    case: str
    masks: Masks = "all"
    settings: dict[str, Any] = field(default_factory=dict)
    volume: bool = True

    @property
    def name(self) -> str:
        """What the row is called."""
        told = [f"{key}={value}" for key, value in self.settings.items()]
        masks = [] if self.masks == "all" else [f"masks: {self.masks}"]
        return ", ".join([self.case, *masks, *told, *([] if self.volume else ["register"])])

    def stacks(self) -> list[Stack]:
        """The stacks, with their masks or without."""
        if self.case == "quick":
            return quick_case().stacks
        if self.masks == "all":
            return load_case(case_folder(self.case)).stacks
        stacks, masks = stack_files(case_folder(self.case))
        return load_stacks(stacks, masks[:1] if self.masks == "one" else None)


# What may change the peak, each on a case that shows it.
SETTINGS = (
    Job("fetal-mild", settings={"resolution": 0.4}),
    Job("fetal-mild", settings={"resolution": 0.25}),
    Job("fetal-mild", settings={"resolution": 1.2}),
    Job("fetal-mild", settings={"uncertainty": True}),
    Job("mial-sub01", settings={"uncertainty": True}),
    Job("fetal-mild", settings={"with_background": True}),
    Job("mial-sub01", settings={"with_background": True}),
    Job("fetal-mild", settings={"slice_profile": "box"}),
    Job("infant-moderate", settings={"threads": 2}),
    Job("mial-sub01", masks="one"),
    Job("fetal-mild", masks="none"),
    Job("fetal-mild", volume=False),
    Job("mial-sub01", volume=False),
)


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """The cases that --cases names; else a small one for --quick, or the shared ones and what changes the peak."""
    if args.cases:
        yield from map(Job, args.cases)
    elif args.quick:
        yield Job("quick", settings={"resolution": 1.2})
    else:
        yield from (Job(folder.name) for folder in sorted(SIMULATED.glob("*/")))
        yield Job(REAL.name)
        yield from SETTINGS


def measured(job: Job) -> Row:
    """Estimate and peak; to be run in a process of its own."""
    config = Config(**{"threads": 1, **job.settings})
    stacks = job.stacks()
    estimate = estimate_memory(stacks, config, FitSettings().spacings, job.volume).peak
    (reconstruct if job.volume else register)(stacks, config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"estimate_gb": round(estimate / GB, 3), "peak_gb": round(peak / GB, 3), "ratio": round(estimate / peak, 3)}


def main() -> None:
    args = parser(__doc__, BENCHMARK).parse_args()
    rows = Rows("Memory", BENCHMARK, args)
    # A peak is that of a process: each job has one, and no two run at a time.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for job in jobs(args):
            rows.add(case=job.name, **pool.apply(measured, (job,)))
    rows.show()


if __name__ == "__main__":
    main()
