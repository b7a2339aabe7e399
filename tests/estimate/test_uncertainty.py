"""The standard error is the posterior's, larger where less was seen, and about as large as the errors are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from slicesplat.cli import main
from slicesplat.config import Config, UncertaintySettings
from slicesplat.estimate.spectrum import Spectrum, interior, measure_spectrum
from slicesplat.estimate.uncertainty import Box, ErrorModel, standard_error
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.robust import Weights
from slicesplat.pipeline import reconstruct
from slicesplat.result import Reconstruction
from slicesplat.solvers.amplitudes import placed_lattice
from slicesplat.splat.grid import grid_slices
from slicesplat.validation.evaluate import aligned
from slicesplat.validation.files import save
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

VOXEL = 1.2


@cache
def tissue() -> tuple[NDArray, NDArray, NDArray]:
    """Two tissues in patches of a few mm, and a ball of 36 mm of them, as an organ in a body: volume, affine, mask."""
    size = 50
    patches = gaussian_filter(np.random.default_rng(0).standard_normal((size,) * 3), 2.5 / VOXEL) > 0
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = -(size - 1) / 2 * VOXEL
    radius = np.linalg.norm(np.indices((size,) * 3) - (size - 1) / 2, axis=0) * VOXEL
    volume = gaussian_filter(np.where(patches, 900.0, 500.0), 0.5 / VOXEL) * (radius < 28)
    return volume.astype(np.float32), affine, radius < 18


@cache
def scan() -> Simulation:
    """Three still stacks of it."""
    config = SimulationConfig(motion="none", pixel=1.2, spacing=3.0, thickness=3.0, dropout=0.0, noise=0.03, seed=1)
    return simulate(*tissue(), config)


@cache
def result() -> Reconstruction:
    return reconstruct(scan().stacks, Config(resolution=VOXEL, threads=1, uncertainty=True))


ROUGH = UncertaintySettings(draws=1, tolerance=0.01)  # where medians over a thousand voxels are compared


def error_of(sigma: float = 0.03, keep: NDArray[np.bool_] | None = None, threads: int = 1, seed: int = 0) -> NDArray:
    """The map for the poses and field of `result`, other noise, or other pixels in use."""
    slices = result().slices
    return error_map(slices, slices.mask if keep is None else slices.mask & keep, sigma, threads, seed)


def error_map(slices: Slices, used: NDArray[np.bool_], sigma: float, threads: int = 1, seed: int = 0) -> NDArray:
    """The map for the field of `result`, from these slices and pixels."""
    made = result()
    scale = float(np.percentile(np.asarray(made.volume.dataobj)[mask()], 99))
    field, ones = replace(made.field, amplitudes=made.field.amplitudes / scale), np.ones(len(slices))
    weights = Weights(torch.from_numpy(used.astype(np.float32)), ones, ones, sigma)
    numba.set_num_threads(threads)
    random = np.random.default_rng(seed)
    return standard_error(field, slices, weights, mask(), made.mask.affine, random, settings=ROUGH)


def mask() -> NDArray[np.bool_]:
    return np.asarray(result().mask.dataobj) > 0


def test_draws_have_the_covariance_of_the_posterior() -> None:
    slices = grid_slices(np.diag([1.5, 1.5, 2.0, 1.0]), (4, 4, 2), variance=0.5)
    lattice, forward_model = placed_lattice(slices, 1.5)
    cell = lattice.cell.numpy()
    low = cell.min(axis=0)
    x, y, z = (cell - low).T
    box = Box(1.5, low * 1.5, (7, 6, 6))
    random = np.random.default_rng(0)
    strength = random.uniform(0.2, 0.6, box.shape).astype(np.float32)
    root_weight = random.uniform(5, 15, forward_model.pixels).astype(np.float32)
    gain = np.array([0.9, 1.2])
    model = ErrorModel(forward_model, (x, y, z), box, strength, Spectrum(1.0, 0.4, 0.3), root_weight, gain)

    cells = int(np.prod(box.shape))
    units = np.eye(cells, dtype=np.float32).reshape(cells, *box.shape)
    scanned = np.stack([model.scan(unit) for unit in units], axis=1).astype(np.float64)
    anatomy = np.stack([model.anatomy(unit).ravel() for unit in units], axis=1).astype(np.float64)
    expected = anatomy @ np.linalg.inv(np.eye(cells) + scanned.T @ scanned) @ anatomy.T
    # The data must matter for this to say anything.
    assert np.trace(expected) < 0.8 * np.trace(anatomy @ anatomy.T)

    model.probe(random)
    draws = np.stack([model.draw(random, UncertaintySettings(iterations=40)).ravel() for _ in range(600)])
    variance = (draws**2).mean(axis=0)
    # The variance of 600 draws has a relative standard error of sqrt(2 / 600) = 0.058.
    ratio = variance / np.diag(expected)
    assert ratio.mean() == pytest.approx(1.0, abs=0.03)
    assert np.abs(ratio - 1).max() < 5 * 0.058
    # Neighbours too, not the diagonal alone.
    i, j = np.arange(cells - 1), np.arange(1, cells)
    deviation = np.sqrt(np.diag(expected)[i] * np.diag(expected)[j])
    assert ((draws[:, i] * draws[:, j]).mean(axis=0) / deviation) == pytest.approx(
        expected[i, j] / deviation, abs=5 / np.sqrt(300)
    )


def test_unseen_places_have_a_larger_error_than_well_seen_ones() -> None:
    slices = result().slices
    poses = [slices.pose[s] for s in range(len(slices))]
    # Nothing measured at x > 4 mm.
    points = np.concatenate([pose.map(slices.plane_points(s, inside=False)) for s, pose in enumerate(poses)])
    error = error_of(keep=points[:, 0] < 4)
    x = np.indices(mask().shape)[0] * VOXEL + result().mask.affine[0, 3]
    seen, unseen = error[mask() & (x < 0)], error[mask() & (x > 10)]
    assert len(seen) > 100 and len(unseen) > 100
    assert np.median(unseen) > 1.5 * np.median(seen)
    # The spread of the anatomy, and no more than that.
    volume = np.asarray(result().volume.dataobj)[mask()]
    assert np.median(unseen) < 1.1 * volume.std() / np.percentile(volume, 99)


def test_one_orientation_leaves_more_open_than_three() -> None:
    slices = result().slices
    one = (slices.stack == 0)[slices.slice_of_pixel()]
    assert np.median(error_of(keep=one)[mask()]) > 1.2 * np.median(error_of()[mask()])


def test_more_noise_gives_a_larger_error() -> None:
    errors = [np.median(error_of(sigma)[mask()]) for sigma in (0.01, 0.03, 0.09)]
    assert errors[0] < errors[1] < errors[2]


def test_same_seed_gives_the_same_bytes_for_any_number_of_threads() -> None:
    first = error_of(threads=1)
    assert error_of(threads=min(2, numba.config.NUMBA_NUM_THREADS)).tobytes() == first.tobytes()
    assert error_of(seed=1).tobytes() != first.tobytes()


def test_errors_are_as_large_as_they_are_said_to_be() -> None:
    volume, affine, inside = tissue()
    made = result()
    assert made.uncertainty is not None
    found = aligned(made.volume, nib.Nifti1Image(volume, affine), nib.Nifti1Image(inside.astype(np.uint8), affine))
    said = found.gain * found.resampled(made.uncertainty)
    use = found.mask & (said > 0)
    assert use.sum() > 0.98 * found.mask.sum()
    ratio = (found.values - found.truth)[use] / said[use]
    assert 0.7 < ratio.std() < 1.4


def test_map_is_on_the_grid_of_the_volume_and_zero_outside_the_mask() -> None:
    made = result()
    assert made.uncertainty is not None
    error = np.asarray(made.uncertainty.dataobj)
    assert error.shape == made.volume.shape
    assert np.array_equal(made.uncertainty.affine, made.volume.affine)
    assert np.isfinite(error).all()
    assert np.array_equal(error > 0, mask())
    assert [step.step for step in made.steps][-1] == "uncertainty"


def test_slices_too_small_for_a_spectrum_still_get_a_map() -> None:
    """Masks of a few pixels about the middle of every slice: nothing but the field's own spread says what is usual."""
    slices = result().slices
    points = np.concatenate([slices.plane_points(s, inside=False) for s in range(len(slices))])
    small = replace(slices, mask=slices.mask & (np.linalg.norm(points, axis=1) < 4.5))
    ones = np.ones(len(slices))
    weights = Weights(torch.from_numpy(small.mask.astype(np.float32)), ones, ones, 0.03)
    assert measure_spectrum(small, weights, interior(small, weights)) is None
    error = error_map(small, small.mask, 0.03)
    assert np.isfinite(error).all()
    assert np.array_equal(error > 0, mask())
    # The three stacks see what is about the middle, and no stack what is far from it along all axes.
    place = np.moveaxis(np.indices(mask().shape), 0, -1) * VOXEL + result().mask.affine[:3, 3]
    seen, unseen = np.linalg.norm(place, axis=-1) < 4, (np.abs(place) > 7).all(axis=-1) & mask()
    assert seen.sum() > 100 and unseen.sum() > 100
    assert np.median(error[unseen]) > 1.2 * np.median(error[seen])
    volume = np.asarray(result().volume.dataobj)[mask()]
    assert 0.5 < np.median(error[unseen]) / (volume.std() / np.percentile(volume, 99)) < 1.5


