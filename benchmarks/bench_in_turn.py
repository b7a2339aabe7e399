"""From files to a volume by this version and another one, in turn: medians of the seconds that passed, and their ratio.

    python benchmarks/bench_in_turn.py [--before COMMIT] [--cases fetal-mild] [--repeats 5] [--json [FILE]]

Both run as commands, start of Python, reading and writing included, two threads, each with its kernels compiled before.
Seconds of another day or another machine are no comparison; those of the same minutes are.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_reconstruct import thickness_options
from cases import Rows, case_folder, parser, stack_files

BENCHMARK = "in-turn"
NOW = Path(__file__).resolve().parents[1] / "src"
BEFORE = "cc955f5"  # stacks were not searched over all rotations, poses not judged, no verdicts given


def unpacked(commit: str, folder: Path) -> Path:
    """The folder src of a commit, unpacked."""
    packed = subprocess.run(["git", "archive", commit, "src"], cwd=NOW.parent, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def seconds(source: Path, case: Path, folder: Path) -> float:
    """Of one run of the version whose source that is."""
    stacks, masks = stack_files(case)
    command = [sys.executable, "-m", "slicesplat", "reconstruct", "--quiet", "--threads", "2"]
    command += ["--input-stacks", *map(str, stacks), "--stack-masks", *map(str, masks), *thickness_options(case)]
    command += ["--output-volume", str(folder / "volume.nii.gz")]
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(source)})
    return time.perf_counter() - start


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--before", default=BEFORE, metavar="COMMIT", help="the other version (default: %(default)s)")
    options.add_argument("--repeats", type=int, default=5, metavar="N", help="of each (default: 5)")
    args = options.parse_args()
    rows = Rows("In turn", BENCHMARK, args)
    with tempfile.TemporaryDirectory() as folder:
        before_source = unpacked(args.before, Path(folder))
        for name in args.cases or ["fetal-mild", "mial-sub01"]:
            runs: dict[Path, list[float]] = {before_source: [], NOW: []}
            for source in runs:
                seconds(source, case_folder(name), Path(folder))  # compiles
            for _ in range(args.repeats):
                for source, taken in runs.items():
                    taken.append(seconds(source, case_folder(name), Path(folder)))
            before, now = (float(np.median(taken)) for taken in runs.values())
            rows.add(case=name, before_s=round(before, 1), now_s=round(now, 1), ratio=round(now / before, 3))
    rows.show()


if __name__ == "__main__":
    main()
