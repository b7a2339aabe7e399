"""What preprocessing and protocols do to stacks, and what becomes of the reconstruction.

Every case is written to files as it is and in each situation, read and reconstructed with the default settings. A row
has PSNR and SSIM against the truth and how many warnings were told; `refused` has the reason where there is no volume.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from cases import QUICK_SPACING, Case, Rows, chosen_cases, image_quality, parser, pose_quality
from scipy.ndimage import binary_dilation, gaussian_filter

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.load import load_stacks

BENCHMARK = "situations"

_IN_PLANE = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[:, :, None]
_NOISE = 0.3  # of the brightest tissue
_BIAS = 0.15  # largest relative change of intensity
_SHADING = 0.25, 10.0, 12.0  # least brightness, where it is halfway (mm), how far it takes (mm)


_ELLIPSOID_RADII, _ELLIPSOID_OFFSET = (0.45, 0.65), 0.15  # of the radius of a ball as large as the region


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """Along the world's axes."""

    centre: np.ndarray
    radii: np.ndarray

    def holds(self, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
        """Which voxels of a grid lie in it."""
        points = np.indices(shape[:3]).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
        return (((points - self.centre) / self.radii) ** 2).sum(axis=1).reshape(shape[:3]) < 1


@dataclass(frozen=True, eq=False)
class Files:
    """What is written: stacks with float masks, some without one; quality is judged in the region, if one is given."""

    stacks: Sequence[Stack]
    masks: Sequence[np.ndarray] | None
    region: Sequence[Ellipsoid] = ()

    def judged(self, case: Case) -> Case:
        """The case with the truth's mask inside the region."""
        mask = case.truth_mask
        if mask is None or not self.region:
            return case
        inside = np.asarray(mask.dataobj) > 0
        for ellipsoid in self.region:
            inside = inside & ellipsoid.holds(inside.shape, mask.affine)
        return replace(case, truth_mask=nib.Nifti1Image(inside.astype(np.uint8), mask.affine))


def as_scanned(stacks: Sequence[Stack]) -> Files:
    return Files(stacks, [stack.mask.astype(np.float32) for stack in stacks])


def changed(stacks: Sequence[Stack], change: Callable[[Stack], np.ndarray]) -> list[Stack]:
    return [replace(stack, data=change(stack).astype(np.float32)) for stack in stacks]


def cut_out(stacks: Sequence[Stack], fill: float = 0.0) -> Files:
    return as_scanned(changed(stacks, lambda stack: np.where(stack.mask, stack.data, fill)))


def cut_out_without_masks(stacks: Sequence[Stack]) -> Files:
    return replace(cut_out(stacks), masks=None)


def cut_out_tighter_than_the_masks(stacks: Sequence[Stack]) -> Files:
    wider = [binary_dilation(stack.mask, _IN_PLANE).astype(np.float32) for stack in stacks]
    return replace(cut_out(stacks), masks=wider)


def z_scores(stacks: Sequence[Stack]) -> Files:
    def normalised(stack: Stack) -> np.ndarray:
        return (stack.data - stack.data[stack.mask].mean()) / stack.data[stack.mask].std()

    return as_scanned(changed(stacks, normalised))


def shifted(stacks: Sequence[Stack]) -> Files:
    return as_scanned(changed(stacks, lambda stack: stack.data - 1024))


def noisy(stacks: Sequence[Stack]) -> Files:
    random = np.random.default_rng(5)

    def with_noise(stack: Stack) -> np.ndarray:
        sigma = _NOISE * np.percentile(stack.data[stack.mask], 99)
        real, imaginary = sigma * random.standard_normal((2, *stack.data.shape))
        return np.hypot(stack.data + real, imaginary)

    return as_scanned(changed(stacks, with_noise))


def shaded(stacks: Sequence[Stack]) -> Files:
    least, middle, reach = _SHADING

    def with_shading(stack: Stack) -> np.ndarray:
        index = np.indices(stack.data.shape, np.float64)
        y = np.tensordot(stack.affine[1, :3], index, axes=1) + stack.affine[1, 3]
        return stack.data * (least + (1 - least) / (1 + np.exp((y - middle) / reach)))

    return as_scanned(changed(stacks, with_shading))


def biased(stacks: Sequence[Stack]) -> Files:
    """Another smooth field for each stack, quadratic over its field of view, as `slicesplat simulate` makes them."""
    random = np.random.default_rng(7)

    def with_bias(stack: Stack) -> np.ndarray:
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in stack.data.shape), indexing="ij", sparse=True)
        terms = (x, y, z, x * y, y * z, x * z, x * x, y * y, z * z)
        field = sum(weight * term for weight, term in zip(random.standard_normal(len(terms)), terms, strict=True))
        field = np.asarray(field) - np.mean(field)
        return stack.data * (1 + _BIAS * field / np.abs(field).max())

    return as_scanned(changed(stacks, with_bias))


def twice(stacks: Sequence[Stack]) -> Files:
    again = [replace(stack, name=f"again-{stack.name}") for stack in stacks]
    return as_scanned([*stacks, *again])


def soft_masks(stacks: Sequence[Stack]) -> Files:
    soft = [gaussian_filter(stack.mask.astype(np.float32), [1.0, 1.0, 0.0]) for stack in stacks]
    return Files(stacks, soft)


def masks_that_miss_slices(stacks: Sequence[Stack]) -> Files:
    masks = [stack.mask.astype(np.float32) for stack in stacks]
    for mask in masks:
        mask[:, :, 2::3] = 0
    return Files(stacks, masks)


def one_mask(stacks: Sequence[Stack]) -> Files:
    return Files(stacks, [stacks[0].mask.astype(np.float32)])


