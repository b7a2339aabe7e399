"""How close reconstructions come to the truth, motion unknown, and what limits them.

Every shared case is reconstructed as a user would, with the default settings. On request: with the true poses given,
beside the known-pose least squares, real stacks predicted from the others, a corrupted stack added, stacks left away.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from cases import (
    QUICK_SPACING,
    REAL,
    SHARED,
    Case,
    Row,
    Rows,
    SliceKey,
    case_folder,
    chosen_cases,
    image_quality,
    load_case,
    made_case,
    parser,
    phantom_source,
    pose_quality,
    quick_case,
    say,
    stack_files,
    true_motion,
)
from known_pose_least_squares import least_squares
from nibabel.spatialimages import SpatialImage

from slicesplat.config import Config
from slicesplat.estimate.fit import joint_fit
from slicesplat.geometry.slices import cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.io.nifti import save_volume
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.prepare.load import load_stacks
from slicesplat.prepare.region import grid_over, region_field, region_mask
from slicesplat.report.figure import save_png, three_planes
from slicesplat.splat.grid import sample_on_grid
from slicesplat.validation.evaluate import aligned

BENCHMARK = "accuracy"

PREDICTION = SHARED / "tools" / "unseen_stack.py"
STARTS = ((0, 0, 0), (5, 0, 0), (0, 5, 0), (0, 0, 5), (-5, 0, 0), (0, -5, 0), (0, 0, -5))  # mm
FOUND = 0.7  # NCC of a whole stack with the volume: lower where the search went astray
CORRUPTED_CASE = "fetal-moderate"
ALLOWED_LOSS = 0.3  # dB, for a corrupted stack
SUBSET = 3
DIFFERENCE = 0.3  # of the brightest truth: shown black and white


def measured(case: Case, config: Config, pictures: Path | None = None) -> Row:
    """One reconstruction: seconds, image quality, slice poses; a picture of it, if there is a folder for that."""
    start = time.perf_counter()
    result = reconstruct(case.stacks, config)
    seconds = time.perf_counter() - start
    if pictures and case.truth is not None and case.truth_mask is not None:
        draw(result.volume, case, pictures / f"{case.name}.png")
    quality = {**image_quality(result.volume, case), **pose_quality(result.slice_records(), case)}
    size = {"stacks": len(case.stacks), "gaussians": len(result.field)}
    return {**size, **quality, "wall_s": round(seconds, 1)}


def draw(volume: SpatialImage, case: Case, path: Path) -> None:
    """One stack, the reconstruction, the truth and what is between the two, side by side."""
    found = aligned(volume, case.truth, case.truth_mask)
    values, truth = (np.where(found.mask, image, 0.0).transpose(2, 1, 0) for image in (found.values, found.truth))
    affine, stack = case.truth.affine, case.stacks[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    panels = {
        "one stack": (np.where(stack.mask, stack.data, 0.0), stack.affine),
        "reconstruction": (values, affine),
        "difference": (np.clip(values - truth, *(side * DIFFERENCE * truth.max() for side in (-1, 1))), affine),
        "truth": (truth, affine),
    }
    save_png(three_planes(panels), path)


def with_one_mask(case: Case) -> Case:
    """The case as it is for a user who drew a mask on its first stack only."""
    stacks, masks = stack_files(case_folder(case.name))
    return replace(case, stacks=load_stacks(stacks, masks[:1], [stack.thickness for stack in case.stacks]))


def with_true_poses(case: Case, config: Config, left_out: Collection[SliceKey] = ()) -> Row:
    """Image quality of the fit when every slice is where it really was, and stays there; some may be left out."""
    start = time.perf_counter()
    scaled, _ = scale_intensities(case.stacks)
    slices = cut_slices(scaled, config.slice_profile)
    slices = slices.moved(true_motion(case, slices))
    still = replace(config.fit, pose_steps=0)
    names = zip(slices.stack.tolist(), slices.index.tolist(), strict=True)
    used = np.array([name not in left_out for name in names])
    inside = slices.mask & used[slices.slice_of_pixel()]
    fit = joint_fit(slices, inside, still, np.random.default_rng(config.seed))
    region = region_field(slices, fit.weights.slice)
    affine, shape = grid_over(region, config.resolution)
    values = np.maximum(sample_on_grid(fit.field, affine, shape), 0.0) * region_mask(region, affine, shape)
    seconds = time.perf_counter() - start
    quality = image_quality(nib.Nifti1Image(values.astype(np.float32), affine), case, register=False)
    return {"gaussians": len(fit.field), **quality, "wall_s": round(seconds, 1)}


def predict_left_out(rows: Rows, case: Case, config: Config, numbers: Sequence[int]) -> None:
    """Leave each real stack out in turn and predict it from the others: NCC of its slices after aligning them.

    Only the stacks of the given numbers, counted from 1, if there are any.
    """
    if not PREDICTION.exists():
        say("the prediction of unseen stacks needs the shared tools, which are not here: skipped")
        return
    stacks, masks = stack_files(case_folder(case.name))
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for left_out, (stack, mask) in enumerate(zip(stacks, masks, strict=True)):
            if numbers and left_out + 1 not in numbers:
                continue
            start = time.perf_counter()
            others = [other for i, other in enumerate(case.stacks) if i != left_out]
            result = reconstruct(others, config)
            seconds = time.perf_counter() - start
            thickness = case.stacks[left_out].thickness
            answer = prediction(result.volume, Path(folder) / "volume.nii.gz", stack, mask, thickness)
            found.append(answer["ncc_mean"])
            ncc = {"ncc": answer["ncc_mean"], "p10_ncc": answer["ncc_p10"]}
            rows.add(case=case.name, run=f"predict {stack.name}", **ncc, wall_s=round(seconds, 1))
    rows.add(case=case.name, run=f"predict, mean of {len(found)}", ncc=round(float(np.mean(found)), 4))


def prediction(volume: SpatialImage, path: Path, stack: Path, mask: Path, thickness: float) -> Row:
    """What the shared tool says; it looks for the stack from where the volume lies, and may need another start."""
    best: Row = {}
    for start in STARTS:
        affine = nib.affines.from_matvec(np.eye(3), start) @ volume.affine
        save_volume(nib.Nifti1Image(np.asarray(volume.dataobj), affine), path)
        command = [sys.executable, str(PREDICTION), str(path), str(stack), str(mask), "--thickness", str(thickness)]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        if ran.returncode:  # it went astray and left the volume
            continue
        answer = json.loads(ran.stdout)
        # Judged slice by slice: of a stack that moved much no place as a whole fits well.
        if not best or answer["ncc_mean"] > best["ncc_mean"]:
            best = answer
        if answer["stack_ncc"] > FOUND:
            break
    if not best:
        raise RuntimeError(f"{PREDICTION.name} finds {stack.name} in {path.name} from no start: {ran.stderr}")
    return best


def corrupted(stack: Stack, how: str, rng: np.random.Generator) -> Stack:
    """A useless copy of a stack: noise of the same mean and spread, or the images of slices in random order."""
    if how == "shuffled":
        order = rng.permutation(stack.n_slices)
        return replace(stack, data=np.ascontiguousarray(stack.data[:, :, order]), name="shuffled")
    values = stack.data[stack.mask]
    noise = np.abs(rng.normal(values.mean(), values.std(), stack.data.shape))
    return replace(stack, data=noise.astype(np.float32), name="noise")


def add_bad_stack(rows: Rows, case: Case, config: Config) -> None:
    """What a worthless stack, added to the good ones, does to the result."""
    good = measured(case, config)
    rows.add(case=case.name, run=f"{len(case.stacks)} good stacks", **good)
    for how in ("noise", "shuffled"):
        bad = corrupted(case.stacks[0], how, np.random.default_rng(0))
        result = reconstruct([*case.stacks, bad], config)
        quality = image_quality(result.volume, case)
        records = result.slice_records()
        trust = [record.weight for record in records if record.stack == len(case.stacks)]
        lost = good["psnr"] - quality["psnr"]
        rows.add(
            case=case.name,
            run=f"and one bad: {how}",
            **quality,
            **pose_quality([record for record in records if record.stack < len(case.stacks)], case),
            bad_weight=round(float(np.mean(trust)), 3) if trust else 0.0,
            verdict=f"{'ok' if lost <= ALLOWED_LOSS else 'TOO MUCH'}: {lost:+.2f} dB lost",
        )


def compare_subsets(rows: Rows, case: Case, config: Config, count: int) -> None:
    """All stacks against any three of them."""
    whole = measured(case, config)
    rows.add(case=case.name, run=f"all {len(case.stacks)} stacks", **whole)
    triples = list(itertools.combinations(range(len(case.stacks)), SUBSET))
    chosen = [triples[i] for i in np.unique(np.linspace(0, len(triples) - 1, min(count, len(triples))).astype(int))]
    best = -np.inf
    for which in chosen:
        found = measured(case.subset(which, case.name), config)
        best = max(best, found["psnr"])
        rows.add(case=case.name, run="stacks " + " ".join(str(i + 1) for i in which), **found)
    verdict = "ok" if whole["psnr"] > best else "NOT BETTER"
    rows.add(case=case.name, run="all against best three", verdict=f"{verdict}: {whole['psnr'] - best:+.2f} dB")


def many_stacks(args: argparse.Namespace) -> Case:
    """The case with six stacks on which stacks are added and left away."""
    if args.quick:
        return quick_case(stacks=SUBSET + 1)
    if args.cases:
        return load_case(case_folder(args.cases[0]))
    try:
        return load_case(case_folder(CORRUPTED_CASE))
    except SystemExit:
        say("no shared cases here: simulating one from the phantom")
        return made_case(phantom_source(), "moderate", 0)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--true-poses", action="store_true", help="also the fit with the true poses given")
    options.add_argument("--pictures", type=Path, metavar="DIR", help="a picture of every case, beside the truth")
    options.add_argument("--one-mask", action="store_true", help="also with the first stack's mask for all")
    options.add_argument("--least-squares", action="store_true", help="also the known-pose least squares")
    options.add_argument(
        "--leave-one-out",
        type=int,
        nargs="*",
        metavar="I",
        help="only: real stacks (I from 1) predicted from the others",
    )
    options.add_argument("--bad-stack", action="store_true", help="only: a corrupted stack added to good ones")
    options.add_argument(
        "--subsets", type=int, nargs="?", const=20, default=0, metavar="N", help="only: all stacks against N triples"
    )
    options.add_argument("--bias-field-correction", action="store_true", help="N4 on every stack first")
    return options.parse_args(given)


def main() -> None:
    args = arguments()
    config = Config(bias_field_correction=args.bias_field_correction)
    if args.quick:
        config = replace(config, resolution=QUICK_SPACING)
    rows = Rows("Accuracy", BENCHMARK, args)
    if args.leave_one_out is not None:
        if stack_files(REAL)[0]:
            predict_left_out(rows, load_case(REAL), config, args.leave_one_out)
        else:
            say("the real stacks are not here: skipped")
    if args.bad_stack:
        add_bad_stack(rows, many_stacks(args), config)
    if args.subsets:
        compare_subsets(rows, many_stacks(args), config, args.subsets)
    if args.leave_one_out is None and not (args.bad_stack or args.subsets):
        for case in chosen_cases(args):
            rows.add(case=case.name, run="motion unknown", **measured(case, config, args.pictures))
            if args.one_mask:
                rows.add(case=case.name, run="one mask", **measured(with_one_mask(case), config))
            if args.true_poses:
                rows.add(case=case.name, run="true poses", **with_true_poses(case, config))
            if args.least_squares:
                found = least_squares(case)
                kept = {name: found[name] for name in ("psnr", "ssim", "wall_s")}
                rows.add(case=case.name, run="least squares, true poses", **kept)
    rows.show()


if __name__ == "__main__":
    main()
