"""Masks that nobody drew: how well they fit, and what they make of a reconstruction.

Real stacks against masks drawn by hand, and the volume from five stacks without masks beside that with them, judged on
the sixth; stacks that were cut out before; synthetic mothers of other brains, seeds and settings than those that the
network learned from (training/mothers.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from bench_accuracy import prediction
from cases import REAL, SHARED, Rows, parser, say, stack_files

from slicesplat.config import Config
from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.load import load_stacks
from slicesplat.segment.agree import find_masks
from slicesplat.segment.look import Seen

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
import mothers
from samples import HELD_OUT

BENCHMARK = "masks"
CUT_OUT = SHARED / "data" / "svrtk-simulated"
ATLAS = SHARED / "data" / "atlas-cc0"
FIRST_SEED = 1_000_000
SETTINGS = mothers.MotherSettings(
    field_of_view=(240.0, 380.0),
    pixel=2.8,
    spacing=(2.8, 5.0),
    slices=(20, 34),
    brain_scale=(0.95, 1.1),
    liquor=(0.0, 0.05),
    off_centre=(0.0, 15.0),
    usual=0.85,
    bias=(0.2, 1.2),
    noise=(0.01, 0.05),
    blur=(0.2, 0.6),
    motion=(0.5, 4.0),
    turn=(0.5, 6.0),
    lost=0.05,
    absent=0.0,
    twins=0.1,
)
"""Other ranges than the training's: wider fields, more motion and lost slices, more often like T2."""
STACKS = (1, 1, 2)  # of a mother, in turn
SHOWN, TILES, TILE = 5, 6, 120  # stacks, slices of each and pixels of a slice in the picture of what fails
LEAST_SHOWN = 15.0  # cm3 of a brain that a stack has to show to be asked for it


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / max(first.sum() + second.sum(), 1))


def real_masks(rows: Rows) -> None:
    """Dice of every real stack, and seconds of all of them."""
    stacks, masks = stack_files(REAL)
    start = time.perf_counter()
    found = load_stacks(stacks, segmentation=True)
    seconds = time.perf_counter() - start
    drawn = load_stacks(stacks, masks)
    overlaps = []
    for one, other in zip(found, drawn, strict=True):
        overlaps.append(dice(one.mask, other.mask))
        confidence = float(np.nanmean(one.found)) if one.found is not None and one.mask.any() else 0.0
        rows.add(case=REAL.name, run=one.name, dice=overlaps[-1], confidence=confidence)
    missed = sum(not stack.mask.any() for stack in found)
    rows.add(case=REAL.name, run="mean", dice=float(np.mean(overlaps)), missed=missed, wall_s=seconds)
    rows.add(case=REAL.name, run="worst", dice=min(overlaps))


def real_volume(rows: Rows, left_out: int) -> None:
    """The volume from five stacks, with masks and without, judged on the sixth inside its drawn mask."""
    stacks, masks = stack_files(REAL)
    others = [number for number in range(len(stacks)) if number != left_out]
    thickness = load_stacks([stacks[left_out]], [masks[left_out]])[0].thickness
    with tempfile.TemporaryDirectory() as folder:
        for run in ("drawn", "found"):
            start = time.perf_counter()
            given = [masks[number] for number in others] if run == "drawn" else None
            loaded = load_stacks([stacks[number] for number in others], given, segmentation=True)
            result = reconstruct(loaded, Config())
            seconds = time.perf_counter() - start
            answer = prediction(
                result.volume, Path(folder) / "volume.nii.gz", stacks[left_out], masks[left_out], thickness
            )
            rows.add(case=REAL.name, run=f"masks {run}, unseen stack", ncc=answer["ncc_mean"], wall_s=seconds)
            if run == "drawn":
                inside, affine = np.asarray(result.mask.dataobj) > 0, result.mask.affine
            else:
                rows.add(
                    case=REAL.name, run="region of the volume", dice=dice(inside, _on(result.mask, affine, inside))
                )


