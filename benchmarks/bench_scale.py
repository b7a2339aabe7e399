"""How time and memory grow with stacks, resolution and size; how many subjects an hour, and what the engine takes.

    python benchmarks/bench_scale.py [--quick] [--json [FILE]] [--sizes MM ...]
        [--parts start stacks resolution size subjects page]

Subjects are phantoms, simulated. Every reconstruction is a process of one thread; seconds are those of its processor
time, start of Python included. What a subject of next to no pixels takes is told apart from what grows with them.

Parts, and sizes, may be measured one by one: what a record holds of others stays, while it is of the same source.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
from bench_sampling import run
from records import Record, Row, add_json_option, rows_of_this_source

from slicesplat.cohort.figures import Figures, figures_of
from slicesplat.cohort.overview import Line, page_of
from slicesplat.io.nifti import save_mask, save_stack
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

PARTS = ("start", "stacks", "resolution", "size", "subjects", "page")
STACKS, RESOLUTIONS = (2, 3, 6, 12), (0.5, 0.8, 1.2)
USUAL = 64.0
"""mm, of a small fetal brain."""
SIZES = (68.0, 90.0, 140.0, 250.0)
"""mm: 0.1 to 5 million pixels in the masks of three stacks, from a small fetal brain to an abdomen."""
NOTHING = 24.0
"""mm: next to no pixels."""
SUBJECTS, STUDY = 6, 50
"""How many are measured, and how many the smallest of the studies has that the engine is for."""
PAGE = 1000
"""Subjects of the overview that is looked at."""
_ADOPT = 36
"""Linux's PR_SET_CHILD_SUBREAPER."""


