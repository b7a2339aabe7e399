"""Time and memory of what a result is used for, as the commands do it: start of Python, reading and writing included.

Its model is sampled again, on grids and in slices; its motion is applied to other data, here the same stacks.

    python benchmarks/bench_sampling.py [--quick] [--json [FILE]] [--resolutions 0.8 0.5 0.3]

The model is that of a reconstruction with default settings: of the real case where it is there, else, and with --quick,
of a phantom.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
from cases import REAL, load_case, quick_case
from records import Record, Row, add_json_option

from slicesplat.config import Config
from slicesplat.io.model import save_model
from slicesplat.io.slices import save_slices
from slicesplat.pipeline import reconstruct

_MEGABYTE = 2**20 if sys.platform == "darwin" else 2**10  # in the units that the system counts memory in


def run(*arguments: str) -> Row:
    """Seconds and memory of a command, in a process of its own, and of the processes that it waits for."""
    command, start = [sys.executable, "-m", "slicesplat", *arguments, "--quiet"], time.perf_counter()
    _, status, used = os.wait4(os.posix_spawn(sys.executable, command, dict(os.environ)), 0)
    if status:
        raise SystemExit(f"{arguments[0]} ended with status {status}")
    return {
        "wall_s": time.perf_counter() - start,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_memory_mb": used.ru_maxrss / _MEGABYTE,
    }


def prepare(quick: bool, folder: Path) -> tuple[str, int]:
    """Leave the model and the slices of a reconstruction in a folder: the name of the case, the number of slices."""
    case = quick_case() if quick or not REAL.exists() else load_case(REAL)
    made = reconstruct(case.stacks, Config())
    for number, stack in enumerate(case.stacks, start=1):
        nib.save(nib.Nifti1Image(stack.data, stack.affine), folder / f"stack-{number}.nii.gz")
        nib.save(nib.Nifti1Image(stack.mask.astype(np.uint8), stack.affine), folder / f"mask-{number}.nii.gz")
    (folder / "result.json").write_text(json.dumps(made.json()), encoding="utf-8")
    save_model(made.model, folder / "model.safetensors")
    save_slices(folder / "slices", made.stacks, made.slice_records())
    return case.name, len(made.slices)


def measure(name: str, slices: int, resolutions: Sequence[float], folder: Path) -> Iterator[Row]:
    """A row for each resolution, and one for the slices."""
    model, out = str(folder / "model.safetensors"), str(folder / "volume.nii.gz")
    for size in resolutions:
        row = run("sample-volume", "--input-model", model, "--output-volume", out, "--output-resolution", str(size))
        voxels = int(np.prod(nib.Nifti1Image.from_filename(out).shape))
        yield {"case": name, "run": f"volume, {size:g} mm", "size": voxels, **row}
    given = ("--input-slices", str(folder / "slices"), "--simulated-slices", str(folder / "shown"))
    row = run("sample-slices", "--input-model", model, *given)
    yield {"case": name, "run": "slices", "size": slices, **row}
    stacks, masks = ([str(path) for path in sorted(folder.glob(f"{kind}-*.nii.gz"))] for kind in ("stack", "mask"))
    given = ("--input-stacks", *stacks, "--stack-masks", *masks, "--output-resolution", str(resolutions[0]))
    row = run("apply", "--poses", str(folder / "result.json"), *given, "--output-volumes", out)
    yield {"case": name, "run": "apply, stacks", "size": len(stacks), **row}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a phantom, on few voxels")
    options.add_argument("--resolutions", type=float, nargs="+", default=[0.8, 0.5, 0.3], metavar="MM")
    add_json_option(options, "sampling")
    args = options.parse_args()
    record, rows = Record("sampling", args.json, {"quick": args.quick, "resolutions": args.resolutions}), []
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: the memory of the one that starts a command counts as the command's.
        with get_context("spawn").Pool(1) as pool:
            name, slices = pool.apply(prepare, (args.quick, Path(folder)))
        for row in measure(name, slices, [1.6] if args.quick else args.resolutions, Path(folder)):
            rows.append(row)
            print(
                f"{row['case']}, {row['run']}, {row['size']:,} of them: {row['wall_s']:.1f} s, {row['cpu_s']:.1f} s of "
                f"processor time, {row['peak_memory_mb']:.0f} MB",
                flush=True,
            )
            record.write(rows, complete=False)
    record.write(rows, complete=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
