"""The tables of the documents, made from the records in benchmarks/results.

    python benchmarks/tables.py            # write them
    python benchmarks/tables.py --check    # fail where a document holds something else

A document holds a table between two marks, <!-- table: NAME --> and <!-- end -->. While the benchmark has not been run,
the first mark ends in "; no results yet": what stands there stays, until there are results.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records import RESULTS, ROOT, Row, read

PAGES = (
    *("README.md", "docs/accuracy.md", "docs/performance.md", "docs/verdict.md", "docs/masks.md", "docs/clusters.md"),
    *("docs/how-to/other-data.md", "docs/how-to/space-and-sampling.md"),
)
MARKED = re.compile(
    r"<!-- table: (?P<name>[\w-]+)(?P<pending>; no results yet)? -->\n(?P<body>.*?)<!-- end -->", re.DOTALL
)
# The shared cases, in words.
NAMES = {
    "fetal-mild": "fetal, mild motion",
    "fetal-moderate": "fetal, moderate",
    "infant-still": "infant, none",
    "infant-moderate": "infant, moderate",
    "infant-severe": "infant, severe",
    "neonatal-mild": "neonatal, mild, overlapping slices",
}
UNKNOWN, ONE_MASK, TRUE_POSES = "motion unknown", "one mask", "true poses"

Records = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Table:
    """What a table is made of, and how: the records' names, and the head and the lines from their rows."""

    sources: tuple[str, ...]
    made: Callable[..., tuple[list[str], list[list[str]]]]


def quality(row: Row | None) -> str:
    """PSNR and SSIM."""
    return f"{row['psnr']:.2f} / {row['ssim']:.3f}" if row and "psnr" in row else ""


def find(rows: Sequence[Row], **wanted: str) -> Row | None:
    """The first row that has these entries."""
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None)


def measured(accuracy: Sequence[Row], yardstick: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "stacks", "slicesplat", "known-pose least squares", "median slice error", "slices off by 2 mm"]
    lines = []
    for name, words in NAMES.items():
        row = find(accuracy, case=name, run=UNKNOWN)
        if row:
            off = 1 - row["under_2mm_share"]
            known = quality(find(yardstick, case=name))
            far = f"{100 * off:.1f} %" if off > 0 else "0"
            lines.append([words, f"{row['stacks']}", quality(row), known, f"{row['median_mm']:.2f} mm", far])
    return head, lines


def accuracy(rows: Sequence[Row], yardstick: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "stacks", "PSNR / SSIM", "one mask for all", "true poses given", "known-pose least squares"]
    head += ["median slice error", "Gaussians", "seconds"]
    lines = []
    for row in rows:
        if row["run"] != UNKNOWN:
            continue
        name = row["case"]
        others = [quality(find(rows, case=name, run=run)) for run in (ONE_MASK, TRUE_POSES)]
        known = quality(find(yardstick, case=name))
        last = [f"{row['median_mm']:.3f} mm", f"{row['gaussians']:,}", f"{row['wall_s']:.0f}"]
        lines.append([name, f"{row['stacks']}", quality(row), *others, known, *last])
    return head, lines