def _on(mask: nib.Nifti1Image, affine: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A mask on another grid, nearest."""
    from scipy.ndimage import affine_transform

    to_mask = np.linalg.inv(mask.affine) @ affine
    values = np.asarray(mask.dataobj).astype(np.uint8)
    return affine_transform(values, to_mask[:3, :3], to_mask[:3, 3], output_shape=like.shape, order=0) > 0


def cut_out_masks(rows: Rows) -> None:
    """Stacks that hold nothing but a head: they are left as they are."""
    stacks = sorted(CUT_OUT.glob("stack-*.nii.gz"))
    found = load_stacks(stacks, segmentation=True)
    drawn = load_stacks([stacks[2]], [CUT_OUT / "mask-for-stack-2.nii.gz"])[0].mask
    for number, stack in enumerate(found):
        kept = float(stack.mask[stack.data != 0].mean())
        row = {"dice": dice(stack.mask, drawn)} if number == 2 else {}
        rows.add(case=CUT_OUT.name, run=stack.name, kept_share=kept, **row)


def synthetic(rows: Rows, numbers: Sequence[int], pictures: Path | None) -> None:
    """Mothers of other brains, seeds and settings."""
    brains, worst = _brains(), []
    overlaps, off, told = [], 0, []
    for number in numbers:
        random = np.random.default_rng(FIRST_SEED + number)
        mother = mothers.draw_mother(brains, SETTINGS, random)
        made = [mothers.draw_stack(mother, SETTINGS, random) for _ in range(STACKS[number % len(STACKS)])]
        images = [mothers.draw_image(stack, SETTINGS, random).transpose(1, 2, 0) for stack in made]
        seen = [Seen(image, stack.affine) for image, stack in zip(images, made, strict=True)]
        start = time.perf_counter()
        found = find_masks(seen, SegmentationSettings())
        seconds = (time.perf_counter() - start) / len(seen)
        for stack, image, mask in zip(made, images, found, strict=True):
            brain = stack.brain.transpose(1, 2, 0) > 0.5
            shown = float(brain.sum() * stack.spacing.prod() / 1000)
            if shown < LEAST_SHOWN:
                continue
            overlap = _overlap_with_one(mask.mask, brain)
            overlaps.append(overlap)
            worst = sorted([*worst, (overlap, number, image, brain, mask.mask)], key=lambda kept: kept[0])[:SHOWN]
            elsewhere = bool(mask.mask.any() and not (mask.mask & brain).any())
            off += elsewhere
            told.append((mask.confidence, overlap))
            kind = "in air" if mother.air else "twins" if len(mother.fetuses) > 1 else "one"
            rows.add(
                case=f"mother {number}",
                run=kind,
                shown_cm3=round(shown),
                dice=overlap,
                confidence=mask.confidence,
                off="yes" if elsewhere else "no",
                wall_s=seconds,
            )
    if pictures:
        draw(worst, pictures)
    low = np.percentile(overlaps, 5)
    doubted = np.array([overlap for confidence, overlap in told if confidence < SegmentationSettings().doubtful])
    rows.add(case=f"{len(numbers)} mothers", run="median", dice=float(np.median(overlaps)), off=str(off))
    rows.add(case=f"{len(numbers)} mothers", run="5th percentile", dice=float(low))
    rows.add(case=f"{len(numbers)} mothers", run="missed", missed=int(sum(overlap == 0 for overlap in overlaps) - off))
    poor = [confidence for confidence, overlap in told if overlap < 0.8]
    caught = float(np.mean([c < SegmentationSettings().doubtful for c in poor])) if poor else 1.0
    rows.add(
        case=f"{len(numbers)} mothers", run="below 0.8 that are warned of", told_share=caught, doubted=len(doubted)
    )


def draw(worst: Sequence[tuple], folder: Path) -> None:
    """Slices of stacks, with what is brain in red and what was found in green."""
    from PIL import Image
    from scipy.ndimage import binary_erosion

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for _, _, image, brain, mask in worst:
        shown = np.flatnonzero((brain | mask).any(axis=(0, 1)))
        tiles = []
        for k in np.linspace(shown[0], shown[-1], TILES).astype(int):
            grey = np.clip(image[:, :, k] / np.percentile(image, 99.5), 0, 1)
            tile = np.stack([grey] * 3, axis=-1)
            for region, colour in ((brain[:, :, k], (1, 0, 0)), (mask[:, :, k], (0, 1, 0))):
                tile[region & ~binary_erosion(region)] = colour
            tiles.append(np.asarray(Image.fromarray((255 * tile).astype(np.uint8)).resize((TILE, TILE))))
        rows.append(np.concatenate(tiles, axis=1))
    Image.fromarray(np.concatenate(rows)).save(folder / "masks-worst.png", optimize=True)


def _overlap_with_one(mask: np.ndarray, brain: np.ndarray) -> float:
    """Dice with the brain; of twins that were both labelled, with the one that was chosen."""
    from scipy.ndimage import label

    pieces, count = label(brain, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    large = [1 + n for n in range(count) if sizes[n] > 0.2 * sizes.max()]
    return max(
        [dice(mask, brain), *(dice(mask, pieces == n) for n in large)] if len(large) > 1 else [dice(mask, brain)]
    )


def _brains() -> list[mothers.Brain]:
    made = [mothers.phantom_brain(length, seed) for seed, length in ((101, 72.0), (102, 88.0))]
    if not ATLAS.is_dir():
        say("no atlas here: brains of the phantom only")
        return made
    return made + mothers.atlas_brains(ATLAS, HELD_OUT)


def arguments() -> argparse.Namespace:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--only", nargs="+", choices=("real", "volume", "cut-out", "mothers"), help="parts to run")
    options.add_argument("--count", type=int, default=60, metavar="N", help="synthetic mothers (default: 60)")
    options.add_argument("--first", type=int, default=0, metavar="N", help="number of the first of them")
    options.add_argument("--pictures", type=Path, metavar="DIR", help="draw those that overlap least")
    return options.parse_args()


def main() -> None:
    args = arguments()
    rows = Rows("Masks", BENCHMARK, args)
    parts = args.only or (["mothers"] if args.quick else ["real", "volume", "cut-out", "mothers"])
    if "real" in parts and REAL.is_dir():
        real_masks(rows)
    if "volume" in parts and REAL.is_dir():
        real_volume(rows, left_out=5)
    if "cut-out" in parts and CUT_OUT.is_dir():
        cut_out_masks(rows)
    if "mothers" in parts:
        synthetic(rows, range(args.first, args.first + (2 if args.quick else args.count)), args.pictures)
    rows.show()


if __name__ == "__main__":
    main()
