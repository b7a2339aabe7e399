"""``apply``: other data on motion that was found before."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, write
from scipy import ndimage

from slicesplat.cli import main
from slicesplat.config import Config
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline.apply import apply, apply_labels
from slicesplat.prepare.known_motion import KnownMotion
from slicesplat.records import SliceRecord
from slicesplat.sampling import Grid
from slicesplat.validation.images import evaluate
from slicesplat.validation.labels import label_dice, label_stacks, nearest_labels
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

ATLAS = Path(__file__).parents[3] / "shared" / "data" / "atlas-cc0" / "ga30-parcellation.nii.gz"
CONFIG = Config(resolution=1.4, threads=1)


@cache
def scan() -> Simulation:
    config = SimulationConfig(motion="moderate", pixel=1.5, spacing=3.0, thickness=3.0, noise=0.02, seed=1)
    return simulate(*brain_phantom(50.0, 1.4), config)


def motion() -> KnownMotion:
    transforms = [scan().truth.transforms(number) for number in range(len(scan().stacks))]
    return {(number, k): matrix for number, own in enumerate(transforms) for k, matrix in enumerate(own)}


def psnr(volume: nib.Nifti1Image) -> float:
    truth, affine, mask = brain_phantom(50.0, 1.4)
    images = (nib.Nifti1Image(values, affine) for values in (truth, mask.astype(np.uint8)))
    return evaluate(volume, *images, register=False).psnr


def test_volume_on_known_motion_is_sharper_than_without() -> None:
    still = {key: np.eye(4) for key in motion()}
    assert psnr(apply(scan().stacks, motion(), CONFIG)) > psnr(apply(scan().stacks, still, CONFIG)) + 2


def test_slices_without_a_pose_are_left_out() -> None:
    some = {key: matrix for key, matrix in motion().items() if key[1] % 4}
    spoilt = [replace(stack, data=stack.data.copy()) for stack in scan().stacks]
    for stack in spoilt:
        stack.data[:, :, ::4] = 5000
    values, expected = (np.asarray(apply(s, some, CONFIG).dataobj) for s in (spoilt, scan().stacks))
    # The scale of intensities is that of the masks, spoilt slices too.
    inside = (values > 0) & (expected > 0)
    assert np.corrcoef(values[inside], expected[inside])[0, 1] > 0.97


def constant_maps(*levels: float) -> list[Stack]:
    rng = np.random.default_rng(0)
    return [
        replace(stack, data=np.where(stack.mask, level + rng.normal(0, 1, stack.data.shape), 0).astype(np.float32))
        for stack, level in zip(scan().stacks, levels, strict=True)
    ]


def core(volume: nib.Nifti1Image) -> np.ndarray:
    values = np.asarray(volume.dataobj)
    return values[ndimage.binary_erosion(values > 0, iterations=4)]


def test_numbers_of_a_quantitative_map_stay_what_they_are() -> None:
    level = core(apply(constant_maps(60.0, 60.0, 60.0), motion(), CONFIG, robust=False))
    assert np.median(level) == pytest.approx(60.0, rel=0.01) and level.std() < 2
    # Where stacks differ, it is their mean that is shown; made alike, they show no difference.
    apart = constant_maps(40.0, 60.0, 80.0)
    assert core(apply(apart, motion(), CONFIG, robust=False)).std() > 2 * core(apply(apart, motion(), CONFIG)).std()


@pytest.mark.skipif(not ATLAS.exists(), reason="the shared label maps are not here")
def test_labels_are_found_again_better_than_by_averaging_the_nearest() -> None:
    image = nib.load(ATLAS)
    # A quarter of the brain says as much as the whole.
    truth, affine = np.asarray(image.dataobj)[: image.shape[0] // 2, : image.shape[1] // 2].astype(int), image.affine
    stacks, moved = label_stacks(truth, affine)
    grid = Grid(affine, truth.shape)
    found = np.asarray(apply_labels(stacks, moved, Config(), grid).dataobj).astype(int)
    nearest = nearest_labels(stacks, moved, affine, truth.shape)
    ours, theirs = (float(np.mean(list(label_dice(each, truth).values()))) for each in (found, nearest))
    assert ours > 0.9 and ours > theirs + 0.02


def test_command_writes_a_volume_for_each_set_on_the_grid_of_the_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stacks, masks, other = [], [], []
    for number, stack in enumerate(scan().stacks):
        stacks.append(write(tmp_path / f"a-{number}.nii.gz", stack.data, stack.affine))
        masks.append(write(tmp_path / f"m-{number}.nii.gz", stack.mask.astype(np.uint8), stack.affine))
        labels = np.where(stack.mask, 1 + (stack.data > np.median(stack.data[stack.mask])), 0).astype(np.uint8)
        other.append(write(tmp_path / f"b-{number}.nii.gz", labels, stack.affine))
    records = [SliceRecord(number, k, matrix).json() for (number, k), matrix in motion().items()]
    (tmp_path / "poses.json").write_text(json.dumps({"slices": records}))
    reference = write(tmp_path / "grid.nii.gz", np.ones((30, 34, 20), np.float32), np.diag([1.5, 1.5, 2.0, 1.0]))
    out = [str(tmp_path / name) for name in ("one.nii.gz", "two.nii.gz")]
    args = ["apply", "--poses", str(tmp_path / "poses.json"), "--stack-masks", *masks, "--quiet", "--threads", "1"]
    both = [*args, "--input-stacks", *stacks, *stacks, "--output-volumes", *out, "--reference", reference]
    assert main(both) == 0
    one, two = (nib.load(path) for path in out)
    assert one.shape == (30, 34, 20) and np.asarray(one.dataobj).tobytes() == np.asarray(two.dataobj).tobytes()
    assert main([*args, "--input-stacks", *other, "--output-volumes", out[0], "--labels"]) == 0
    assert set(np.unique(nib.load(out[0]).get_fdata())) == {0, 1, 2}
    capsys.readouterr()
    refused(capsys, [*args, "--input-stacks", *stacks[:2], "--output-volumes", *out, out[0] + "3"], "unknown kind")
    refused(capsys, [*args, "--input-stacks", *stacks, "--output-volumes", *out], "3 stacks for 2 volumes")
    refused(capsys, [*args, "--input-stacks", *stacks, "--output-volumes", out[0], "--labels"], "are no labels")
    refused(capsys, [*args, "--input-stacks", *stacks, "--output-volumes", stacks[0]], "is an input too")