def left_out(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    lines = [[row["run"].removeprefix("predict").strip(" ,"), f"{row['ncc']:.3f}"] for row in rows]
    return ["stack left out", "mean correlation of its slices"], lines


def stacks(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    return ["stacks", "PSNR / SSIM", ""], [[row["run"], quality(row), row.get("verdict", "")] for row in rows]


def situations(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["situation", "PSNR / SSIM", "slices left out", "warnings"]
    return head, [
        [row["situation"], quality(row) or "refused", f"{row.get('left_out', '')}", f"{row.get('warnings', '')}"]
        for row in rows
    ]


def undetermined(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "", "PSNR", "of the best strength", "median and largest slice error", "largest turn", "as asked"]
    lines = []
    for row in rows:
        best = f"{row['best_psnr']:.2f} ({row['best_strength']:g})" if "best_psnr" in row else ""
        errors = f"{row['median_mm']:.2f} mm, {row['largest_mm']:.2f} mm" if "median_mm" in row else ""
        turn = f"{row['largest_degrees']:.1f} degrees" if "largest_degrees" in row else ""
        psnr = f"{row['psnr']:.2f}" if "psnr" in row else ""
        lines.append([row["case"], row["check"], psnr, best, errors, turn, row["verdict"]])
    return head, lines


def success(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["motion", "succeed", "used slices over 3 mm off", "sound slices left out", "fail without a warning"]
    return head, [
        [row["case"], row["success"], row["used_over_3_mm"], row["sound_left_out"], f"{row['failed_silently']}"]
        for row in rows
        if "number" not in row
    ]


def gsvr(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["volumes", "tool", "PSNR", "SSIM", "NCC", "slice error, median", "seconds"]
    return head, [
        [
            row["case"],
            row["run"],
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.3f}",
            f"{row['ncc']:.3f}",
            f"{row['median_mm']:.2f} mm" if "median_mm" in row else "",
            f"{row['wall_s']:.0f}",
        ]
        for row in rows
    ]


def uncertainty(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "error over standard error", "lowest and highest tenth", "rank correlation", "seconds"]
    return head, [
        [
            row["case"],
            f"{row['overall']:.2f}",
            f"{row['d1']:.2f}, {row['d10']:.2f}",
            f"{row['rank']:.2f}",
            f"{row['uncertainty_s']:.0f}",
        ]
        for row in rows
    ]


def memory(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "estimate, GB", "peak, GB", "estimate over peak"]
    return head, [
        [row["case"], f"{row['estimate_gb']:.2f}", f"{row['peak_gb']:.2f}", f"{row['ratio']:.2f}"] for row in rows
    ]


def scale(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["stacks", "size, mm", "to, mm", "pixels in masks", "Gaussians", "seconds", "per million pixels", "peak, GB"]
    start = min(row["cpu_s"] for row in rows if row["part"] == "start")
    return head, [
        [
            f"{row['stacks']}",
            f"{row['size_mm']:g}",
            f"{row['resolution']:g}",
            f"{row['pixels']:,}",
            f"{row['gaussians']:,}",
            f"{row['cpu_s']:.0f}",
            f"{1e6 * (row['cpu_s'] - start) / row['pixels']:.0f}",
            f"{row['peak_memory_mb'] / 1000:.1f}",
        ]
        for row in rows
        if row["part"] in ("stacks", "resolution", "size")
    ]


def reconstruct(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "threads", "seconds", "of it registration, fit", "peak, GB", "PSNR / SSIM", "same bytes"]
    return head, [
        [
            row["case"],
            f"{row['threads']}",
            f"{row['wall_s']:.1f}",
            f"{row.get('register_s', 0.0):.1f}, {row['fit_s']:.1f}",
            f"{row['peak_mb'] / 1000:.1f}",
            quality(row),
            row["same_bytes"],
        ]
        for row in rows
        if row["run"] != "first"
    ]


# Of bench_splat.py: column, its head, its format. Columns that a record does not have are left out. Nanoseconds are
# of processor time, milliseconds what passes.
SPLAT = (
    ("threads", "threads", "d"),
    ("gaussians", "Gaussians", ",d"),
    ("slice_gaussian_pairs", "slice-Gaussian pairs", ",d"),
    ("pairs", "pairs", ",d"),
    ("apply_ns", "product, ns", ".2f"),
    ("adjoint_ns", "adjoint, ns", ".2f"),
    ("pose_ns", "pose systems, ns", ".2f"),
    ("forward_ms", "forward, ms", ".1f"),
    ("backward_ms", "backward, ms", ".1f"),
    ("ns_per_pair", "forward and backward, ns a pair", ".2f"),
)


def splat(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    timed = [row for row in rows if "pairs" in row]
    columns = [column for column in SPLAT if any(column[0] in row for row in timed)]
    return ["case", *(head for _, head, _ in columns)], [
        [row["case"], *(f"{row[name]:{style}}" if name in row else "" for name, _, style in columns)] for row in timed
    ]


def in_turn(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "before, seconds", "now, seconds", "ratio"]
    return head, [[row["case"], f"{row['before_s']:.1f}", f"{row['now_s']:.1f}", f"{row['ratio']:.2f}"] for row in rows]


def iteration(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "threads", "Gaussians", "an iteration, ms", "of it the forward model, ms", "outside"]
    return head, [
        [
            row["case"].removesuffix(", iteration"),
            f"{row['threads']}",
            f"{row['gaussians']:,}",
            f"{row['iteration_ms']:.1f}",
            f"{row['forward_ms']:.1f}",
            f"{100 * row['outside']:.0f} %",
        ]
        for row in rows
        if "iteration_ms" in row
    ]


def verdict(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["cases", "number", "error above 3 dB", "flagged of them", "flagged of the others"]
    return head, [
        [
            row["kind"],
            f"{row['cases']}",
            f"{row['failed']}",
            f"{row['failed_flagged']}" if row["failed"] else "",
            f"{row['others_flagged']} of {row['cases'] - row['failed']}",
        ]
        for row in rows
        if "cases" in row
    ]


def report(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "", "seconds", "of processor time", "MB"]
    lines = []
    for row in rows:
        if "size_mb" in row:
            lines.append(
                [row["case"], row["run"], f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}", f"{row['size_mb']:.1f}"]
            )
        else:
            share = f"{row['check_cpu_s']:.2f} of {row['run_cpu_s']:.1f}, {100 * row['check_share']:.1f} %"
            lines.append([row["case"], row["run"], "", share, ""])
    return head, lines


def masks(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["stacks", "how many", "Dice, median", "of the worst 5 %", "missed", "something else taken for a brain"]
    real = [row for row in rows if "agreed" in row]
    single = [row for row in real if row["run"] not in ("mean", "worst")]
    lines = []
    for words, column in (("real, one fetus, as found", "dice"), ("the same, once one region in space", "agreed")):
        mean, worst = (find(real, run=run) for run in ("mean", "worst"))
        if mean and worst:
            values = [
                f"{mean[column]:.3f} (mean)",
                f"{worst[column]:.3f} (worst)",
                f"{mean['missed']}",
                f"{mean['off']}",
            ]
            lines.append([words, f"{len(single)}", *values])
    for row in rows:
        if row["run"] == "all":
            values = [f"{row['dice']:.3f}", f"{row['low_dice']:.3f}", f"{row['missed']}", f"{row['off']}"]
            lines.append([f"synthetic: {row['case']}", f"{row['stacks']}", *values])
    return head, lines


def masks_volume(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["volume from five stacks", "mean correlation of the sixth's slices", "seconds", "of processor time"]
    return head, [
        [row["run"].partition(",")[0], f"{row['ncc']:.3f}", f"{row['wall_s']:.0f}", f"{row['cpu_s']:.0f}"]
        for row in rows
        if "ncc" in row
    ]


def primitives(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "field", "Gaussians", "PSNR / SSIM", "processor time, s", "model"]
    lines = []
    for row in rows:
        field = f"{row['field']}, {row['asked']}".removesuffix(", ")
        costs = [f"{row['cpu_s']:.0f}", f"{row['kb'] / 1000:.1f} MB"]
        lines.append([NAMES.get(row["case"], row["case"]), field, f"{row['gaussians']:,}", quality(row), *costs])
    return head, lines


def primitives_curve(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["Gaussians at most", "lattice", "primitives", "model of the primitives"]
    lines = []
    for asked in dict.fromkeys(row["asked"] for row in rows):
        lattice, shaped = (find(rows, field=field, asked=asked) for field in ("lattice", "primitives"))
        size = f"{shaped['kb'] / 1000:.2f} MB" if shaped else ""
        lines.append([f"{int(asked):,}", quality(lattice), quality(shaped), size])
    return head, lines


def paper(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    lines = [[str(row["epoch"]), quality(row), f"{row['cpu_s']:.0f}"] for row in rows]
    return ["epoch", "PSNR, SSIM", "processor time, s"], lines


def labels(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Dice of the labels on known motion, the worst label's too."""
    lines = []
    for row in rows:
        worst = min(float(each.partition(":")[2]) for each in row["each_dice"].split())
        numbers = [f"{row['mean_dice']:.3f}", f"{worst:.3f}", f"{row['nearest_dice']:.3f}"]
        lines.append([row["labels"], str(row["stacks"]), *numbers])
    return ["labels at", "stacks", "mean Dice", "the worst label's", "mean, nearest pixels' votes"], lines


def sampling(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["what", "voxels, slices or stacks", "seconds", "of processor time", "memory"]
    return head, [
        [
            *(row["run"], f"{row['size']:,}", f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}"),
            f"{row['peak_memory_mb']:.0f} MB",
        ]
        for row in rows
    ]


TABLES = {
    "labels": Table(("labels",), labels),
    "sampling": Table(("sampling",), sampling),
    "primitives": Table(("primitives",), primitives),
    "primitives-curve": Table(("primitives-curve",), primitives_curve),
    "paper-recipe": Table(("primitives-paper",), paper),
    "measured": Table(("accuracy", "least-squares"), measured),
    "accuracy": Table(("accuracy", "least-squares"), accuracy),
    "leave-one-out": Table(("accuracy-leave-one-out",), left_out),
    "stacks": Table(("accuracy-stacks",), stacks),
    "situations": Table(("situations",), situations),
    "undetermined": Table(("undetermined",), undetermined),
    "success": Table(("success",), success),
    "gsvr": Table(("gsvr",), gsvr),
    "uncertainty": Table(("uncertainty",), uncertainty),
    "memory": Table(("memory",), memory),
    "reconstruct": Table(("reconstruct",), reconstruct),
    "in-turn": Table(("in-turn",), in_turn),
    "splat": Table(("splat",), splat),
    "iteration": Table(("splat",), iteration),
    "verdict": Table(("verdict",), verdict),
    "report": Table(("report",), report),
    "masks": Table(("masks",), masks),
    "scale": Table(("scale",), scale),
    "masks-volume": Table(("masks-volume",), masks_volume),
}


def origin(records: Records) -> str:
    """Where the figures come from, in one line."""
    commits = dict.fromkeys(record["commit"][:7] + record["commit"][40:] for record in records)
    dates = dict.fromkeys(record["date"] for record in records)
    machines = dict.fromkeys(f"{record['processor']}, {record['cores']} cores" for record in records)
    packages = dict.fromkeys(
        ", ".join(f"{name} {record['versions'][name]}" for name in ("numba", "numpy", "torch")) for record in records
    )
    return "; ".join(["commit " + ", ".join(commits), *(", ".join(kind) for kind in (dates, machines, packages))])


def render(table: Table, folder: Path = RESULTS) -> str | None:
    """The table as Markdown, what it comes from below it; None while there are no results."""
    records = [record for name in table.sources if (record := read(folder / f"{name}.json"))]
    if len(records) < len(table.sources):
        return None
    head, lines = table.made(*(record["rows"] for record in records))
    text = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]
    return "\n".join([*text, "", f"*Measured: {origin(records)}.*"]) + "\n"


def filled(text: str, folder: Path = RESULTS) -> str:
    """A page with all its tables as the results say.

    Raises
    ------
    ValueError
        A mark names no table, or one that has no results and does not say so.
    """

    def replaced(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            raise ValueError(f"table {name!r}: there is no such table; give one of {', '.join(TABLES)}")
        made = render(TABLES[name], folder)
        if made is None and not found["pending"]:
            needed = ", ".join(f"{source}.json" for source in TABLES[name].sources)
            raise ValueError(f"table {name!r}: no complete {needed} among the results; run make results")
        return found[0] if made is None else f"<!-- table: {name} -->\n{made}<!-- end -->"

    return MARKED.sub(replaced, text)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="change nothing; status 1 where a table is out of date")
    check = options.parse_args().check
    stale = []
    for name in PAGES:
        page = ROOT / name
        before = page.read_text("utf-8")
        try:
            after = filled(before)
        except ValueError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        if after != before:
            stale.append(name)
            if not check:
                page.write_text(after, "utf-8")
    if stale:
        print(f"{'out of date, run benchmarks/tables.py' if check else 'written'}: {', '.join(stale)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
