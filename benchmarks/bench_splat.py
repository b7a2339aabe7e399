"""Time of the forward model and its gradient, per pair of one pixel and one Gaussian inside the cut-off.

    python benchmarks/bench_splat.py [--quick] [--json [FILE]] [--cases growing shared] [--device cpu cuda]

`growing`: three orthogonal stacks over a sphere that grows with the number of Gaussians, all of the same size; here the
slope of log cost against log pairs says whether anything grows faster than the work. `denser`: more and more, smaller
and smaller Gaussians over the same slices. `shared`: the slices of two data sets, where they are, under Gaussians of
any shape and under the coarsest and the finest lattice of the fit. `iteration`: whole iterations of the fit's conjugate
gradients on those, and the share of them that is spent outside the forward model: prior, vectors, bookkeeping.

Forward is placing the Gaussians with the list of pairs kept, and simulating all pixels; backward is the gradient by
every parameter of the Gaussians, poses and gains (`vjp`). What the fit calls is timed by itself, in nanoseconds a pair:
the product with amplitudes (`apply`) and its transpose (`adjoint`), with everything in place, and the Gauss-Newton
systems of all poses, which project the pairs themselves. So is a new list.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from _machine import copy_bandwidth, median_seconds, processor, sgemm_flops
from records import Record, add_json_option

from slicesplat.config import FitSettings
from slicesplat.field.lattice import lattice_over
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.prepare.load import load_stacks
from slicesplat.priors import make_prior
from slicesplat.solvers.amplitudes import AmplitudeSolver, placed_lattice
from slicesplat.solvers.precondition import Preconditioner
from slicesplat.solvers.replay import repeated
from slicesplat.splat import Backend, CpuForwardModel, ForwardModel, available_backends, choose_backend

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
DATA = {"fetal-moderate": SHARED / "sim" / "fetal-moderate", "mial-sub01": SHARED / "mial-sub01"}
SPACING = 2.6  # mm between Gaussians of the growing sphere
RADIUS = 45.0  # mm, of the sphere that is filled more densely
PIXEL, THICKNESS = 1.1, 3.0  # mm

# Per pixel pair: exponent 4, exp 14 and the cut-off, in both directions; then 2 to add to the pixel, and 6 for three
# sums down a column (the other three cost one multiplication a column).
FLOPS_PER_PIXEL_PAIR = 2 * 18 + 2 + 6
# Per pair of slice and Gaussian: 11 numbers written once and read twice, 10 gradients written and read.
BYTES_PER_PAIR = 4 * (3 * 11 + 2 * 10)

# What the fit calls again and again, apart from the forward model's other operations.
OPERATIONS = ("apply", "adjoint", "pose")
# Where a call returns before the device has done its work.
WAITS: dict[str, Callable[[], None]] = {"cuda": torch.cuda.synchronize}

Parameters = dict[str, np.ndarray]
Row = dict[str, Any]


def sphere_slices(radius: float) -> Slices:
    """Three orthogonal stacks of thick slices through a ball."""
    size = np.ceil(2 * radius / np.array([PIXEL, PIXEL, THICKNESS])).astype(int) + 1
    index = np.indices(size).reshape(3, -1).T
    stacks = []
    for axis in range(3):
        turn = np.roll(np.eye(3), axis, axis=0)
        affine = np.eye(4)
        affine[:3, :3] = turn * [PIXEL, PIXEL, THICKNESS]
        affine[:3, 3] = -affine[:3, :3] @ ((size - 1) / 2)
        mask = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3], axis=1) < radius
        stacks.append(Stack(np.zeros(size, np.float32), mask.reshape(size), affine, THICKNESS))
    return cut_slices(stacks)


def shared_slices(folder: Path) -> Slices:
    """The slices of a data set with six stacks, 3 mm thick."""
    names = [[str(folder / f"{kind}-{i}.nii.gz") for i in range(1, 7)] for kind in ("stack", "mask")]
    return cut_slices(scale_intensities(load_stacks(names[0], masks=names[1], thicknesses=3.0))[0])


def gaussians(slices: Slices, spacing: float) -> Parameters:
    """A lattice that a fit has been at: moved, turned, stretched by a fifth."""
    field, rng = lattice_over(slices, spacing).field(), np.random.default_rng(0)
    n = len(field)
    return {
        "means": field.means.numpy() + rng.normal(size=(n, 3)) * 0.15 * spacing,
        "log_scales": field.log_scales.numpy() + rng.normal(size=(n, 3)) * 0.2,
        "rotations": rng.normal(size=(n, 4)),
        "amplitudes": rng.uniform(0.2, 1.0, n),
    }


def lattice(slices: Slices, spacing: float) -> Parameters:
    """A lattice as the fit has it, round."""
    field, rng = lattice_over(slices, spacing).field(), np.random.default_rng(0)
    shapes = {"means": field.means, "log_scales": field.log_scales, "rotations": field.rotations}
    return {**{key: value.numpy() for key, value in shapes.items()}, "amplitudes": rng.uniform(0.2, 1.0, len(field))}


def about(slices: Slices, number: int) -> Parameters:
    """About so many Gaussians over the slices."""
    spacing = 4.0
    for _ in range(4):
        spacing *= (len(lattice_over(slices, spacing)) / number) ** (1 / 3)
    return gaussians(slices, spacing)


def cases(chosen: list[str], quick: bool) -> Iterator[tuple[str, Slices, Parameters]]:
    """Name, slices and Gaussians of every case."""
    numbers = [3_000, 10_000, 30_000] if quick else [3_000, 10_000, 30_000, 100_000, 300_000]
    if "growing" in chosen:
        for number in numbers:
            slices = sphere_slices((3 * number / (4 * np.pi)) ** (1 / 3) * SPACING - THICKNESS / 2)
            yield "growing", slices, gaussians(slices, SPACING)
    if "denser" in chosen and not quick:
        slices = sphere_slices(RADIUS)
        for number in numbers:
            yield "denser", slices, about(slices, number)
    if "shared" in chosen:
        for name, folder in DATA.items():
            if folder.exists():
                slices = shared_slices(folder)
                for number in (10_000, 25_000):
                    yield name, slices, about(slices, number)
                for spacing in (max(FitSettings().spacings), min(FitSettings().spacings)):
                    yield f"{name}, lattice", slices, lattice(slices, spacing * float(np.median(slices.step)))


def operations(
    made: ForwardModel, slices: Slices, parameters: Parameters, backend: Backend
) -> dict[str, Callable[[], object]]:
    """What is timed, by its name."""
    there = partial(backend.tensor, dtype=torch.float64)
    shape = [there(parameters[key]) for key in ("means", "log_scales", "rotations")]
    pose = there(slices.pose.rotation.copy()), there(slices.pose.translation.copy())
    amplitudes, gains = there(parameters["amplitudes"]), there(np.ones(len(slices)))
    upstream = backend.tensor(np.random.default_rng(1).normal(size=made.pixels))
    pixels, weights = backend.tensor(slices.pixels), backend.tensor(slices.mask)

    def forward() -> None:
        made.set_geometry(*shape, *pose, rebuild=False)
        made.apply(amplitudes, gains)

    return {
        "list": lambda: made.set_geometry(*shape, *pose, rebuild=True),
        "place": lambda: made.set_geometry(*shape, *pose, rebuild=False),
        "forward": forward,
        "apply": lambda: made.apply(amplitudes, gains),
        "adjoint": lambda: made.adjoint(upstream, gains),
        "backward": lambda: made.vjp(upstream, amplitudes, gains),
        "pose": lambda: made.pose_normal_equations(amplitudes, gains, pixels, weights, gains),
    }


def measure(slices: Slices, parameters: Parameters, backend: Backend, threads: int, repeats: int) -> Row:
    """One row: what the work is, and the time that it takes, in ms; on the CPU of the processor, else on the clock."""
    wait = WAITS.get(backend.name, lambda: None)
    numba.set_num_threads(threads)
    made = backend.forward_model(slices)
    timed = operations(made, slices, parameters, backend)

    def finished(operation: Callable[[], object]) -> None:
        operation()
        wait()

    memory = peak_memory(backend, [partial(finished, timed[name]) for name in ("list", "forward", "backward")])
    seconds = {name: median_seconds(partial(finished, operation), repeats) for name, operation in timed.items()}
    clock = 1 if backend.name == "cpu" else 0
    wall, cpu = (seconds["forward"][k] + seconds["backward"][k] for k in (0, clock))
    listing = seconds["list"][0] - seconds["place"][0]
    return {
        "backend": backend.name,
        "threads": threads,
        "gaussians": len(parameters["amplitudes"]),
        "slices": len(slices),
        "pixels": made.pixels,
        "slice_gaussian_pairs": made.pairs,
        "forward_ms": 1e3 * seconds["forward"][0],
        "backward_ms": 1e3 * seconds["backward"][0],
        "list_ms": 1e3 * listing,
        **{f"{name}_ms": 1e3 * seconds[name][clock] for name in OPERATIONS},
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_memory_mb": memory / 2**20,
    }


def peak_memory(backend: Backend, steps: list[Callable[[], None]]) -> int:
    """Bytes that the steps take, one after the other: numpy's on the CPU, the device's on a CUDA device."""
    if backend.name == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        tracemalloc.start()
    for step in steps:
        step()
    if backend.name == "cuda":
        return torch.cuda.max_memory_allocated()
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return memory


def iteration_seconds(slices: Slices, backend: Backend, threads: int, repeats: int) -> Row:
    """Time of an iteration of the fit's conjugate gradients, and of the forward model's part of it.

    On the CPU, seconds in which threads were running; elsewhere seconds that passed, replayed where the fit does so.
    """
    wait, clock = WAITS.get(backend.name, lambda: None), 1 if backend.name == "cpu" else 0
    numba.set_num_threads(threads)
    torch.set_num_threads(1)  # as in the pipeline
    spacing = FitSettings().spacings[0] * float(np.median(slices.step))
    lattice, forward_model = placed_lattice(slices, spacing, backend)
    start = torch.zeros(len(lattice), device=backend.device)
    prior = make_prior(FitSettings().prior, lattice, backend)
    prior.majorise(start, 1e-3)
    preconditioner = Preconditioner(lattice, prior, slices, backend)
    given = (forward_model, len(lattice), prior.matvec, preconditioner.matvec)
    solver = AmplitudeSolver(*given)
    weights, gains = backend.tensor(slices.mask), torch.ones(len(slices), device=backend.device)
    preconditioner.update(forward_model.adjoint(weights, gains))

    def timed(function: Callable[[], None]) -> float:
        run = repeated(function, backend.name)

        def finished() -> None:
            run()
            wait()

        finished()
        return median_seconds(finished, repeats)[clock]

    solver.solve(backend.tensor(slices.pixels), weights, gains, start, 0)
    whole = timed(solver.cg.iterate)

    def products() -> None:
        forward_model.adjoint(forward_model.apply(start, gains), gains)

    part = timed(products)
    return {
        "backend": backend.name,
        "threads": threads,
        "gaussians": len(lattice),
        "iteration_ms": 1e3 * whole,
        "forward_ms": 1e3 * part,
        "outside": 1 - part / whole,
    }


def show_iterations(devices: list[str], threads: list[int], repeats: int) -> list[Row]:
    """Measure and print iterations of the fit on the shared data sets."""
    rows = []
    for name, folder in DATA.items():
        if folder.exists():
            slices = shared_slices(folder)
            for device in devices:
                for number in threads if device == "cpu" else [1]:
                    row = iteration_seconds(slices, choose_backend(device), number, repeats)
                    rows.append({"case": f"{name}, iteration"} | row)
                    print(
                        f"{name}, {device}, {number} threads, {row['gaussians']} Gaussians: an iteration takes "
                        f"{row['iteration_ms']:.1f} ms, the forward model's part {row['forward_ms']:.1f} ms; "
                        f"{row['outside']:.0%} lies outside it",
                        flush=True,
                    )
    return rows


def count_pairs(slices: Slices, parameters: Parameters) -> int:
    """Pairs of a pixel and a Gaussian inside the cut-off, counted one by one."""
    made = CpuForwardModel(slices)
    shape = (parameters[key] for key in ("means", "log_scales", "rotations"))
    made.set_geometry(*shape, slices.pose.rotation, slices.pose.translation)
    return made.pixel_pairs()


def derive(row: Row, flops: float, bandwidth: float) -> None:
    """Add what follows from the times: cost of a pair, and how much of the machine that is.

    `ns_per_pair` counts the seconds that threads were running, which other programs on the same processors do not
    lengthen; `wall_ns_per_pair` the seconds that passed, times threads. `apply_ns`, `adjoint_ns` and `pose_ns` are the
    cost of a pair in one product with the amplitudes, in its transpose, and in one set of the poses' systems.
    """
    pairs, threads = row["pairs"], row["threads"]
    row["ns_per_pair"] = 1e9 * row["cpu_s"] / pairs
    row["wall_ns_per_pair"] = 1e9 * row["wall_s"] * threads / pairs
    row["pairs_per_second"] = pairs / row["wall_s"]
    for name in OPERATIONS:
        row[f"{name}_ns"] = 1e6 * row[f"{name}_ms"] / pairs
    if row["backend"] == "cpu":
        row["of_sgemm"] = FLOPS_PER_PIXEL_PAIR * pairs / row["cpu_s"] / flops
        row["of_copy"] = BYTES_PER_PAIR * row["slice_gaussian_pairs"] / row["cpu_s"] / bandwidth


def slope(rows: list[Row]) -> float:
    """Of log processor time against log pairs."""
    pairs, cost = (np.log([row[key] for row in rows]) for key in ("pairs", "cpu_s"))
    return float(np.polyfit(pairs, cost, 1)[0])


COLUMNS = {
    "case": "14s",
    "backend": "7s",
    "threads": "7d",
    "gaussians": "9d",
    "slices": "6d",
    "pixels": "8d",
    "pairs": "10d",
    "forward_ms": "10.1f",
    "backward_ms": "11.1f",
    "list_ms": "7.1f",
    "apply_ns": "8.2f",
    "adjoint_ns": "10.2f",
    "pose_ns": "7.2f",
    "ns_per_pair": "11.2f",
    "wall_ns_per_pair": "16.2f",
    "pairs_per_second": "16.2e",
    "of_sgemm": "8.1%",
    "of_copy": "7.1%",
    "peak_memory_mb": "14.0f",
}


def measure_cases(
    chosen: list[str], devices: list[str], threads: list[int], quick: bool, show: Callable[[Row], None]
) -> list[Row]:
    """Rows of all cases but the iterations, each one shown as soon as it is there."""
    flops, bandwidth = sgemm_flops(), copy_bandwidth()
    rows: list[Row] = []
    for name, slices, parameters in cases(chosen, quick):
        pairs = count_pairs(slices, parameters)
        for device in devices:
            for number in threads if device == "cpu" else [1]:
                timed = measure(slices, parameters, choose_backend(device), number, 5 if quick else 25)
                row = {"case": name, "pairs": pairs} | timed
                derive(row, flops, bandwidth)
                rows.append(row | {"sgemm_flops": flops, "copy_bandwidth": bandwidth})
                show(rows[-1])
    return rows


def show_row(row: Row) -> None:
    print(" ".join(f"{row[key]:{style}}" if key in row else "" for key, style in COLUMNS.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_json_option(parser, "splat")
    parser.add_argument("--quick", action="store_true", help="small cases only, under a minute")
    kinds = ["growing", "denser", "shared", "iteration"]
    parser.add_argument("--cases", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, numba.config.NUMBA_NUM_THREADS}))
    parser.add_argument("--device", nargs="+", choices=["cpu", "cuda"], default=["cpu", "cuda"])
    options = parser.parse_args()
    devices = [device for device in available_backends() if device in options.device]
    if "cuda" in options.device and "cuda" not in devices:
        print("cuda: not measured: no CUDA device")
    widths = {name: len(format(0, style)) if style[-1] != "s" else style[:-1] for name, style in COLUMNS.items()}
    print(" ".join(f"{name:>{width}s}" for name, width in widths.items()))
    rows = measure_cases(options.cases, devices, options.threads, options.quick, show_row)
    if rows:
        flops, bandwidth = rows[0]["sgemm_flops"], rows[0]["copy_bandwidth"]
        print(f"{processor()}: sgemm {flops / 1e9:.0f} GFLOP/s, copy {bandwidth / 1e9:.1f} GB/s, one thread each")
    for device in devices:
        growing = [r for r in rows if r["case"] == "growing" and r["backend"] == device and r["threads"] == 1]
        if len(growing) > 1:
            print(f"{device}: cost grows as pairs to the power {slope(growing):.3f}")
    if "iteration" in options.cases:
        rows += show_iterations(devices, options.threads, 3 if options.quick else 9)
    Record("splat", options.json, vars(options)).write(rows, complete=True)


if __name__ == "__main__":
    main()
