"""How often the axis that slices lie along is told rightly from the images alone, and from files turned by a tool.

Slices that overlap, as far apart as their pixels or nearly, are simulated from the phantom and the volumes behind the
shared cases, for each level of motion, with and without gains; the stacks of shared cases come as they are. Each is put
into all six orders of axes. `told`, `unknown` and `wrong` count what the images show, `read` and `misread` what
`load_stacks` makes of a file in canonical axes, where a spacing that differs counts too. Still slices without gains
look like a volume: nothing can tell, and the third axis is taken with a warning.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from cases import (
    QUICK_SIZE,
    QUICK_SPACING,
    SHARED,
    SIMULATED,
    STACKS,
    Row,
    Rows,
    case_folder,
    parser,
    phantom_source,
    shared_sources,
    stack_files,
)

from slicesplat.geometry.stack import Stack
from slicesplat.prepare.load import load_stacks
from slicesplat.prepare.slice_axis import axis_shown
from slicesplat.validation.simulate import SimulationConfig, simulate

BENCHMARK = "slice-axis"

# Pixel, distance between slices and thickness in mm: equal, nearly equal, and told by the spacing.
GEOMETRIES = ((0.8, 0.8, 1.6), (1.1, 1.1, 3.0), (1.0, 1.005, 2.4), (1.1, 1.5, 3.0))
# Gains from slice to slice: none, and what scanners show.
GAINS = (0.0, 0.04)
# Shared stacks whose slices are as far apart as their pixels, or much further, as a check.
STORED = (SHARED / "data" / "svrtk-simulated", SIMULATED / "neonatal-mild", SHARED / "data" / "mial-sub01")


def canonical_axis(stack: Stack, folder: Path) -> tuple[int, int]:
    """Where the slices lie in a file with canonical axes, and where `load_stacks` takes them to lie."""
    image = nib.as_closest_canonical(nib.Nifti1Image(stack.data, stack.affine))
    nib.save(image, folder / "stack.nii")
    along = np.abs(stack.axes[:, 2] @ (image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)))
    (read,) = load_stacks([folder / "stack.nii"], thicknesses=stack.thickness)
    return int(np.argmax(along)), read.slice_axis


def counted(stacks: Sequence[Stack], folder: Path) -> Row:
    """How often the axis is told."""
    told: Counter[str] = Counter()
    seconds = []
    for stack in stacks:
        for order in itertools.permutations(range(3)):
            data = np.ascontiguousarray(stack.data.transpose(order))
            start = time.process_time()
            shown = axis_shown(data)
            seconds.append(time.process_time() - start)
            told["unknown" if shown is None else "told" if shown == order.index(2) else "wrong"] += 1
        true, read = canonical_axis(stack, folder)
        told["read" if read == true else "misread"] += 1
    names = ("told", "unknown", "wrong", "read", "misread")
    return {**{name: told[name] for name in names}, "longest_call_s": max(seconds)}


def groups(quick: bool, cases: Sequence[str]) -> Iterator[tuple[str, list[Stack]]]:
    """Stacks that belong together, by name."""
    if cases or not quick:
        folders = [case_folder(name) for name in cases] or [folder for folder in STORED if folder.is_dir()]
        yield from ((folder.name, load_stacks(stack_files(folder)[0], slice_axes=3)) for folder in folders)
    if cases:
        return
    sources = [phantom_source(QUICK_SIZE, QUICK_SPACING)] if quick else [phantom_source(), *shared_sources()]
    levels = ("none", "mild") if quick else tuple(STACKS)
    for motion, gain, (pixel, spacing, thickness) in itertools.product(levels, GAINS, GEOMETRIES):
        stacks = []
        for seed, source in enumerate(sources):
            config = SimulationConfig(
                motion=motion, pixel=pixel, spacing=spacing, thickness=thickness, slice_gain=gain, seed=seed
            )
            stacks += simulate(source.volume, source.affine, source.mask, config).stacks
        yield f"{motion}, gain {gain:g}, every {spacing:g} mm, pixels of {pixel:g} mm", stacks


def main() -> None:
    args = parser(__doc__, BENCHMARK).parse_args()
    rows = Rows("Slice axis", BENCHMARK, args)
    with TemporaryDirectory() as folder:
        for name, stacks in groups(args.quick, args.cases or ()):
            rows.add(case=name, **counted(stacks, Path(folder)))
    total = {name: sum(row[name] for row in rows.rows) for name in ("told", "unknown", "wrong", "read", "misread")}
    rows.add(case="all", **total, longest_call_s=max(row["longest_call_s"] for row in rows.rows))
    rows.show()


if __name__ == "__main__":
    main()
