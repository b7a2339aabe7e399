"""A model shows the same anatomy on every grid, and the very bytes of the reconstruction on its own."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from models import RADIUS, made_up, one_gaussian
from scipy import ndimage
from scipy.spatial.transform import Rotation

from slicesplat import sampling
from slicesplat.config import Config, FitSettings
from slicesplat.errors import InputError
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.region import within_reach
from slicesplat.result import Reconstruction
from slicesplat.sampling import Grid, axes_of, check_memory, resampled_mask, sample_slices, sample_volume
from slicesplat.splat import grid
from slicesplat.splat.grid import sample, sample_on_grid
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

BRIEF = FitSettings(spacings=(1.05,), strengths=(), pose_rounds=3, final_rounds=1, rounds=2, iterations=8)
TURN = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()


@cache
def scan() -> list[Stack]:
    config = SimulationConfig(motion="mild", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.02, seed=1)
    return simulate(*brain_phantom(32.0, 1.4), config).stacks


@cache
def made(resolution: float = 1.4) -> Reconstruction:
    return reconstruct(scan(), Config(resolution, threads=1, fit=BRIEF))


def test_same_grid_gives_the_bytes_of_the_reconstruction_and_a_finer_one_those_of_a_finer_reconstruction() -> None:
    model = made().model
    for size in (1.4, 0.9):
        expected = made(size)
        volume, mask = sample_volume(model, Grid.around(model, size))
        assert np.array_equal(volume.affine, expected.volume.affine)
        assert np.asarray(volume.dataobj).tobytes() == np.asarray(expected.volume.dataobj).tobytes()
        assert np.asarray(mask.dataobj).tobytes() == np.asarray(expected.mask.dataobj).tobytes()


def test_offset_of_the_input_is_that_of_what_is_sampled() -> None:
    lower = [replace(stack, data=stack.data - np.float32(700.0)) for stack in scan()]
    moved = reconstruct(lower, Config(1.4, threads=1, fit=BRIEF))
    assert made().model.offset == 0 and moved.model.offset < -500
    volume, _ = sample_volume(moved.model, Grid.around(moved.model))
    assert np.asarray(volume.dataobj).tobytes() == np.asarray(moved.volume.dataobj).tobytes()


@pytest.mark.parametrize("at_once", [1, 500, 10**9])
def test_planes_by_planes_are_the_bytes_of_all_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, affine = made_up(), np.eye(4)
    affine[:3, :3], affine[:3, 3] = 0.9 * TURN, [-14, -20, -12]
    shape = (30, 34, 37)
    whole = sample(model.field, affine, shape).numpy()
    monkeypatch.setattr(grid, "_AT_ONCE", at_once)
    assert sample_on_grid(model.field, affine, shape).tobytes() == np.ascontiguousarray(whole).tobytes()
    assert np.ptp(whole) > 0.3


@pytest.mark.parametrize("mirrored", [False, True])
def test_oblique_grid_holds_the_region_and_shows_the_field_at_its_voxels(mirrored: bool) -> None:
    model, axes = made_up(offset=3.0), TURN * [1, -1 if mirrored else 1, 1]
    laid = Grid.around(model, 1.2, axes)
    np.testing.assert_allclose(axes_of(laid.affine), axes, atol=1e-12)
    volume, mask = sample_volume(model, laid)
    values, inside = np.asarray(volume.dataobj), np.asarray(mask.dataobj) > 0
    # The ball with its rim, as a lattice of 3 mm shows it, none of it cut off.
    assert inside.sum() * 1.2**3 == pytest.approx(4 / 3 * np.pi * (RADIUS + 1.5) ** 3, rel=0.15)
    assert not inside[[0, -1]].any() and not inside[:, [0, -1]].any() and not inside[:, :, [0, -1]].any()
    index = np.argwhere(inside)[::97]
    points = index @ laid.affine[:3, :3].T + laid.affine[:3, 3]
    expected = 800 * model.field.to(torch.float64).evaluate(torch.from_numpy(points)).numpy() + 3
    np.testing.assert_allclose(values[tuple(index.T)], np.maximum(expected, 3), rtol=2e-3, atol=0.5)
    assert (values[~inside] == 3).all()


def test_background_is_shown_outside_the_region_and_nowhere_where_a_mask_is_given() -> None:
    plain = made_up()
    model = replace(plain, background=one_gaussian().moved(Rigid.exp([RADIUS + 4, 0, 0, 0, 0, 0])), margin=6.0)
    laid = Grid.around(model, 1.0)
    assert np.array_equal(np.subtract(laid.shape, Grid.around(plain, 1.0).shape), [12, 12, 12])
    both, mask = sample_volume(model, laid)
    alone, _ = sample_volume(plain, laid)
    inside = np.asarray(mask.dataobj) > 0
    difference = np.asarray(both.dataobj) - np.asarray(alone.dataobj)
    assert not difference[inside].any() and difference[~inside].max() > 500
    shown, _ = sample_volume(model, laid, inside)
    assert np.asarray(shown.dataobj).tobytes() == np.asarray(alone.dataobj).tobytes()


def test_grid_around_a_mask_holds_it() -> None:
    inside = np.zeros((20, 24, 12), bool)
    inside[4:15, 3:20, 2:9] = True
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = TURN * [1.0, 1.0, 3.0], [5, -7, 9]
    for axes in (TURN, np.eye(3), TURN * [-1, 1, 1]):
        laid = Grid.around_mask(inside, affine, 0.8, axes)
        there = resampled_mask(inside, affine, laid)
        assert there.sum() * 0.8**3 == pytest.approx(inside.sum() * 3.0, rel=0.03)
    tight = Grid.around_mask(inside, affine, 1.0, TURN)
    assert all(0 <= n - most <= 2 for n, most in zip(tight.shape, (11, 17, 21), strict=True))


def test_slices_show_what_the_reconstruction_predicts_without_gains() -> None:
    result = made()
    records = result.slice_records()
    simulated = result.simulated()
    lone = []
    for record in records:
        stack = result.stacks[record.stack]
        affine = stack.affine.copy()
        affine[:3, 3] += record.slice * affine[:3, 2]
        one = [record.slice]
        affine = record.world_transform @ affine
        lone.append(Stack(stack.data[:, :, one], stack.mask[:, :, one], affine, stack.thickness, f"{len(lone)}.nii.gz"))
    shown = sample_slices(result.model, lone)
    for record, there in zip(records, shown, strict=True):
        factor = result.intensities.factor[record.stack]
        expected = simulated[record.stack].data[:, :, record.slice] * factor / record.gain
        np.testing.assert_allclose(there.data[:, :, 0], expected, rtol=1e-3, atol=0.02 * expected.max() * 0.05 + 1e-3)


def test_slices_without_a_mask_are_refused() -> None:
    data = np.zeros((8, 8, 1), np.float32)
    with pytest.raises(InputError, match=r"0\.nii\.gz"):
        sample_slices(made_up(), [Stack(data, data > 0, np.eye(4), 3.0, "0.nii.gz")])


def test_grid_beyond_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "available_memory", lambda: 1e6)
    check_memory(Grid(np.eye(4), (10, 10, 10)), "model.safetensors")
    with pytest.raises(
        InputError, match=r"^model\.safetensors: 100 x 100 x 100 voxels would take .*; choose a coarser"
    ):
        check_memory(Grid(np.eye(4), (100, 100, 100)), "model.safetensors")


def test_what_is_within_reach_is_what_the_distance_transform_says() -> None:
    rng = np.random.default_rng(0)
    for trial in range(40):
        inside = rng.random(rng.integers(1, 14, 3)) < rng.choice([0.02, 0.3])
        inside.flat[0] = True
        spacing = rng.uniform(0.2, 2, 3) if trial % 2 else np.full(3, rng.choice([0.5, 0.75, 1.5]))
        expected = ndimage.distance_transform_edt(~inside, sampling=spacing) <= 1.5
        assert np.array_equal(within_reach(inside, spacing, 1.5), expected)
