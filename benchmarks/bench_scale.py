"""How time and memory grow with stacks, resolution and size; how many subjects an hour, and what the engine takes.

    python benchmarks/bench_scale.py [--quick] [--json [FILE]] [--parts stacks resolution size subjects]

Subjects are phantoms, simulated. Every reconstruction is a process of one thread; seconds are those of its processor
time, start of Python included.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from bench_sampling import run
from records import Record, Row, add_json_option

from slicesplat.io.nifti import save_mask, save_stack
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

PARTS = ("stacks", "resolution", "size", "subjects")
STACKS, RESOLUTIONS, SIZES = (2, 3, 4, 6, 9, 12), (0.5, 0.65, 0.8, 1.0, 1.2), (36.0, 52.0, 76.0, 110.0, 130.0)
SUBJECTS = 8


def write(folder: Path, stacks: int, size: float, pixel: float = 1.1) -> tuple[list[str], list[str], int]:
    """Files of simulated stacks and masks, and how many pixels the masks hold."""
    settings = SimulationConfig(stacks=stacks, pixel=pixel, spacing=3.0, thickness=3.0, motion="mild", seed=3)
    made = simulate(*brain_phantom(size, pixel), settings).stacks
    files = [[str(folder / f"{kind}-{n}.nii.gz") for n in range(stacks)] for kind in ("stack", "mask")]
    for stack, image, mask in zip(made, *files, strict=True):
        save_stack(stack, image)
        save_mask(stack, mask)
    return files[0], files[1], int(sum(stack.mask.sum() for stack in made))


def reconstruction(part: str, stacks: int, size: float, resolution: float) -> Row:
    """One subject, by the command."""
    with tempfile.TemporaryDirectory() as name:
        images, masks, pixels = write(Path(name), stacks, size)
        given = ("--input-stacks", *images, "--stack-masks", *masks, "--threads", "1")
        to = ("--output-volume", str(Path(name) / "volume.nii.gz"), "--output-resolution", str(resolution))
        row = run("reconstruct", *given, *to)
    about = {"part": part, "stacks": stacks, "size_mm": size, "resolution": resolution, "pixels": pixels}
    return {**about, **row, "us_per_pixel": 1e6 * row["cpu_s"] / pixels}


def subjects(count: int, size: float) -> Row:
    """The same subjects by `batch`, and one after the other without it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [("id", "stacks", "masks")]
        single = []
        for number in range(count):
            (folder / str(number)).mkdir()
            images, masks, _ = write(folder / str(number), 3, size)
            lines.append((f"s{number}", ";".join(images), ";".join(masks)))
            out = folder / str(number)
            flags = ("--output-volume", str(out / "volume.nii.gz"), "--output-json", str(out / "result.json"))
            report = ("--output-report", str(out / "report.html"))
            given = ("--input-stacks", *images, "--stack-masks", *masks, "--threads", "1")
            single.append(run("reconstruct", *given, *flags, *report)["cpu_s"])
        with (folder / "study.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
        row = run("batch", str(folder / "study.csv"), str(folder / "out"), "--threads-per-subject", "1")
    return {
        "part": "subjects", "subjects": count, "size_mm": size, **row, "single_cpu_s": sum(single),
        "per_hour": 3600 * count / row["wall_s"], "overhead": row["cpu_s"] / sum(single) - 1,
    }  # fmt: skip


def measured(parts: list[str], quick: bool) -> Iterator[Row]:
    """All rows, one by one."""
    usual = 36.0 if quick else 64.0
    if "stacks" in parts:
        yield from (reconstruction("stacks", n, usual, 0.8) for n in (STACKS[:2] if quick else STACKS))
    if "resolution" in parts:
        yield from (reconstruction("resolution", 3, usual, mm) for mm in (RESOLUTIONS[-2:] if quick else RESOLUTIONS))
    if "size" in parts:
        yield from (reconstruction("size", 3, mm, 0.8) for mm in (SIZES[:2] if quick else SIZES))
    if "subjects" in parts:
        yield subjects(2 if quick else SUBJECTS, usual)


def told(row: Row) -> str:
    """A row in words."""
    spent = f"{row['wall_s']:.0f} s, {row['cpu_s']:.1f} s of processor time, {row['peak_memory_mb']:.0f} MB"
    if row["part"] == "subjects":
        return (
            f"{row['subjects']} subjects: {row['per_hour']:.0f} an hour; {spent}; one by one "
            f"{row['single_cpu_s']:.1f} s of it: the engine takes {100 * row['overhead']:.1f} %"
        )
    return (
        f"{row['part']}: {row['stacks']} stacks, {row['size_mm']:g} mm, to {row['resolution']:g} mm, {row['pixels']:,} "
        f"pixels: {spent}, {row['us_per_pixel']:.0f} us a pixel"
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small subjects, two of each")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add_json_option(options, "scale")
    args = options.parse_args()
    record, rows = Record("scale", args.json, {"quick": args.quick, "parts": args.parts}), []
    for row in measured(args.parts, args.quick):
        rows.append(row)
        print(told(row), flush=True)
        record.write(rows, complete=False)
    for part in ("stacks", "size"):
        costs = [row["us_per_pixel"] for row in rows if row["part"] == part]
        if costs:
            spread = max(abs(np.array(costs) / median(costs) - 1))
            print(f"{part}: cost of a pixel within {100 * spread:.0f} % of the median")
    record.write(rows, complete=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
