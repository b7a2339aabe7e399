"""Stacks in, a volume out: sharper than their average, in the right place, on their scale, the same every time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

import slicesplat.pipeline
from slicesplat.cli import main
from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.estimate.joint import FitSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.rigid import rigid
from slicesplat.geometry.stack import Stack
from slicesplat.io.slices import load_slices
from slicesplat.pipeline import reconstruct, register
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.progress import Progress, StepClock
from slicesplat.result import Reconstruction
from slicesplat.splat import CPU, available_backends
from slicesplat.splat.grid import sample_on_grid
from slicesplat.validation.demo import as_scanned, average_stacks
from slicesplat.validation.evaluate import score
from slicesplat.validation.files import save
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.pose_error import pose_error
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

# A fit of which the quality is not the point.
BRIEF: dict[str, Any] = {"spacings": (1.75,), "pose_rounds": 1, "final_rounds": 1, "rounds": 2}

STEPS = ["load kernels", "prepare", "register", "fit", "sample"]
WITH_KERNELS = ("slicesplat.splat.cpu", "slicesplat.priors")
COMPILING = "compile kernels (once per installation)"  # what the first step is called where nothing was kept


@cache
def small() -> Simulation:
    """Twenty slices in three stacks of a brain of 32 mm."""
    config = SimulationConfig(motion="mild", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.02, seed=1)
    return simulate(*brain_phantom(32.0, 1.4), config)


def brief(
    stacks: Sequence[Stack], progress: Callable[[Progress], None] | None = None, **settings: Any
) -> Reconstruction:
    """A reconstruction that stops early."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slicesplat.pipeline, "FitSettings", lambda: FitSettings(**BRIEF))
        return reconstruct(stacks, replace(Config(resolution=1.4, threads=1), **settings), progress)


@cache
def told() -> list[Progress]:
    return []


@cache
def result() -> Reconstruction:
    return brief(small().stacks, told().append)


def values(made: Reconstruction) -> NDArray:
    return np.asarray(made.volume.dataobj)


def alike(a: Reconstruction, b: Reconstruction) -> float:
    """Correlation of the volumes where both have something, in world space."""
    to_b = np.linalg.inv(b.volume.affine) @ a.volume.affine
    index = np.argwhere(values(a) > 0)
    if not len(index):
        return 0.0
    other = np.rint(index @ to_b[:3, :3].T + to_b[:3, 3]).astype(int)
    inside = ((other >= 0) & (other < values(b).shape)).all(axis=1)
    pair = values(a)[tuple(index[inside].T)], values(b)[tuple(other[inside].T)]
    if inside.mean() < 0.9:
        return 0.0
    return float(np.corrcoef(*pair)[0, 1])


def assert_sound(made: Reconstruction) -> None:
    """Finite everywhere, something in it, and every slice accounted for."""
    assert np.isfinite(values(made)).all()
    assert values(made).max() > 0
    for numbers in (made.weight, made.gain, made.ncc, made.slices.pose):
        assert np.isfinite(numbers).all()
    assert all(bool(value.isfinite().all()) for value in made.field.tensors().values())
    assert math.isfinite(made.noise)


# --- quality


@cache
def moving() -> tuple[Simulation, tuple[NDArray, NDArray, NDArray], Reconstruction]:
    """A brain of 45 mm under moderate motion: the simulation, volume, affine and mask of the truth, the result."""
    truth = brain_phantom(45.0, 1.4)
    config = SimulationConfig(motion="moderate", pixel=1.4, spacing=2.6, thickness=2.5, dropout=0.0, noise=0.02, seed=1)
    scan = simulate(*truth, config)
    return scan, truth, reconstruct(scan.stacks, Config(resolution=1.4, threads=1))


def test_reconstruction_is_closer_to_the_truth_than_the_average_of_the_stacks() -> None:
    scan, (volume, affine, mask), made = moving()
    truth = nib.Nifti1Image(volume, affine), nib.Nifti1Image(mask.astype(np.uint8), affine)
    average = nib.Nifti1Image(average_stacks(scan.stacks, affine, volume.shape), affine)
    before, after = score(average, *truth), score(made.volume, *truth)
    # Folds a few mm wide under slices 2.8 mm thick: most of them stay unresolved, whatever the method.
    assert after.psnr > before.psnr + 1.0
    assert after.ssim > before.ssim + 0.1