def body(size: float, pixel: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A brain of that length, or what is larger than the usual one: an ellipsoid full of mirrored brains of usual size.

    A larger region then has more of the same detail, as a larger part of the body has, and not coarser detail.
    """
    if size <= USUAL:
        return brain_phantom(size, pixel)
    values, affine, inside = brain_phantom(USUAL, pixel)
    half = np.array([0.85, 1.0, 0.85]) * size / 2
    more = np.maximum(np.ceil(half / pixel).astype(int) + 1 - np.array(values.shape) // 2, 0)
    tissue = np.where(inside, values, np.median(values[inside]))
    filled = np.pad(tissue, [(n, n) for n in more], mode="symmetric")
    affine[:3, 3] -= more * pixel
    axes = np.meshgrid(*(pixel * (np.arange(n) - (n - 1) / 2) for n in filled.shape), indexing="ij", sparse=True)
    return filled, affine, sum((x / a) ** 2 for x, a in zip(axes, half, strict=True)) < 1


def write(folder: Path, stacks: int, size: float, pixel: float = 1.1) -> tuple[list[str], list[str], int]:
    """Files of simulated stacks and masks, and how many pixels the masks hold."""
    settings = SimulationConfig(stacks=stacks, pixel=pixel, spacing=3.0, thickness=3.0, motion="mild", seed=3)
    made = simulate(*body(size, pixel), settings).stacks
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
        about = Path(name) / "result.json"
        to = ("--output-volume", str(Path(name) / "volume.nii.gz"), "--output-resolution", str(resolution))
        row = run("reconstruct", *given, *to, "--output-json", str(about))
        found = json.loads(about.read_text("utf-8"))
    row["gaussians"] = found["gaussians"]
    return {"part": part, "stacks": stacks, "size_mm": size, "resolution": resolution, "pixels": pixels, **row}


def whole(*arguments: str, environment: dict[str, str] | None = None) -> Row:
    """Seconds of a command and of all processes that it has started, also of those that outlive their parents."""
    adopts = sys.platform == "linux" and ctypes.CDLL(None).prctl(_ADOPT, 1, 0, 0, 0) == 0
    before, start = _children(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "slicesplat", *arguments, "--quiet"], check=True, env=environment)
    wall = time.perf_counter() - start
    while adopts:
        try:
            os.wait()
        except ChildProcessError:
            break
    return {"wall_s": wall, "cpu_s": _children() - before}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(folder: Path, folders: list[Path]) -> str:
    """The study of the subjects in folders."""
    with (folder / "study.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "stacks", "masks"))
        writer.writerows((each.name, f"{each}/stack-*.nii.gz", f"{each}/mask-*.nii.gz") for each in folders)
    return str(folder / "study.csv")


def subjects(count: int, size: float) -> Row:
    """Subjects side by side: how many an hour, and what the engine's own processes take beside those of the subjects.

    Both are of one run: what another run of the same subjects takes differs by more than the engine does.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folders = [folder / f"s{number}" for number in range(count)]
        for each in folders:
            each.mkdir()
            write(each, 3, size)
        spent = folder / "spent"
        words = ("batch", table(folder, folders), str(folder / "out"), "--threads-per-subject", "1")
        row = whole(*words, environment=weighed(folder / "weighed", spent))
        idle = whole(*words)
        subjects_s = sum(map(float, spent.read_text("utf-8").split()))
    engine_s = row["cpu_s"] - subjects_s
    per_subject = (engine_s - idle["cpu_s"]) / count
    return {
        "part": "subjects", "subjects": count, "size_mm": size, **row, "subjects_cpu_s": subjects_s,
        "idle_cpu_s": idle["cpu_s"], "per_hour": 3600 * count / row["wall_s"], "overhead": engine_s / subjects_s,
        "overhead_study": (STUDY * per_subject + idle["cpu_s"]) / (STUDY * subjects_s / count),
    }  # fmt: skip


_WEIGHED = """
import sys

if "slicesplat.cohort.child" not in sys.orig_argv:
    import resource

    import slicesplat.cohort.task as task

    started = task._started

    def weighed(*given):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        problem = started(*given)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open({spent!r}, "a") as file:
            print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, file=file)
        return problem

    task._started = weighed
"""


def weighed(folder: Path, spent: Path) -> dict[str, str]:
    """The environment of a run of `batch` whose workers write down what each of their subjects took."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_WEIGHED.format(spent=str(spent)), encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def page(count: int) -> Row:
    """The overview of many subjects in headless Chromium: until it is there, sorted and filtered, drawn each time."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
        path = Path(name) / "cohort.html"
        path.write_text(page_of([_line(number, Path(name)) for number in range(count)]), encoding="utf-8")
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        shown, start = browser.new_page(), time.perf_counter()
        shown.goto(path.as_uri())
        load = time.perf_counter() - start
        sort = median(
            shown.evaluate(_UNTIL_DRAWN, f"thead th:nth-child({column}) button") for column in (7, 1, 8, 3, 11)
        )
        filtered = shown.evaluate(_UNTIL_DRAWN, "button.grade")
        browser.close()
        size = path.stat().st_size / 1e6
    return {"part": "page", "subjects": count, "mb": size, "load_s": load, "sort_s": sort, "filter_s": filtered}


_UNTIL_DRAWN = """what => new Promise(done => {
  const start = performance.now();
  document.querySelector(what).click();
  requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000), 0));
})"""


def _line(number: int, folder: Path) -> Line:
    """A line as a brain's is, each with a picture of its own."""
    seen = Figures("pass" if number % 5 else "check", (), 3, 75, 0.04, 0.9 + number % 97 / 1000, 1.1, 50000, 30.0, 1e9)
    values = np.random.default_rng(number).normal(100, 20, (48, 48, 48)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "volume.nii")
    seen = replace(seen, picture=figures_of(folder / "none.json", folder / "volume.nii").picture)
    return Line(f"sub-{number}", "done", seen, "", "volume.nii.gz", "report.html")


def measured(parts: Sequence[str], sizes: Sequence[float], quick: bool) -> Iterator[Row]:
    """All rows, one by one."""
    usual = 36.0 if quick else USUAL
    if "start" in parts:
        yield reconstruction("start", 3, NOTHING, 0.8)
    if "stacks" in parts:
        yield from (reconstruction("stacks", n, usual, 0.8) for n in (STACKS[:2] if quick else STACKS))
    if "resolution" in parts:
        yield from (reconstruction("resolution", 3, usual, mm) for mm in (RESOLUTIONS[-2:] if quick else RESOLUTIONS))
    if "size" in parts:
        yield from (reconstruction("size", 3, mm, 0.8) for mm in sizes)
    if "subjects" in parts:
        yield subjects(2 if quick else SUBJECTS, usual)
    if "page" in parts:
        yield page(20 if quick else PAGE)


def told(row: Row) -> str:
    """A row in words."""
    if row["part"] == "page":
        return (
            f"page of {row['subjects']} subjects, {row['mb']:.1f} MB: there after {row['load_s']:.2f} s, sorted after "
            f"{row['sort_s']:.2f} s, filtered after {row['filter_s']:.2f} s"
        )
    spent = f"{row['wall_s']:.0f} s, {row['cpu_s']:.1f} s of processor time"
    if row["part"] == "subjects":
        return (
            f"{row['subjects']} subjects of {row['size_mm']:g} mm: {row['per_hour']:.0f} an hour at once, {spent}; "
            f"{row['subjects_cpu_s']:.1f} s of it the subjects', the engine adds {100 * row['overhead']:.1f} %, "
            f"in a study of {STUDY} {100 * row['overhead_study']:.1f} %; {row['idle_cpu_s']:.1f} s where all is done"
        )
    return (
        f"{row['part']}: {row['stacks']} stacks, {row['size_mm']:g} mm, to {row['resolution']:g} mm, {row['pixels']:,} "
        f"pixels: {spent}, {row['peak_memory_mb']:.0f} MB, {row['gaussians']:,} Gaussians"
    )


def costs(rows: list[Row]) -> Iterator[str]:
    """What a pixel costs beyond the start, and how far that is from the median of each part."""
    start = next((row["cpu_s"] for row in rows if row["part"] == "start"), None)
    if start is None:
        return
    yield f"start: {start:.1f} s of processor time, whatever the subject"
    for part in ("stacks", "resolution", "size"):
        cost = [1e6 * (row["cpu_s"] - start) / row["pixels"] for row in rows if row["part"] == part]
        if cost:
            spread = max(abs(each / median(cost) - 1) for each in cost)
            each = ", ".join(f"{value:.0f}" for value in cost)
            yield f"{part}: {each} us a pixel beyond the start, within {100 * spread:.0f} % of the median"


def _key(row: Row) -> tuple[object, ...]:
    """What a row is of: one of the same is its successor."""
    return row["part"], row.get("size_mm"), row.get("stacks"), row.get("resolution")


def _sorted(rows: dict[tuple[object, ...], Row]) -> list[Row]:
    return sorted(
        rows.values(),
        key=lambda row: (PARTS.index(row["part"]), *(row.get(name, 0) for name in ("size_mm", "stacks", "resolution"))),
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small subjects, two of each")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--sizes", nargs="+", type=float, metavar="MM", help=f"of part size; default {SIZES}")
    add_json_option(options, "scale")
    args = options.parse_args()
    rows = {_key(row): row for row in rows_of_this_source(args.json)}
    run("compile")  # once per installation, and no subject's
    record = Record("scale", args.json, {"quick": args.quick, "parts": args.parts})
    for row in measured(args.parts, args.sizes or ((36.0, 48.0) if args.quick else SIZES), args.quick):
        rows[_key(row)] = row
        print(told(row), flush=True)
        record.write(_sorted(rows), complete=False)
    print(*costs(_sorted(rows)), sep="\n")
    record.write(_sorted(rows), complete=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