def test_command_writes_the_map(tmp_path: Path) -> None:
    truth = brain_phantom(28.0, 2.0)
    config = SimulationConfig(motion="none", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, seed=1)
    save(simulate(*truth, config), tmp_path / "scan", *truth)
    stacks = sorted(str(path) for path in (tmp_path / "scan").glob("stack-*.nii.gz"))
    masks = sorted(str(path) for path in (tmp_path / "scan").glob("mask-*.nii.gz"))
    args = ["reconstruct", "--input-stacks", *stacks, "--stack-masks", *masks, "--thicknesses", "4"]
    outputs = ["--output-volume", str(tmp_path / "v.nii.gz"), "--output-uncertainty", str(tmp_path / "u.nii.gz")]
    assert main([*args, *outputs, "--output-resolution", "2", "--quiet"]) == 0
    volume, error = nib.load(tmp_path / "v.nii.gz"), nib.load(tmp_path / "u.nii.gz")
    assert error.shape == volume.shape
    assert np.array_equal(error.affine, volume.affine)
    assert 0 < np.median(error.get_fdata()[error.get_fdata() > 0]) < volume.get_fdata().max()


@pytest.mark.parametrize("name", ["map.txt", "volume.nii.gz"])
def test_map_is_refused_where_it_cannot_go(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["reconstruct", "--input-stacks", "never-read.nii.gz", "--output-volume", str(tmp_path / "volume.nii.gz")]
    assert main([*args, "--output-uncertainty", str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err
