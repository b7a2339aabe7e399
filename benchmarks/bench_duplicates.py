"""Are copies of a stack told from scans that were repeated: their noise correlation, and what they are taken for.

Copies are made from a stack of every shared case as scanners and converters make them. Repeated scans are made from the
volumes behind the shared cases: a subject that holds still, the same geometry, noise of their own. Real and simulated
pairs of parallel stacks of one case are repeated scans too.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from cases import REAL, SIMULATED, Case, Rows, Source, load_case, parser, phantom_source, quick_case, shared_sources
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter
from skimage.restoration import denoise_nl_means

from slicesplat.geometry.stack import Stack
from slicesplat.prepare.duplicates import COPY, noise_correlation
from slicesplat.validation.simulate import SimulationConfig, simulate

BENCHMARK = "duplicates"

NOISE = (0.003, 0.01, 0.03)  # of the brightest tissue
PARALLEL = 0.9  # cosine between the planes of stacks that are told about


def on_axes(stack: Stack, to_old: NDArray[np.float64], data: NDArray, mask: NDArray) -> Stack:
    """The stack on other axes; `to_old` takes its new indices to the old ones."""
    return replace(stack, data=np.ascontiguousarray(data, dtype=np.float32), mask=mask, affine=stack.affine @ to_old)


def scaled_and_rounded(stack: Stack) -> Stack:
    return replace(stack, data=np.rint(1150 * stack.data / stack.data.max()).astype(np.float32))


def cropped(stack: Stack) -> Stack:
    to_old = np.eye(4)
    to_old[:3, 3] = 6, 3, 2
    return on_axes(stack, to_old, stack.data[6:-5, 3:, 2:-1], stack.mask[6:-5, 3:, 2:-1])


def padded(stack: Stack) -> Stack:
    to_old, margin = np.eye(4), [(4, 7), (9, 2), (1, 3)]
    to_old[:3, 3] = -4, -9, -1
    return on_axes(stack, to_old, np.pad(stack.data, margin), np.pad(stack.mask, margin))


def flipped(stack: Stack) -> Stack:
    to_old = np.diag([-1.0, 1.0, -1.0, 1.0])
    to_old[[0, 2], 3] = np.array(stack.data.shape)[[0, 2]] - 1
    return on_axes(stack, to_old, stack.data[::-1, :, ::-1], stack.mask[::-1, :, ::-1])


def transposed(stack: Stack) -> Stack:
    return on_axes(stack, np.eye(4)[[1, 0, 2, 3]], stack.data.swapaxes(0, 1), stack.mask.swapaxes(0, 1))


def interpolated(stack: Stack, row: NDArray, column: NDArray, to_old: NDArray[np.float64], order: int = 3) -> Stack:
    """Every slice at other places in its plane."""
    planes = [map_coordinates(stack.data[:, :, k], [row, column], order=order) for k in range(stack.n_slices)]
    masks = [map_coordinates(stack.mask[:, :, k] * 1.0, [row, column], order=1) > 0.5 for k in range(stack.n_slices)]
    return on_axes(stack, to_old, np.stack(planes, axis=-1), np.stack(masks, axis=-1))


def distortion_corrected(pixels: float) -> Callable[[Stack], Stack]:
    """As a gradient that is not linear asks for it: so many pixels at the edge of the field of view."""

    def made(stack: Stack) -> Stack:
        middle = (np.array(stack.data.shape[:2]) - 1) / 2
        i, j = np.indices(stack.data.shape[:2]) - middle[:, None, None]
        scale = 1 + pixels * (i**2 + j**2) / middle[0] ** 3
        return interpolated(stack, middle[0] + i * scale, middle[1] + j * scale, np.eye(4))

    return made


def resampled(size: float, shift: float, order: int) -> Callable[[Stack], Stack]:
    """On pixels of another size, shifted by a fraction of a pixel."""

    def made(stack: Stack) -> Stack:
        count = ((np.array(stack.data.shape[:2]) - 1) / size).astype(int)
        place = np.meshgrid(*(size * np.arange(n) + shift for n in count), indexing="ij")
        to_old = np.diag([size, size, 1.0, 1.0])
        to_old[:2, 3] = shift
        return interpolated(stack, *place, to_old, order)

    return made


def slices_every(distance: float) -> Callable[[Stack], Stack]:
    """Interpolated linearly at slice positions of another distance, as converters make distances equal."""

    def made(stack: Stack) -> Stack:
        place = np.arange(0, stack.n_slices - 1, distance)
        below = place.astype(int)
        data = (1 - place + below) * stack.data[:, :, below] + (place - below) * stack.data[:, :, below + 1]
        return on_axes(stack, np.diag([1.0, 1.0, distance, 1.0]), data, stack.mask[:, :, below])

    return made


def smoothed(stack: Stack) -> Stack:
    return replace(stack, data=gaussian_filter(stack.data, (0.6, 0.6, 0.0)))


def median_filtered(stack: Stack) -> Stack:
    return replace(stack, data=median_filter(stack.data, (3, 3, 1)))


def nl_means(stack: Stack) -> Stack:
    bright = float(np.percentile(stack.data[stack.mask], 99))
    settings = {"patch_size": 5, "patch_distance": 6, "h": 0.03, "sigma": 0.03}
    planes = [denoise_nl_means(stack.data[:, :, k] / bright, **settings) * bright for k in range(stack.n_slices)]
    return replace(stack, data=np.stack(planes, axis=-1).astype(np.float32))


COPIES: dict[str, Callable[[Stack], Stack]] = {
    "exact": replace,
    "scaled, rounded": scaled_and_rounded,
    "cropped": cropped,
    "padded": padded,
    "flipped": flipped,
    "transposed": transposed,
    **{f"distortion of {p:g} pixels": distortion_corrected(p) for p in (0.3, 1.0, 2.0)},
    **{f"slices every {d:g}": slices_every(d) for d in (0.9, 1.17, 1.5)},
    "pixels of 1.25": resampled(1.25, 0.0, 1),
    "pixels of 0.73": resampled(0.73, 0.0, 1),
    "half a pixel, linear": resampled(1.0, 0.5, 1),
    "half a pixel, cubic": resampled(1.0, 0.5, 3),
    "smoothed": smoothed,
    "non-local means": nl_means,
    "median filter": median_filtered,
}


def noisy(stack: Stack, noise: float, seed: int) -> Stack:
    """Magnitudes with noise, a share of the brightest tissue."""
    sigma = noise * float(np.percentile(stack.data[stack.mask], 99))
    real, imaginary = sigma * np.random.default_rng(seed).standard_normal((2, *stack.data.shape))
    return replace(stack, data=np.hypot(stack.data + real, imaginary).astype(np.float32))


def repeated(source: Source) -> Iterator[tuple[str, Stack, Stack]]:
    """Two scans of a subject that holds still, for several levels of noise."""
    config = SimulationConfig(stacks=1, motion="none", noise=0.0, dropout=0.0, seed=3)
    stack = simulate(source.volume, source.affine, source.mask, config).stacks[0]
    for noise in NOISE:
        yield f"{source.name}, noise {noise:g}", noisy(stack, noise, 1), noisy(stack, noise, 2)


def parallel(case: Case) -> Iterator[tuple[str, Stack, Stack]]:
    """Stacks of one case in about the same plane."""
    for one, other in itertools.combinations(case.stacks, 2):
        if abs(one.axes[:, 2] @ other.axes[:, 2]) > PARALLEL:
            yield f"{case.name}: {one.name}, {other.name}", one, other


def main() -> None:
    args = parser(__doc__, BENCHMARK).parse_args()
    rows = Rows("Copies and repeated scans", BENCHMARK, args)

    def tell(kind: str, name: str, one: Stack, other: Stack) -> None:
        start = time.perf_counter()
        found = noise_correlation(one, other)
        seconds = time.perf_counter() - start
        taken_for = "copy" if found > COPY else "repeated"
        rows.add(case=name, kind=kind, noise_correlation=round(found, 3), taken_for=taken_for, compared_s=seconds)

    small = args.quick or not SIMULATED.is_dir()
    cases = [quick_case()] if small else [load_case(folder) for folder in (*sorted(SIMULATED.glob("*/")), REAL)]
    for source in [phantom_source()] if small else [*shared_sources(), phantom_source()]:
        for name, one, other in repeated(source):
            tell("repeated", name, one, other)
    for case in cases:
        for name, one, other in parallel(case):
            tell("repeated", name, one, other)
        for name, made in COPIES.items():
            stack = case.stacks[0]
            tell("copy", f"{case.name}: {name}", stack, made(stack))
    rows.show()


if __name__ == "__main__":
    main()
