"""Seconds and size of the page that shows a reconstruction, its error map included.

    python benchmarks/bench_report.py [--quick] [--json [FILE]] [--repeats 3]

The reconstruction is that of the real case where it is there, else, and with --quick, of a phantom. Each page is made
from the result as it is in memory; the first one, which imports what it needs, counts too.
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
from slicesplat.result import Reconstruction


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
    made, rows = reconstruct(case.stacks, Config(uncertainty=True)), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.repeats):
            row = {"case": case.name, "run": number + 1, **timed(made, Path(folder) / "page.html")}
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