def axes_moved(stacks: Sequence[Stack]) -> Files:
    order = [2, 0, 1]
    moved = [
        replace(
            stack,
            data=stack.data.transpose(order),
            mask=stack.mask.transpose(order),
            affine=stack.affine[:, [*order, 3]],
        )
        for stack in stacks
    ]
    return Files(moved, [stack.mask.transpose(order).astype(np.float32) for stack in stacks])


def ellipsoids(stacks: Sequence[Stack]) -> Files:
    """Masks that are drawn through tissue, another one in each stack."""
    random = np.random.default_rng(0)
    middle = np.mean([stack.masked_points().mean(axis=0) for stack in stacks], axis=0)
    size = np.mean([stack.mask.sum() * np.prod(stack.spacing) for stack in stacks])
    radius = (0.75 * size / np.pi) ** (1 / 3)
    drawn = [
        Ellipsoid(
            middle + radius * random.uniform(-_ELLIPSOID_OFFSET, _ELLIPSOID_OFFSET, 3),
            radius * random.uniform(*_ELLIPSOID_RADII, 3),
        )
        for _ in stacks
    ]
    masks = [one.holds(stack.mask.shape, stack.affine) & stack.mask for one, stack in zip(drawn, stacks, strict=True)]
    return Files(stacks, [mask.astype(np.float32) for mask in masks], drawn)


def interpolated(stacks: Sequence[Stack]) -> Files:
    """Pixels of half the size, zeros around what was measured in k-space, as scanners show it."""

    def filled(stack: Stack) -> Stack:
        rows, columns = stack.data.shape[:2]
        before = (rows - rows // 2, columns - columns // 2)
        padding = [(before[0], rows - before[0]), (before[1], columns - before[1]), (0, 0)]
        wide = np.pad(np.fft.fftshift(np.fft.fft2(stack.data, axes=(0, 1)), axes=(0, 1)), padding)
        data = np.abs(np.fft.ifft2(np.fft.ifftshift(wide, axes=(0, 1)), axes=(0, 1))) * 4
        affine = stack.affine @ np.diag([0.5, 0.5, 1.0, 1.0])
        return replace(stack, data=data.astype(np.float32), mask=stack.mask.repeat(2, 0).repeat(2, 1), affine=affine)

    return as_scanned([filled(stack) for stack in stacks])


def first_alone(stacks: Sequence[Stack]) -> Files:
    return as_scanned(stacks[:1])


SITUATIONS: dict[str, Callable[[Sequence[Stack]], Files]] = {
    "as scanned": as_scanned,
    "cut out": cut_out,
    "cut out, NaN": lambda stacks: cut_out(stacks, np.nan),
    "cut out, no masks": cut_out_without_masks,
    "cut out, wider masks": cut_out_tighter_than_the_masks,
    "z-scores": z_scores,
    "shifted by -1024": shifted,
    "noise of 30 %": noisy,
    "bias of 15 %": biased,
    "bias of 15 %, not estimated": biased,
    "shading 4:1": shaded,
    "shading 4:1, not estimated": shaded,
    "shading 4:1, N4": shaded,
    "all twice": twice,
    "soft masks": soft_masks,
    "masks without every third slice": masks_that_miss_slices,
    "one mask": one_mask,
    "axes moved": axes_moved,
    "one stack alone": first_alone,
    "ellipsoids": ellipsoids,
    "ellipsoids, motion off": ellipsoids,
    "interpolated": interpolated,
}


class _Counter(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def reconstructed(files: Files, case: Case, config: Config) -> dict[str, Any]:
    counter, log = _Counter(), logging.getLogger("slicesplat")
    log.addHandler(counter)
    try:
        with tempfile.TemporaryDirectory() as folder:
            stacks = read(files, Path(folder))
        result = reconstruct(stacks, config)
    except InputError as error:
        return {"refused": str(error).replace(f"{folder}{os.sep}", "")}
    finally:
        log.removeHandler(counter)
    left_out = sum(reason is not None for reason in result.left_out())
    quality = image_quality(result.volume, files.judged(case))
    errors = pose_quality(result.slice_records(), replace(case, stacks=stacks)) if files.region else {}
    poses = {name: errors[name] for name in ("median_mm", "under_1mm_share") if name in errors}
    return {**quality, **poses, "left_out": left_out, "warnings": counter.count}


def read(files: Files, folder: Path) -> list[Stack]:
    """The stacks as a user's files give them."""
    paths = [folder / f"{number}.nii.gz" for number in range(len(files.stacks))]
    for stack, path in zip(files.stacks, paths, strict=True):
        nib.save(nib.Nifti1Image(stack.data, stack.affine), path)
    masks = []
    for number, mask in enumerate(files.masks or []):
        masks.append(folder / f"mask-{number}.nii.gz")
        nib.save(nib.Nifti1Image(mask, files.stacks[number].affine), masks[-1])
    return load_stacks(paths, masks, [stack.thickness for stack in files.stacks])


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--situations", nargs="+", choices=SITUATIONS, help="some of them")
    args = options.parse_args()
    config = Config(resolution=QUICK_SPACING) if args.quick else Config()
    rows = Rows("Situations", BENCHMARK, args)
    for case in chosen_cases(args):
        for name in args.situations or SITUATIONS:
            settings = replace(
                config,
                bias_field_correction=name.endswith("N4"),
                estimate_bias_field=not name.endswith("not estimated"),
                motion="none" if name.endswith("motion off") else config.motion,
            )
            found = reconstructed(SITUATIONS[name](case.stacks), case, settings)
            rows.add(case=case.name, situation=name, **found)
    rows.show()


if __name__ == "__main__":
    main()