def test_slices_are_where_they_were_acquired() -> None:
    scan, _, made = moving()
    after, before = (
        pose_error(slices, scan.truth, scan.masks) for slices in (made.slice_records(), as_scanned(scan.stacks))
    )
    # A third of a pixel.
    assert after.tre_median < 0.5
    assert after.tre_median < 0.25 * before.tre_median
    assert after.used >= 0.95 * after.slices


def test_intensities_are_those_of_the_input() -> None:
    _, (volume, affine, mask), made = moving()
    index = np.argwhere(values(made) > 0) @ made.volume.affine[:3, :3].T + made.volume.affine[:3, 3]
    back = np.rint((index - affine[:3, 3]) / 1.4).astype(int)
    inside = ((back >= 0) & (back < volume.shape)).all(axis=1)
    inside[inside] = mask[tuple(back[inside].T)]
    assert np.median(values(made)[values(made) > 0][inside]) == pytest.approx(np.median(volume[mask]), rel=0.05)


def test_everything_stays_in_the_scanner_space_of_the_reference_stack() -> None:
    _, _, made = moving()
    slices = made.slices
    own = np.flatnonzero((slices.stack == made.reference) & (made.weight > 0.5)).tolist()
    drift = []
    for s in own:
        change = slices.pose[s] - slices.nominal[s]
        drift.append(slices.plane_points(s) @ change[:3, :3].T + change[:3, 3])
    # The joint fit goes on moving slices after the registration has fixed the gauge: a fraction of a pixel.
    assert np.linalg.norm(np.concatenate(drift).mean(axis=0)) < 0.3


# --- place


def test_bright_spot_is_found_at_its_world_position_under_flipped_and_oblique_affines() -> None:
    volume, affine, inside = brain_phantom(36.0, 1.4)
    spot = np.array([5.6, -7.0, 4.2])
    distance = np.linalg.norm(np.moveaxis(np.indices(volume.shape), 0, -1) * 1.4 + affine[:3, 3] - spot, axis=-1)
    bright = (0.4 * volume + 1.2 * np.percentile(volume, 99) * np.exp(-0.5 * (distance / 2.5) ** 2)).astype(np.float32)
    config = SimulationConfig(motion="none", pixel=1.6, spacing=3.0, thickness=3.0, dropout=0.0, noise=0.01, seed=4)
    stacks = simulate(bright, affine, inside, config).stacks
    # The first two stacks are stored backwards along an axis, and the whole patient lies obliquely, 60 mm off-centre.
    for number, axis in ((0, 0), (1, 2)):
        flip = np.eye(4)
        flip[axis, axis], flip[axis, 3] = -1, stacks[number].data.shape[axis] - 1
        given = stacks[number]
        data, mask = np.flip(given.data, axis), np.flip(given.mask, axis)
        stacks[number] = replace(given, data=data.copy(), mask=mask.copy(), affine=given.affine @ flip)
    lies = rigid(np.array([0.3, -0.5, 0.4]), np.array([60.0, -25.0, 40.0]))
    made = brief([replace(stack, affine=lies @ stack.affine) for stack in stacks])
    assert np.linalg.det(stacks[0].affine) * np.linalg.det(stacks[2].affine) < 0

    found, grid = values(made), made.volume.affine
    near = np.where(found > 0.7 * found.max(), found, 0)
    centre = np.array([(near * index).sum() for index in np.indices(near.shape)]) / near.sum()
    where = grid[:3, :3] @ centre + grid[:3, 3]
    # Half a voxel.
    np.testing.assert_allclose(where, (lies @ [*spot, 1.0])[:3], atol=0.7)


