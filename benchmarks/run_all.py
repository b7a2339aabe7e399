"""Every benchmark whose figures are in the documents, one after the other, from short to long; then the tables.

    python benchmarks/run_all.py                   # all that have not been run on this source yet
    python benchmarks/run_all.py splat accuracy    # these only
    python benchmarks/run_all.py --again           # also those that have been

It can be ended at any time and started again: a benchmark that has come to its end on the same source is not repeated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from records import RESULTS, read, source_digest

HERE = Path(__file__).resolve().parent
# Name of the record, script, arguments.
JOBS: dict[str, tuple[str, ...]] = {
    "duplicates": ("bench_duplicates.py",),
    "slice-axis": ("bench_slice_axis.py",),
    "accuracy-leave-one-out": ("bench_accuracy.py", "--leave-one-out"),
    "accuracy-stacks": ("bench_accuracy.py", "--bad-stack", "--subsets", "4"),
    "sampling": ("bench_sampling.py",),
    "report": ("bench_report.py",),
    "standard-space": ("bench_standard_space.py",),
    "masks": ("bench_masks.py",),
    "masks-volume": ("bench_masks.py", "--only", "volume"),
    "labels": ("bench_labels.py",),
    "splat": ("bench_splat.py",),
    "situations": ("bench_situations.py", "--cases", "fetal-mild"),
    "undetermined": ("bench_undetermined.py",),
    "least-squares": ("known_pose_least_squares.py",),
    "reconstruct": ("bench_reconstruct.py",),
    "in-turn": ("bench_in_turn.py",),
    "uncertainty": ("bench_uncertainty.py",),
    "accuracy": ("bench_accuracy.py", "--one-mask", "--true-poses"),
    "primitives-curve": ("bench_primitives.py", "--curve"),
    "primitives-paper": ("bench_primitives.py", "--paper"),
    "primitives": ("bench_primitives.py",),
    "primitives-leave-one-out": ("bench_primitives.py", "--leave-one-out"),
    "memory": ("bench_memory.py",),
    "gsvr": ("bench_gsvr.py",),
    "motion": ("bench_motion.py",),
    "verdict": ("bench_verdict.py",),
    "scale": ("bench_scale.py",),
    "success": ("bench_success.py",),
}


def done(name: str, source: str) -> bool:
    """Whether a benchmark has come to its end on this source."""
    record = read(RESULTS / f"{name}.json")
    return record is not None and record["source"] == source


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(JOBS)}")
    options.add_argument("--again", action="store_true", help="also what has been run on this source already")
    args = options.parse_args()
    if unknown := set(args.names) - set(JOBS):
        options.error(f"no such benchmark: {', '.join(sorted(unknown))}; choose from {', '.join(JOBS)}")
    source, failed = source_digest(), []
    for name, (script, *arguments) in JOBS.items():
        if args.names and name not in args.names:
            continue
        if not args.again and done(name, source):
            print(f"{name}: done already", flush=True)
            continue
        start = time.perf_counter()
        command = [sys.executable, str(HERE / script), *arguments, "--json", str(RESULTS / f"{name}.json")]
        status = subprocess.run(command, check=False).returncode
        print(f"{name}: {'FAILED' if status else 'done'} in {time.perf_counter() - start:.0f} s", flush=True)
        if status:
            failed.append(name)
    status = subprocess.run([sys.executable, str(HERE / "tables.py")], check=False).returncode
    return int(bool(failed) or status != 0)


if __name__ == "__main__":
    sys.exit(main())
