"""From files to a volume: seconds of each step, wall time, peak memory, and the accuracy that they buy.

Each run is a process of its own. The first has an empty cache of compiled code, the second uses what the first left;
further ones change the number of threads. All have to write the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cases import (
    QUICK_SIZE,
    QUICK_SPACING,
    REAL,
    SIMULATED,
    Row,
    Rows,
    case_folder,
    image_quality,
    load_case,
    parser,
    phantom_source,
    pose_quality,
    say,
    stack_files,
    step_seconds,
)

from slicesplat.io.nifti import load_volume
from slicesplat.progress import StepRecord
from slicesplat.records import SliceRecord
from slicesplat.splat import available_backends
from slicesplat.validation.files import save
from slicesplat.validation.simulate import SimulationConfig, simulate

BENCHMARK = "reconstruct"


def made_folder(folder: Path, size_mm: float, spacing: float) -> Path:
    """A case simulated from the phantom, on disk."""
    source = phantom_source(size_mm, spacing)
    geometry = (source.volume, source.affine, source.mask)
    save(simulate(*geometry, SimulationConfig()), folder / "phantom-mild", *geometry)
    return folder / "phantom-mild"


def case_folders(args: argparse.Namespace, folder: Path) -> Iterator[Path]:
    """Where the cases lie; those made here are written to `folder`."""
    if args.cases:
        yield from (case_folder(name) for name in args.cases)
    elif args.quick:
        yield made_folder(folder, QUICK_SIZE, QUICK_SPACING)
    elif SIMULATED.is_dir():
        yield from sorted(SIMULATED.glob("*/"))
        yield REAL
    else:
        say("no shared cases here: simulating one from the phantom")
        yield made_folder(folder, 92.0, 0.8)


def thickness_options(case: Path) -> list[str]:
    """The slice thickness of a simulated case; a real one has it beside its stacks."""
    truth = case / "truth.json"
    return ["--thicknesses", str(json.loads(truth.read_text())["args"]["thickness"])] if truth.exists() else []


def run(case: Path, folder: Path, cache: Path, threads: int, resolution: float, device: str) -> tuple[Row, str]:
    """One process: its seconds and memory, its accuracy, and the digest of the volume that it wrote."""
    stacks, masks = stack_files(case)
    volume, record = folder / "volume.nii", folder / "result.json"
    command = [sys.executable, "-m", "slicesplat", "reconstruct", "--quiet", "--threads", str(threads)]
    command += ["--device", device]
    command += ["--input-stacks", *map(str, stacks), "--stack-masks", *map(str, masks), *thickness_options(case)]
    command += ["--output-volume", str(volume), "--output-json", str(record), "--output-resolution", str(resolution)]
    start = time.perf_counter()
    caches = {"NUMBA_CACHE_DIR": str(cache), "TRITON_CACHE_DIR": str(cache / "triton")}
    subprocess.run(command, check=True, env={**os.environ, **caches})
    wall = time.perf_counter() - start
    result, known = json.loads(record.read_text(encoding="utf-8")), load_case(case)
    steps = [StepRecord(**step) for step in result["steps"]]
    poses = pose_quality([SliceRecord.from_json(entry) for entry in result["slices"]], known)
    row: Row = {
        **step_seconds(steps),
        "wall_s": round(wall, 1),
        "peak_mb": max(step.peak_memory_mb or 0 for step in steps),
        **image_quality(load_volume(volume), known),
        **{name: value for name, value in poses.items() if name in ("median_mm", "left_out")},
    }
    return row, hashlib.sha256(volume.read_bytes()).hexdigest()


def measure(rows: Rows, case: Path, threads: list[int], resolution: float, device: str) -> None:
    """All runs of one case on a device, and whether they wrote the same bytes."""
    runs = [("first", threads[0]), ("second", threads[0])]
    runs += [("cached", number) for number in threads[1:]]
    digests = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        for name, number in runs:
            row, digest = run(case, Path(folder), Path(cache), number, resolution, device)
            digests.append(digest)
            same = "yes" if digest == digests[0] else "NO"
            rows.add(case=case.name, device=device, run=name, threads=number, **row, same_bytes=same)
    verdict = "byte-identical" if len(set(digests)) == 1 else "NOT byte-identical"
    say(f"{case.name}, {device}: the volumes of {len(runs)} runs with {sorted(set(threads))} threads are {verdict}")


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument(
        "--threads", type=int, nargs="+", default=[2, 1], metavar="N", help="first for the timed runs, then compared"
    )
    options.add_argument("--device", nargs="+", choices=["cpu", "cuda"], default=["cpu"], help="where to compute")
    args = options.parse_args()
    devices = [device for device in args.device if device in available_backends()]
    if len(devices) < len(args.device):
        say("cuda: not measured: no CUDA device")
    rows = Rows("Reconstruction, end to end", BENCHMARK, args)
    with tempfile.TemporaryDirectory() as folder:
        for case in case_folders(args, Path(folder)):
            for device in devices:
                measure(rows, case, args.threads, QUICK_SPACING if args.quick else 0.8, device)
    rows.show()


if __name__ == "__main__":
    main()