def test_output_grid_is_isotropic_and_carries_its_affine() -> None:
    made = result()
    np.testing.assert_allclose(made.volume.affine[:3, :3], 1.4 * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(made.volume.header.get_zooms(), 1.4, rtol=1e-6)
    np.testing.assert_array_equal(made.volume.affine, made.mask.affine)
    assert made.volume.shape == made.mask.shape
    assert (values(made)[np.asarray(made.mask.dataobj) == 0] == 0).all()
    assert (values(made) >= 0).all()


def test_mask_covers_what_the_stacks_masks_cover() -> None:
    made, stack = result(), small().stacks[0]
    index = np.linalg.solve(made.mask.affine[:3, :3], (stack.masked_points() - made.mask.affine[:3, 3]).T).T
    covered = np.asarray(made.mask.dataobj)[tuple(np.rint(index).astype(int).T)]
    # Mild motion displaces the outline by a millimetre or so.
    assert covered.mean() > 0.97


# --- report


def test_json_says_what_was_asked_what_it_took_and_where_every_slice_is() -> None:
    made = result()
    written = json.loads(json.dumps(made.json(), allow_nan=False))
    assert written["settings"]["resolution"] == 1.4
    assert {"settings", "versions", "steps", "reference_stack", "gaussians", "noise", "slices"} <= written.keys()
    assert {"slicesplat", "python", "torch", "numba", "numpy"} <= written["versions"].keys()
    assert [step["step"].replace(COMPILING, STEPS[0]) for step in written["steps"]] == STEPS
    for step in written["steps"]:
        assert step["seconds"] >= 0 and step["peak_memory_mb"] > 10
    assert written["gaussians"] == len(made.field) > 100
    keys = set()
    for record in written["slices"]:
        assert record.keys() >= {"stack", "slice", "world_transform", "weight", "gain"}
        transform = np.array(record["world_transform"])
        np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(transform[3], [0, 0, 0, 1])
        assert 0 <= record["weight"] <= 1 and 0.2 <= record["gain"] <= 5
        keys.add((record["stack"], record["slice"]))
    # Every slice that shows enough of the region, once.
    expected = {
        (i, k)
        for i, stack in enumerate(small().stacks)
        for k in range(stack.n_slices)
        if stack.mask[:, :, k].sum() >= 16
    }
    assert keys == expected and len(written["slices"]) == len(expected)


def test_simulated_stacks_are_the_measured_ones_without_noise() -> None:
    scale = np.float32(20)
    stacks = [small().stacks[0], replace(small().stacks[1], data=small().stacks[1].data * scale), small().stacks[2]]
    made = brief(stacks)
    for given, predicted in zip(stacks, made.simulated(), strict=True):
        np.testing.assert_array_equal(predicted.affine, given.affine)
        assert predicted.data.shape == given.data.shape and predicted.data.dtype == np.float32
        used = given.mask & (given.mask.sum(axis=(0, 1)) >= 16)
        assert np.corrcoef(predicted.data[used], given.data[used])[0, 1] > 0.9
        # Each on its own scale.
        assert predicted.data[used].mean() == pytest.approx(given.data[used].mean(), rel=0.03)


def test_progress_runs_forward_through_the_steps_and_tells_a_finite_loss() -> None:
    result()
    seen = told()
    steps = [now.step.replace(COMPILING, STEPS[0]) for now in seen]
    assert sorted(set(steps), key=steps.index) == STEPS
    assert steps == sorted(steps, key=STEPS.index)
    for step in ("register", "fit"):
        done = [now.done for now in seen if now.step == step]
        assert done == sorted(done)
        last = [now for now in seen if now.step == step][-1]
        assert 0 < last.done <= last.total
    losses = [now.loss for now in seen if now.step == "fit" and now.loss is not None]
    assert len(losses) > 1 and np.isfinite(losses).all()


# --- compiled ahead


def kernels_compiled_by_steps() -> dict[str, int]:
    """Kernels that this process has compiled or loaded when each step of a reconstruction begins, and at its end."""
    modules = [module for name, module in sys.modules.items() if name.startswith(WITH_KERNELS)]
    kernels = [kernel for module in modules for kernel in vars(module).values()]
    found: dict[str, int] = {}

    def count(step: str) -> None:
        found.setdefault(step, sum(len(getattr(kernel, "signatures", [])) for kernel in kernels))

    asked = {"slice_profile": "box", "uncertainty": True, "with_background": True, "threads": 1, "device": "cpu"}
    brief(small().stacks, lambda now: count(now.step), **asked).simulated()
    count("end")
    return found


def test_everything_is_compiled_in_the_step_that_says_so() -> None:
    # In a process of its own: in this one, others have compiled.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import json, test_pipeline as t; "
        "print(json.dumps(t.kernels_compiled_by_steps()))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found.pop(COMPILING, 0) == 0
    assert [*found] == [*STEPS, "uncertainty", "end"]
    before, *after = found.values()
    assert before == 0 and after[0] > 0
    assert set(after) == {after[0]}


def compile_one(*_: object) -> None:
    """In the place of `compile_kernels`: a kernel that is in no cache."""
    numba.njit(lambda x: x + 1)(1)


@pytest.mark.parametrize(
    ("kept", "needed", "names"),
    [
        (True, lambda *_: None, [STEPS[0]]),
        (True, compile_one, [STEPS[0], COMPILING]),
        (False, compile_one, [STEPS[0], "compile kernels (in memory)"]),
    ],
)
def test_step_is_called_compiling_only_when_something_is_compiled(
    monkeypatch: pytest.MonkeyPatch, kept: bool, needed: Callable[..., None], names: list[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(slicesplat.pipeline, "keeps_kernels", lambda: kept)
    monkeypatch.setattr(slicesplat.pipeline, "compile_kernels", needed)
    clock = StepClock(lambda now: seen.append(now.step))
    slicesplat.pipeline._prepare_kernels(CPU, clock)
    assert seen == names
    assert [step.step for step in clock.steps] == names[-1:]


# --- the same every time


@pytest.mark.parametrize("threads", [1, 2])
def test_same_stacks_give_the_same_bytes_whatever_the_number_of_threads(threads: int) -> None:
    again = brief(small().stacks, threads=threads)
    assert values(again).tobytes() == values(result()).tobytes()
    assert again.volume.affine.tobytes() == result().volume.affine.tobytes()
    assert again.json()["slices"] == result().json()["slices"]


def test_seed_changes_little() -> None:
    other = brief(small().stacks, seed=7)
    assert_sound(other)
    assert alike(other, result()) > 0.97


def test_intensity_scale_of_the_input_is_that_of_the_output() -> None:
    # Powers of two are exact in float32: not a bit may change.
    doubled = brief([replace(stack, data=stack.data * np.float32(1024)) for stack in small().stacks])
    np.testing.assert_array_equal(values(doubled), 1024 * values(result()))
    # Others round every pixel anew, and poses that twenty slices hardly determine carry that along.
    thousandfold = brief([replace(stack, data=stack.data * np.float32(1000)) for stack in small().stacks])
    assert alike(thousandfold, result()) > 0.97
    medians = [np.median(values(made)[values(made) > 0]) for made in (thousandfold, result())]
    assert medians[0] == pytest.approx(1000 * medians[1], rel=0.01)
    assert thousandfold.noise == pytest.approx(1000 * result().noise, rel=0.3)


# --- fewer and worse stacks


def test_two_stacks_are_enough() -> None:
    made = brief(small().stacks[:2])
    assert_sound(made)
    assert set(made.slices.stack) == {0, 1}
    assert alike(made, result()) > 0.85


def test_one_stack_gives_a_volume_too() -> None:
    made = brief(small().stacks[:1])
    assert_sound(made)
    assert made.reference == 0
    assert (made.weight > 0.1).mean() > 0.8
    assert alike(made, result()) > 0.7


def test_stack_on_another_scale_neither_dominates_nor_vanishes() -> None:
    stacks = list(small().stacks)
    stacks[1] = replace(stacks[1], data=stacks[1].data * np.float32(20))
    made = brief(stacks)
    assert_sound(made)
    # The scale is that of the median stack.
    assert np.median(values(made)[values(made) > 0]) == pytest.approx(
        np.median(values(result())[values(result()) > 0]), rel=0.1
    )
    assert alike(made, result()) > 0.97
    assert np.median(made.gain[made.slices.stack == 1]) == pytest.approx(1.0, abs=0.1)


def test_corrupted_slice_leaves_no_trace() -> None:
    stack = small().stacks[1]
    data, middle = stack.data.copy(), int(np.argmax(stack.mask.sum(axis=(0, 1))))
    data[:, :, middle] = np.random.default_rng(0).uniform(0, 1.5 * data.max(), data.shape[:2])
    made = brief([small().stacks[0], replace(stack, data=data), small().stacks[2]])
    assert_sound(made)
    corrupted = (made.slices.stack == 1) & (made.slices.index == middle)
    assert made.weight[corrupted] < 0.1
    assert (made.weight[~corrupted] > 0.5).all()
    assert alike(made, result()) > 0.95


@pytest.mark.parametrize("size", [3, 1000])
def test_spike_leaves_no_trace(size: int) -> None:
    stack = small().stacks[2]
    data, middle = stack.data.copy(), stack.n_slices // 2
    row, column = np.argwhere(stack.mask[:, :, middle])[40]
    data[row, column, middle] = size * data.max()
    made = brief([*small().stacks[:2], replace(stack, data=data)])
    assert_sound(made)
    elsewhere = (made.slices.stack != 2) | (made.slices.index != middle)
    assert (made.weight[elsewhere] > 0.5).all()
    assert alike(made, result()) > 0.95
    assert values(made).max() < 1.5 * values(result()).max()


@pytest.mark.parametrize("noise", [0.05, 0.12])
def test_noisy_stack_is_still_used(noise: float) -> None:
    stack, rng = small().stacks[2], np.random.default_rng(0)
    level = noise * np.percentile(stack.data[stack.mask], 99)
    real, imaginary = level * rng.standard_normal((2, *stack.data.shape))
    made = brief([*small().stacks[:2], replace(stack, data=np.hypot(stack.data + real, imaginary).astype(np.float32))])
    assert_sound(made)
    assert (made.weight[made.slices.stack == 2] > 0.1).mean() > 0.8


def test_slices_without_signal_are_left_out_and_get_a_pose_all_the_same() -> None:
    stacks = list(small().stacks)
    data = stacks[0].data.copy()
    middle = int(np.argmax(stacks[0].mask.sum(axis=(0, 1))))
    data[:, :, middle] = 0
    stacks[0] = replace(stacks[0], data=data)
    made = brief(stacks)
    assert_sound(made)
    dark = (made.slices.stack == 0) & (made.slices.index == middle)
    assert made.weight[dark] == 0
    shift = made.slices.world_transforms()[dark][0] - result().slices.world_transforms()[dark][0]
    centre = made.slices.nominal[dark][0][:3, 3]
    assert np.linalg.norm(shift[:3, :3] @ centre + shift[:3, 3]) < 2.0


# --- refusals


def test_stack_without_signal_is_refused() -> None:
    dark = replace(small().stacks[1], data=np.zeros_like(small().stacks[1].data), name="dark.nii.gz")
    with pytest.raises(InputError, match=r"dark\.nii\.gz: more than half of its mask has no signal; check the mask"):
        reconstruct([small().stacks[0], dark], Config())
    with pytest.raises(InputError, match=r"dark\.nii\.gz"):
        register([dark], Config())


def test_masks_with_a_few_pixels_in_every_slice_are_refused() -> None:
    stacks = []
    for stack in small().stacks:
        mask = np.zeros_like(stack.mask)
        middle = np.array(stack.data.shape) // 2
        mask[middle[0] : middle[0] + 3, middle[1] : middle[1] + 3, :] = stack.data.min() >= 0
        stacks.append(replace(stack, mask=mask & (stack.data > 0)))
    with pytest.raises(InputError, match="check the masks"):
        reconstruct(stacks, Config())


def test_scaling_puts_the_brightest_tissue_at_one_and_gives_the_way_back() -> None:
    stacks = [replace(stack, data=stack.data * np.float32(5 * 3**k)) for k, stack in enumerate(small().stacks)]
    scaled, intensities = scale_intensities(stacks)
    inside = np.concatenate([stack.data[stack.mask] for stack in scaled])
    assert np.percentile(inside, 99) == pytest.approx(1.0, rel=1e-4)
    tissue = [stack.data[stack.mask] for stack in scaled]
    medians = [float(np.median(values[values > 0.2 * np.percentile(values, 99)])) for values in tissue]
    np.testing.assert_allclose(medians, medians[0], rtol=1e-4)
    # The stack of median brightness is scaled by this factor alone.
    np.testing.assert_allclose(scaled[1].data * intensities.scale, stacks[1].data, rtol=1e-4)


def test_air_inside_a_loose_mask_does_not_change_the_scale() -> None:
    tight = small().stacks
    grown = binary_dilation(tight[1].mask, iterations=2)
    # Enough air to halve the median of what is inside.
    assert np.median(tight[1].data[grown]) < 0.6 * np.median(tight[1].data[tight[1].mask])
    loose, _ = scale_intensities([tight[0], replace(tight[1], mask=grown), tight[2]])
    scaled, _ = scale_intensities(tight)
    for with_air, without in zip(loose, scaled, strict=True):
        assert with_air.data.sum() == pytest.approx(without.data.sum(), rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [{"resolution": 0.0}, {"resolution": -1.0}, {"resolution": 50.0}, {"resolution": math.nan}, {"interleave": -1},
     {"seed": -1}, {"threads": -2}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .*: give "):
        Config(**wrong)  # type: ignore[arg-type]


def test_more_packages_than_slices_are_refused_by_the_name_of_the_stack() -> None:
    few = replace(small().stacks[1], name="few.nii.gz")
    problem = rf"few\.nii\.gz: interleave {few.n_slices + 1}, but only {few.n_slices} slices; give "
    for compute in (reconstruct, register):
        with pytest.raises(InputError, match=problem):
            compute([few], Config(interleave=few.n_slices + 1))


# --- from files to files


def test_command_takes_files_and_leaves_volume_slices_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slicesplat.pipeline, "FitSettings", lambda: FitSettings(**BRIEF))
    folder, out = tmp_path / "scan", tmp_path / "out"
    out.mkdir()
    save(small(), folder, *brain_phantom(32.0, 1.4))
    numbers = range(1, 4)
    args = ["reconstruct", "--input-stacks", *(str(folder / f"stack-{i}.nii.gz") for i in numbers)]
    args += ["--stack-masks", *(str(folder / f"mask-{i}.nii.gz") for i in numbers), "--thicknesses", "4"]
    args += ["--output-volume", str(out / "volume.nii.gz"), "--output-resolution", "1.4", "--threads", "1", "--quiet"]
    args += ["--output-json", str(out / "result.json"), "--output-slices", str(out / "slices")]
    args += ["--simulated-slices", str(out / "simulated"), "--output-model", str(out / "model.safetensors")]
    assert main(args) == 0
    assert capsys.readouterr() == ("", "")
    assert {path.name for path in out.iterdir()} == {
        *("volume.nii.gz", "result.json", "model.safetensors", "slices", "simulated")
    }
    volume, made = nib.Nifti1Image.from_filename(out / "volume.nii.gz"), result()
    # Affines are stored in float32.
    np.testing.assert_allclose(volume.affine[:3, :3], made.volume.affine[:3, :3], atol=1e-6)
    assert alike(replace(made, volume=volume), made) > 0.97
    assert np.median(volume.get_fdata()[volume.get_fdata() > 0]) == pytest.approx(
        np.median(values(made)[values(made) > 0]), rel=0.01
    )
    found = json.loads((out / "result.json").read_text())
    assert found["device"] == available_backends()[0]
    records = found["slices"]
    slices = load_slices(out / "slices")
    assert len(slices) == len(records) == len(made.slices)
    for stack, record in zip(slices, records, strict=True):
        given = small().stacks[record["stack"]]
        corrected = np.array(record["world_transform"]) @ given.pose(record["slice"])
        np.testing.assert_allclose(stack.pose(0), corrected, atol=1e-3)
    simulated = load_slices(out / "simulated")
    for measured, predicted in zip(slices, simulated, strict=True):
        assert predicted.affine.tobytes() == measured.affine.tobytes()
        assert predicted.mask.tobytes() == measured.mask.tobytes()
    residual = np.concatenate([(m.data - p.data)[m.mask] for m, p in zip(slices, simulated, strict=True)])
    measured = np.concatenate([stack.data[stack.mask] for stack in slices])
    assert residual.std() < 0.35 * measured.std()
    model = GaussianField.load(out / "model.safetensors")
    sampled = np.maximum(sample_on_grid(model, volume.affine, volume.shape), 0)
    inside = volume.get_fdata() > 0
    np.testing.assert_allclose(sampled[inside], volume.get_fdata()[inside], rtol=1e-3, atol=0.1)
