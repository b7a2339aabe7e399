"""What it takes to look: seconds and size of a reconstruction's page, error map included, and what the verdict costs.

    python benchmarks/bench_report.py [--quick] [--json [FILE]] [--repeats 3]

The reconstruction is that of the real case where it is there, else, and with --quick, of a phantom. Each page is made
from the result as it is in memory; the first one, which imports what it needs, counts too. The verdict's share is that
of the processor time from stacks to volume, on one thread, kernels loaded and without the error map.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from cases import REAL, load_case, quick_case
from records import Record, Row, add_json_option

from slicesplat.config import Config
from slicesplat.pipeline import reconstruct
from slicesplat.pipeline.setup import LOAD_KERNELS
from slicesplat.progress import Progress
from slicesplat.result import Reconstruction


class Clock:
    """Seconds of processor time of each step, as a callback of the reconstruction."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._since = "", time.process_time()

    def __call__(self, now: Progress) -> None:
        """A step begins, or goes on."""
        if now.step != self._step:
            self.end()
            self._step = now.step

    def end(self) -> None:
        """The last step is over."""
        here = time.process_time()
        self.seconds[self._step] = self.seconds.get(self._step, 0.0) + here - self._since
        self._since = here

    def of_verdict(self) -> Row:
        """The verdict's part of the way from stacks to volume."""
        beside = {"", LOAD_KERNELS, "uncertainty"}
        whole = sum(seconds for step, seconds in self.seconds.items() if step not in beside)
        return {"run_cpu_s": whole, "check_cpu_s": self.seconds["check"], "check_share": self.seconds["check"] / whole}


def timed(made: Reconstruction, path: Path) -> Row:
    """One page."""
    wall, processor = time.perf_counter(), time.process_time()
    made.report(path, ["slicesplat", "reconstruct"])
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - processor,
        "size_mb": path.stat().st_size / 1e6,
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a phantom, on few voxels")
    options.add_argument("--repeats", type=int, default=3, metavar="N")
    add_json_option(options, "report")
    args = options.parse_args()
    record = Record("report", args.json, {"quick": args.quick, "repeats": args.repeats})
    case = quick_case() if args.quick or not REAL.exists() else load_case(REAL)
    clock = Clock()
    made = reconstruct(case.stacks, Config(uncertainty=True, threads=1), clock)
    clock.end()
    rows: list[Row] = [{"case": case.name, "run": "verdict", **clock.of_verdict()}]
    print(
        f"{case.name}, verdict: {rows[0]['check_cpu_s']:.2f} of {rows[0]['run_cpu_s']:.1f} s of processor time, "
        f"{rows[0]['check_share']:.1%}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.repeats):
            row = {"case": case.name, "run": f"page {number + 1}", **timed(made, Path(folder) / "page.html")}
            rows.append(row)
            print(
                f"{case.name}, page {number + 1}: {row['wall_s']:.1f} s, {row['cpu_s']:.1f} s of processor time, "
                f"{row['size_mb']:.1f} MB",
                flush=True,
            )
    record.write(rows, complete=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
