"""The fit: linear where it can be, robust where it must be, better than the lattice that it starts from."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, maximum_filter, minimum_filter
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from slicesplat.estimate.joint import Fit, FitSettings, _Examination, _Lattice, _limited, joint_fit
from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import LATTICE_SUM, NOTHING, lattice, prune
from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.likelihood.noise import noise_level
from slicesplat.likelihood.robust import Weights, initial_weights, reweight
from slicesplat.likelihood.validation import hold_out
from slicesplat.motion.register import gauge
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.prepare.region import RIM_MM, grid_over, region_field, region_mask
from slicesplat.priors.curvature import EDGE, Curvature
from slicesplat.solvers.amplitudes import AmplitudeSolver, lattice_like, solve_amplitudes
from slicesplat.solvers.precondition import Preconditioner
from slicesplat.splat import CPU, CpuForwardModel, set_geometry
from slicesplat.splat.grid import SAMPLING_CUTOFF, sample_on_grid
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

SIZE_MM, SPACING = 40.0, 1.25


@cache
def phantom() -> tuple[NDArray, NDArray, NDArray]:
    return brain_phantom(SIZE_MM, SPACING)


@cache
def still_slices() -> Slices:
    """Three still stacks of a small brain, brightest tissue at 1."""
    config = SimulationConfig(motion="none", pixel=1.6, spacing=2.6, thickness=2.5, noise=0.02, dropout=0.0, seed=2)
    return cut_slices(scale_intensities(simulate(*phantom(), config).stacks)[0])


def ball(radius: float = 9.0, profile: SliceProfile = "gaussian") -> Slices:
    """Two small stacks of a ball, without intensities."""
    size, spacing, stacks = (16, 15, 6), np.array([1.3, 1.4, 3.0]), []
    for turn in ([0.3, -0.2, 0.5], [1.3, 0.6, -0.4]):
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_rotvec(turn).as_matrix() * spacing
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2)
        index = np.indices(size).reshape(3, -1).T
        mask = (np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3], axis=1) < radius).reshape(size)
        stacks.append(Stack(np.zeros(size, np.float32), mask, affine, 3.0))
    return cut_slices(stacks, profile)


def some_field(n: int = 12, seed: int = 0) -> GaussianField:
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 4, (n, 3)), rng.uniform(0.2, 1.1, (n, 3)), rng.normal(size=(n, 4)), rng.normal(size=n))
    return GaussianField(*(torch.tensor(value, dtype=torch.float32) for value in values))


def placed(field: GaussianField, slices: Slices) -> CpuForwardModel:
    forward_model = CpuForwardModel(slices)
    set_geometry(forward_model, field, slices.pose)
    return forward_model


def in_world(slices: Slices) -> NDArray:
    points = [slices.plane_points(s) @ slices.pose[s, :3, :3].T + slices.pose[s, :3, 3] for s in range(len(slices))]
    return np.concatenate(points)


# --- the lattice and its amplitudes


@pytest.mark.parametrize("spacing", [2.0, 5.0])
def test_lattice_covers_what_the_slices_saw_and_little_else(spacing: float) -> None:
    slices = ball()
    slices.pose[2:4, :3, 3] += [20.0, 0.0, 0.0]  # slices count where they are, not where they were scanned
    nodes, seen = lattice(slices, spacing).means.numpy(), in_world(slices)
    diagonal = np.sqrt(3) / 2 * spacing
    assert cKDTree(nodes).query(seen)[0].max() <= diagonal + 1e-4
    # Half a slice's thickness, and in fine lattices gaps of a cell are filled.
    assert cKDTree(seen).query(nodes)[0].max() <= diagonal + 1.5 + (spacing if spacing < 2.8 else 0) + 1e-4
    np.testing.assert_allclose(nodes / spacing, np.rint(nodes / spacing), atol=1e-5)
    assert len(np.unique(np.rint(nodes / spacing), axis=0)) == len(nodes)


@pytest.mark.parametrize("spacing", [1.1, 5.0])
def test_lattice_is_the_cells_that_pixels_fall_into_across_the_thickness_and_the_gaps_closed(spacing: float) -> None:
    slices = ball()
    normals = slices.pose[slices.slice_of_pixel()[slices.mask], :3, 2]
    layers = [
        in_world(slices) + shift * 1.5 * normals for shift in np.linspace(-1, 1, max(3, math.ceil(3 / spacing) + 1))
    ]
    cells = np.rint(np.concatenate(layers) / spacing).astype(int)
    low = cells.min(axis=0) - 1
    box = np.zeros(cells.max(axis=0) - low + 2, bool)
    box[tuple((cells - low).T)] = True
    if spacing < 2.8:
        box = minimum_filter(maximum_filter(box, 3, mode="constant", cval=0), 3, mode="constant", cval=1)
    np.testing.assert_array_equal(np.rint(lattice(slices, spacing).means.numpy() / spacing), np.argwhere(box) + low)


@pytest.mark.parametrize("profile", ["gaussian", "box", "sinc"])
def test_lattice_reaches_through_the_thickness_of_the_slices(profile: SliceProfile) -> None:
    slices, spacing = ball(profile=profile), 0.3
    nodes, seen = cKDTree(lattice(slices, spacing).means.numpy()), in_world(slices)
    normals = slices.pose[slices.slice_of_pixel()[slices.mask], :3, 2]
    for side in (-1, 1):
        # Cells are rounded to, and layers are up to a cell apart.
        assert nodes.query(seen + side * 0.46 * 3.0 * normals)[0].max() <= (np.sqrt(3) / 2 + 0.5) * spacing


def test_neighbours_on_the_lattice_sum_to_a_constant() -> None:
    field = lattice(ball(), 2.0)
    field.amplitudes = torch.ones(len(field))
    inner = torch.tensor(np.random.default_rng(0).uniform(-1.5, 1.5, (300, 3)), dtype=torch.float32)
    values = field.evaluate(inner).numpy()
    assert np.ptp(values) / values.mean() < 0.02  # 1 % to either side


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_amplitudes_are_the_least_squares_solution(ridge: float) -> None:
    slices, field = ball(), some_field()
    forward_model, rng = placed(field, slices), np.random.default_rng(1)
    gain, weights = rng.uniform(0.5, 1.5, len(slices)), rng.random(forward_model.pixels).astype(np.float32)
    pixels = rng.normal(size=forward_model.pixels).astype(np.float32)
    columns = np.stack([forward_model.apply(one, gain) for one in np.eye(len(field))], axis=1).astype(np.float64)
    assert np.linalg.matrix_rank(columns) == len(field)
    root = np.sqrt(weights.astype(np.float64))
    matrix = np.concatenate([root[:, None] * columns, np.sqrt(ridge) * np.eye(len(field))])
    wanted = np.linalg.lstsq(matrix, np.concatenate([root * pixels, np.zeros(len(field))]), rcond=None)[0]
    start = rng.normal(size=len(field)).astype(np.float32)
    given = (torch.from_numpy(pixels), torch.from_numpy(weights), gain, torch.from_numpy(start))
    found = solve_amplitudes(forward_model, *given, 100, ridge)
    # Products in float32, with a condition number of about a hundred.
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def test_more_iterations_fit_better() -> None:
    slices, field = ball(), some_field(30)
    forward_model = placed(field, slices)
    gain, ones = np.ones(len(slices)), torch.ones(forward_model.pixels)
    pixels = torch.from_numpy(np.random.default_rng(1).normal(size=forward_model.pixels).astype(np.float32))
    start = torch.zeros(len(field))
    left = []
    for iterations in (0, 1, 2, 5, 20):
        amplitudes = solve_amplitudes(forward_model, pixels, ones, gain, start, iterations)
        left.append(float(((forward_model.apply(amplitudes, gain) - pixels).double() ** 2).sum()))
    assert left == sorted(left, reverse=True)
    assert left[0] == pytest.approx(float((pixels.double() ** 2).sum()))


def test_nothing_to_fit_leaves_the_start() -> None:
    slices, field = ball(), some_field()
    forward_model = placed(field, slices)
    zero, start = torch.zeros(forward_model.pixels), field.amplitudes
    assert solve_amplitudes(forward_model, zero, zero, np.ones(len(slices)), start, 5).equal(start)


def test_solver_gives_back_its_memory_at_once() -> None:
    slices, field = ball(), some_field()
    forward_model = placed(field, slices)
    solver, ones = AmplitudeSolver(forward_model, len(field)), torch.ones(forward_model.pixels)
    solver.solve(ones, ones, np.ones(len(slices)), field.amplitudes, 1)
    gone, collecting = weakref.ref(forward_model), gc.isenabled()
    gc.disable()
    try:
        del solver, forward_model
        assert gone() is None
    finally:
        if collecting:
            gc.enable()


# --- weights


SIGMA = 0.03
BAD_SLICE, DIM_SLICE = 3, 5


@cache
def judged() -> tuple[Slices, Weights, NDArray]:
    """A known image, noise, one slice that shows something else, one that is dim, and wild pixels."""
    slices = still_slices()
    rng = np.random.default_rng(0)
    image = np.clip(slices.pixels, 0.2, 1.2).astype(np.float32)
    pixels = image + rng.normal(0, SIGMA, len(image)).astype(np.float32)
    slices.image(pixels, DIM_SLICE)[:] = 0.7 * slices.image(image, DIM_SLICE)
    slices.image(pixels, DIM_SLICE)[:] += rng.normal(0, SIGMA, slices.shape[DIM_SLICE])
    slices.image(pixels, BAD_SLICE)[:] = rng.uniform(0, 1.2, slices.shape[BAD_SLICE])
    wild = (rng.random(len(pixels)) < 0.02) & (slices.slice_of_pixel() != BAD_SLICE)
    pixels = np.where(wild, pixels + 0.6, pixels).astype(np.float32)
    inside = torch.from_numpy(slices.mask)
    weights = initial_weights(slices, inside)
    for _ in range(4):
        weights = reweight(slices, torch.from_numpy(pixels), torch.from_numpy(image), inside, weights)
    return slices, weights, wild


def test_slice_that_shows_something_else_loses_its_weight_and_no_other_does() -> None:
    slices, weights, _ = judged()
    assert weights.slice[BAD_SLICE] < 0.02
    large = np.add.reduceat(slices.mask.astype(int), slices.offset[:-1]) > 60
    assert weights.slice[large & (np.arange(len(slices)) != BAD_SLICE)].min() > 0.3
    assert np.median(weights.slice) == 1.0


def test_gain_of_a_slice_is_found_relative_to_the_others() -> None:
    _, weights, _ = judged()
    others = np.delete(weights.gain, [BAD_SLICE, DIM_SLICE])
    # Held to 1 by a tenth of the slice's energy: it comes ten elevenths of the way, less what wild pixels add.
    expected = 1 - 0.3 / 1.1
    assert weights.gain[DIM_SLICE] / np.median(others) == pytest.approx(expected, abs=0.02)
    assert np.abs(others / np.median(others) - 1).max() < 0.05


def test_noise_level_is_found_in_spite_of_outliers() -> None:
    _, weights, _ = judged()
    assert weights.sigma == pytest.approx(SIGMA, rel=0.1)


def test_wild_pixels_lose_their_weight_and_others_keep_it() -> None:
    slices, weights, wild = judged()
    fair = np.isin(slices.slice_of_pixel(), [BAD_SLICE, DIM_SLICE], invert=True) & slices.mask
    assert weights.pixel[fair & wild].max() < 0.15
    assert weights.pixel[fair & ~wild].mean() > 0.99
    assert (weights.pixel[~slices.mask] == 0).all()


def test_total_weight_is_pixel_times_slice() -> None:
    slices, weights, _ = judged()
    owner = slices.slice_of_pixel()
    np.testing.assert_allclose(weights.total(slices), weights.pixel.numpy() * weights.slice[owner], rtol=1e-6)


def test_slice_without_pixels_has_no_weight_and_gain_one() -> None:
    slices = still_slices()
    inside = torch.from_numpy(slices.mask & (slices.slice_of_pixel() != 4))
    weights = initial_weights(slices, inside)
    assert weights.slice[4] == 0
    noise = np.random.default_rng(0).normal(0, SIGMA, len(slices.pixels)).astype(np.float32)
    pixels = torch.from_numpy(slices.pixels)
    weights = reweight(slices, pixels + torch.from_numpy(noise), pixels, inside, weights)
    assert weights.slice[4] == 0
    assert weights.gain[4] == pytest.approx(1.0, abs=1e-3)
    assert np.isfinite(weights.sigma) and weights.sigma > 0


def test_exact_fit_is_trusted() -> None:
    slices = still_slices()
    pixels, inside = torch.from_numpy(slices.pixels), torch.from_numpy(slices.mask)
    weights = reweight(slices, pixels, pixels, inside, initial_weights(slices, inside))
    np.testing.assert_array_equal(weights.slice, 1)
    np.testing.assert_allclose(weights.gain, 1, rtol=1e-6)


# --- the joint fit


def psnr(field: GaussianField) -> float:
    """Against the still truth, inside its mask, after one gain and offset."""
    volume, affine, mask = phantom()
    values, truth = sample_on_grid(field, affine, mask.shape)[mask], volume[mask].astype(np.float64)
    gain, offset = np.polyfit(values, truth, 1)
    return float(20 * np.log10(np.percentile(truth, 99.9) / np.sqrt(((gain * values + offset - truth) ** 2).mean())))


@cache
def fitted() -> tuple[Fit, list[tuple[int, int, float | None]]]:
    told: list[tuple[int, int, float | None]] = []
    slices = still_slices()
    threads, random = numba.get_num_threads(), np.random.default_rng(0)
    numba.set_num_threads(1)  # for so few pixels, handing work over costs more than the work
    try:
        fit = joint_fit(slices, slices.mask, FitSettings(), [2, 2, 2], random, lambda *now: told.append(now))
    finally:
        numba.set_num_threads(threads)
    return fit, told


def test_joint_fit_tells_how_far_it_is_and_comes_to_its_end() -> None:
    told = fitted()[1]
    done, total = [now[0] for now in told], {now[1] for now in told}
    assert done == sorted(set(done)) and total == {done[-1]}
    errors = [now[2] for now in told]
    assert np.isfinite(errors).all()
    assert min(errors[-3:]) < 0.95 * errors[0]


def test_every_turn_and_update_is_told_and_what_is_not_needed_is_skipped() -> None:
    told: list[tuple[int, int, float | None]] = []
    settings = FitSettings(spacings=(3.0, 2.5), pose_rounds=3, final_rounds=2, still=np.inf, rounds=2)
    slices = still_slices()
    joint_fit(slices, slices.mask, settings, [2, 2, 2], np.random.default_rng(0), lambda *now: told.append(now))
    done = [now[0] for now in told]
    # One turn of at most 3, two lattices twice, two priors, one turn of at most 2, two updates at the end.
    assert done[:3] == [1, 4, 5] and done[-3:] == [10, 12, 13]
    assert set(range(4, 8)) <= set(done) and {now[1] for now in told} == {13}


def test_joint_fit_comes_closer_to_the_truth_than_the_lattice_it_starts_from() -> None:
    slices, fit = still_slices(), fitted()[0]
    inside = torch.from_numpy(slices.mask).float()
    plain = lattice(slices, FitSettings().spacings[0] * float(np.median(slices.step)))
    forward_model, given = placed(plain, slices), (torch.from_numpy(slices.pixels), inside, np.ones(len(slices)))
    plain.amplitudes = solve_amplitudes(forward_model, *given, plain.amplitudes, 20)
    assert psnr(fit.field) > psnr(plain) + 0.4


def test_noise_is_not_fitted() -> None:
    slices = still_slices()
    noise = np.random.default_rng(0).normal(0, 0.14, len(slices.pixels)).astype(np.float32)
    noisy = replace(slices, pixels=slices.pixels + noise)
    fit = joint_fit(noisy, slices.mask, FitSettings(), [2, 2, 2], np.random.default_rng(0))
    # 14 % and the 2 % that were there; so few pixels are left out that their error is known to 5 %.
    assert 0.9 * 0.1414 < fit.weights.sigma < 1.1 * 0.1414
    assert 0.95 * 0.1414 < fit.held_out < 1.15 * 0.1414


def test_joint_fit_does_no_harm_to_still_slices() -> None:
    slices, fit = still_slices(), fitted()[0]
    # Field and slices may move as one: the pipeline brings them back.
    pose = gauge(fit.pose, slices, 0, fit.weights.slice) @ fit.pose
    move = np.linalg.norm(pose[:, :3, 3] - slices.pose[:, :3, 3], axis=1)
    # About a tenth of a pixel; a whole brain, with more pixels, stays within 0.1 mm (benchmarks/bench_motion.py).
    assert np.median(move) < 0.15


def test_field_and_poses_take_turns_until_the_slices_are_still(monkeypatch: pytest.MonkeyPatch) -> None:
    slices, turns = still_slices(), []
    refine = _Examination.refine_poses
    monkeypatch.setattr(_Examination, "refine_poses", lambda data, *given: (turns.append(0), refine(data, *given)))
    for still, expected in ((np.inf, 1), (0.0, 3)):
        turns.clear()
        settings = FitSettings(still=still)
        data = _Examination(slices, slices.mask, np.zeros_like(slices.mask), [2, 2, 2], settings, CPU)
        _Lattice(data, settings.spacings[0]).take_turns(3)
        assert len(turns) == expected


def test_a_trial_ends_when_it_cannot_win_any_more_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    slices, given = still_slices(), iter([])
    nothing = np.zeros_like(slices.mask)
    lattice = _Lattice(_Examination(slices, slices.mask, nothing, [2, 2, 2], FitSettings(iterations=1), CPU), 5.0)
    monkeypatch.setattr(_Examination, "reweight", lambda data, image: next(given))
    for errors, rival, last in (
        ((1.0, 1.1, 0.4, 0.3), 0.5, 1.1),  # it rises
        ((1.0, 0.9, 0.6, 0.4), 0.5, 0.9),  # by 0.1 an update it comes to 0.7 at most
        ((1.0, 0.7, 0.65, 0.4), 0.5, 0.65),  # at first it may come to 0.1, then to 0.6 at most
        ((1.0, 0.7, 0.5, 0.4), 0.5, 0.4),
    ):
        given, lattice.error = iter(errors), np.inf
        assert lattice.improve(4, rival) == last
    # Under another prior it goes on from where the rival is.
    given, lattice.error = iter([0.51, 0.4]), 0.5
    assert lattice.with_prior(2.0).improve(2, 0.5) == 0.51


def test_no_slice_is_moved_ahead_further_than_a_pixel() -> None:
    step = np.array([[3.0, 0.0, 4.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(_limited(step), [[0.3, 0.0, 0.4, 0.0, 0.0, 0.0], step[1]])


def test_joint_fit_finds_the_noise() -> None:
    # Rician noise of 2 % of the 99th percentile, which is 1 here; what the field does not resolve adds to it.
    fit = fitted()[0]
    assert 0.012 < fit.weights.sigma < 0.05
    # Pixels that the fit never saw are further off, and not by much.
    assert 0.8 * fit.weights.sigma < fit.held_out < 3 * fit.weights.sigma


# --- how many Gaussians


def test_noise_is_measured_ahead_of_the_fit_and_anatomy_hardly_adds_to_it() -> None:
    slices = still_slices()
    inside = torch.from_numpy(slices.mask)
    measured = noise_level(slices, inside)
    assert 0.015 < measured < 0.04
    noise = np.random.default_rng(0).normal(0, 0.1, len(slices.pixels)).astype(np.float32)
    assert noise_level(replace(slices, pixels=noise), inside) == pytest.approx(0.1, rel=0.05)


def test_gaussians_that_carry_nothing_are_pruned() -> None:
    field = some_field()
    field.amplitudes[:4] = torch.tensor([0.0, 0.9, -0.9, -2.0]) * NOTHING * field.amplitudes.abs().max()
    kept = prune(field)
    assert kept.amplitudes.tolist() == field.amplitudes[3:].tolist()
    assert len(prune(fitted()[0].field)) == len(fitted()[0].field)


def test_pixels_held_out_are_patches_inside_the_mask_and_few() -> None:
    slices = still_slices()
    held = hold_out(slices, slices.mask, np.random.default_rng(0))
    assert not held[~slices.mask].any()
    # A tenth of a small scan, less where patches overlap and reach beyond the mask; two per cent of a large one.
    assert 0.05 < held.sum() / slices.mask.sum() < 0.11
    many = slices.take(np.tile(np.arange(len(slices)), 8))
    assert 0.01 < hold_out(many, many.mask, np.random.default_rng(0)).sum() / many.mask.sum() < 0.03
    np.testing.assert_array_equal(held, hold_out(slices, slices.mask, np.random.default_rng(0)))
    assert not hold_out(slices, np.zeros_like(slices.mask), np.random.default_rng(0)).any()


# --- the prior


def on_lattice(spacing: float, values: Callable[[Tensor], Tensor]) -> GaussianField:
    """A function of the world's coordinates (N, 3) as amplitudes of a lattice."""
    field = lattice(ball(), spacing)
    return replace(field, amplitudes=values(field.means).float())


def energy(field: GaussianField, spacing: float, strength: float = 1.0) -> float:
    """What the quadratic form says, about the field itself."""
    prior = Curvature(field, spacing)
    prior.reweight(field.amplitudes, strength)
    return float(field.amplitudes @ prior.apply(field.amplitudes)) / 2


def test_slopes_cost_nothing_and_bends_do() -> None:
    slope = on_lattice(2.0, lambda x: 0.3 + x @ torch.tensor([0.1, -0.2, 0.05]))
    bend = on_lattice(2.0, lambda x: 1e-4 * x[:, 0] ** 2)
    twist = on_lattice(2.0, lambda x: 1e-4 * x[:, 0] * x[:, 1])
    assert abs(energy(slope, 2.0)) < 1e-6 * energy(bend, 2.0)
    # Frobenius norm of the second derivatives: 2 and sqrt(2), in 0.0001. Both far below an edge: squares.
    assert energy(twist, 2.0) / energy(bend, 2.0) == pytest.approx(0.5, rel=0.15)  # the rims differ


def test_faint_bends_cost_their_square_and_edges_the_root_of_their_size() -> None:
    noise = torch.tensor(np.random.default_rng(0).normal(size=5000), dtype=torch.float32)
    faint, faint10, strong, strong10 = (
        energy(on_lattice(2.0, lambda x, k=k: k * noise[: len(x)]), 2.0)  # type: ignore[misc]
        for k in (1e-5, 1e-4, 1e2, 1e3)
    )
    assert faint10 / faint == pytest.approx(100, rel=0.05)
    assert strong10 / strong == pytest.approx(10**0.5, rel=0.05)


def test_prior_is_an_integral_whatever_the_lattice() -> None:
    # In the region of the faint, half of the integral of |H V|^2 / EDGE^(3/2).
    fine, coarse = (
        energy(on_lattice(h, lambda x: 1e-4 * (x[:, 0] ** 2 + x[:, 1] * x[:, 2]) / LATTICE_SUM), h) for h in (0.75, 1.5)
    )
    assert fine / coarse == pytest.approx(1.0, rel=0.25)  # the rim, where no second difference is complete, differs
    volume = 4 / 3 * np.pi * 9.0**3
    assert fine == pytest.approx(volume * 6e-8 / 2 / EDGE**1.5, rel=0.3)


def test_form_of_the_prior_is_symmetric_and_never_negative() -> None:
    field, rng = on_lattice(2.0, lambda x: x[:, 0] * 0), np.random.default_rng(0)
    one, other = (torch.tensor(rng.normal(size=len(field)), dtype=torch.float32) for _ in range(2))
    prior = Curvature(field, 2.0)
    prior.reweight(one, 0.7)
    assert float(one @ prior.apply(other)) == pytest.approx(float(other @ prior.apply(one)), rel=1e-4)
    assert float(other @ prior.apply(other)) > 0


def test_product_on_the_cpu_is_that_of_the_definition() -> None:
    field, rng = on_lattice(1.1, lambda x: x[:, 0] * 0), np.random.default_rng(0)
    one, other = (torch.tensor(rng.normal(size=len(field)), dtype=torch.float32) for _ in range(2))
    prior, definition = Curvature(field, 1.1), Curvature(field, 1.1)
    definition._product = None
    for form in (prior, definition):
        form.reweight(one * 0.01, 0.7)
    for amplitudes in (one, other):
        expected = definition.apply(amplitudes)
        torch.testing.assert_close(prior.apply(amplitudes), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_solver_finds_the_minimum_of_misfit_and_prior() -> None:
    slices, rng = ball(), np.random.default_rng(1)
    field = lattice(slices, 4.0)
    forward_model, prior = placed(field, slices), Curvature(field, 4.0)
    prior.reweight(torch.tensor(rng.normal(size=len(field)), dtype=torch.float32), 0.3)
    gain, weights = rng.uniform(0.5, 1.5, len(slices)), torch.tensor(rng.random(forward_model.pixels)).float()
    pixels = torch.tensor(rng.normal(size=forward_model.pixels)).float()
    unit = torch.eye(len(field))
    forward = np.stack([forward_model.apply(one, gain) for one in unit], axis=1).astype(np.float64)
    form = np.stack([prior.apply(one) for one in unit], axis=1).astype(np.float64)
    normal = forward.T @ (weights.numpy()[:, None] * forward) + form + 1e-6 * np.eye(len(field))
    wanted = np.linalg.solve(normal, forward.T @ (weights * pixels).numpy())
    solver = AmplitudeSolver(forward_model, len(field), prior.apply)
    found, image = solver.solve(pixels, weights, gain, field.amplitudes, 200)
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())
    torch.testing.assert_close(image, forward_model.apply(found, gain), rtol=0, atol=1e-5)
    # Told what its start looks like, it does the same.
    again, _ = solver.solve(pixels, weights, gain, found, 1, image)
    torch.testing.assert_close(again, solver.solve(pixels, weights, gain, found, 1)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("strength", [1e-4, 1e-2])
def test_preconditioned_the_solver_needs_half_the_iterations(strength: float) -> None:
    slices, rng = ball(), np.random.default_rng(1)
    field = lattice(slices, 1.5)
    forward_model, prior = placed(field, slices), Curvature(field, 1.5)
    prior.reweight(torch.tensor(rng.normal(size=len(field)) * 0.01, dtype=torch.float32), strength)
    weights, gain = torch.from_numpy(slices.mask.astype(np.float32)), np.ones(len(slices))
    pixels = torch.tensor(rng.normal(size=forward_model.pixels)).float()
    preconditioner = Preconditioner(prior, slices)
    preconditioner.update(forward_model.adjoint(weights, gain))
    plain = AmplitudeSolver(forward_model, len(field), prior.apply)
    better = AmplitudeSolver(forward_model, len(field), prior.apply, preconditioner.apply)

    def above(solver: AmplitudeSolver, iterations: int) -> float:
        """How far above its minimum the quadratic form is, in units of where it starts."""
        error = solver.solve(pixels, weights, gain, field.amplitudes, iterations)[0] - wanted
        seen = forward_model.apply(error, gain)
        return float((weights * seen**2).sum() + error @ prior.apply(error))

    wanted = better.solve(pixels, weights, gain, field.amplitudes, 200)[0]
    assert above(better, 8) < above(plain, 16)


def test_preconditioner_is_symmetric_and_positive() -> None:
    slices, rng = ball(profile="box"), np.random.default_rng(2)
    field = lattice(slices, 1.5)
    prior = Curvature(field, 1.5)
    prior.reweight(torch.tensor(rng.normal(size=len(field)) * 0.01, dtype=torch.float32), 1e-3)
    preconditioner = Preconditioner(prior, slices)
    # Some of it was not seen at all.
    coverage = torch.from_numpy(np.where(np.arange(len(field)) % 3, 5.0, 0.0).astype(np.float32))
    preconditioner.update(coverage)
    one, other = (torch.tensor(rng.normal(size=len(field)), dtype=torch.float32) for _ in range(2))
    ahead, back = float(one @ preconditioner.apply(other)), float(other @ preconditioner.apply(one))
    assert ahead == pytest.approx(back, rel=1e-3)
    assert float(one @ preconditioner.apply(one)) > 0


def test_diagonal_of_the_prior_is_that_of_its_product() -> None:
    field, rng = lattice(ball(), 5.0), np.random.default_rng(0)
    prior = Curvature(field, 5.0)
    prior.reweight(torch.tensor(rng.normal(size=len(field)), dtype=torch.float32), 0.7)
    product = torch.stack([prior.apply(one) for one in torch.eye(len(field))])
    torch.testing.assert_close(prior.diagonal(), product.diagonal(), rtol=1e-4, atol=1e-6)


def test_finer_lattice_takes_the_values_of_a_coarser_one() -> None:
    coarse = on_lattice(3.0, lambda x: torch.exp(-0.02 * (x**2).sum(dim=1)))
    fine = lattice(ball(), 1.5)
    fine.amplitudes = lattice_like(coarse, fine, 1.5)
    inner = torch.tensor(np.random.default_rng(0).uniform(-3, 3, (200, 3)), dtype=torch.float32)
    np.testing.assert_allclose(fine.evaluate(inner), coarse.evaluate(inner), rtol=0.02)


# --- region and grid


def dice(a: NDArray, b: NDArray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_region_is_the_true_mask_and_a_rim() -> None:
    slices, (_, affine, mask) = still_slices(), phantom()
    found = region_mask(region_field(slices, np.ones(len(slices))), affine, mask.shape)
    grown = distance_transform_edt(~mask, sampling=SPACING) <= RIM_MM
    assert dice(found, grown) > 0.95
    # Nothing of the brain is cut off.
    assert found[mask].mean() > 0.995


def test_region_has_no_holes_and_one_piece_where_slices_are_missing() -> None:
    slices, (_, affine, mask) = still_slices(), phantom()
    given = slices.mask.copy()
    for s in map(int, np.flatnonzero(slices.index % 4 == 1)):
        slices.image(given, s)[:] = False  # a mask that somebody forgot in every fourth slice
    points = in_world(slices)
    pierced = replace(slices, mask=given)
    owner = slices.slice_of_pixel()[slices.mask]
    kept = given[slices.mask]
    # And a hole in the middle of all masks.
    hole = np.linalg.norm(points - points.mean(axis=0), axis=1) < 5.0
    inside = np.flatnonzero(slices.mask)
    pierced.mask[inside[hole & kept]] = False
    assert len(owner) == len(kept)
    weight = np.where(slices.index % 4 == 1, 0.0, 1.0)
    found = region_mask(region_field(pierced, weight), affine, mask.shape)
    np.testing.assert_array_equal(found, binary_fill_holes(found))
    assert found[mask].mean() > 0.97


def test_slices_without_trust_do_not_shape_the_region() -> None:
    slices, (_, affine, mask) = still_slices(), phantom()
    pose = slices.pose.copy()
    pose[10, :3, 3] += [30.0, 30.0, 0.0]
    weight = np.where(np.arange(len(slices)) == 10, 0.0, 1.0)
    region = region_field(slices.with_poses(pose), weight)
    grid, shape = grid_over(region, SPACING)
    found = region_mask(region, affine, mask.shape)
    assert dice(found, distance_transform_edt(~mask, sampling=SPACING) <= RIM_MM) > 0.95
    # The output grid does not reach out to the slice that went astray.
    extent = (np.array(shape) - 1) * SPACING
    assert (extent < SIZE_MM + 20).all()
    assert (grid[:3, 3] > -SIZE_MM / 2 - 10).all()


@pytest.mark.parametrize("resolution", [0.9, 2.0])
def test_output_grid_is_isotropic_and_holds_the_region(resolution: float) -> None:
    slices = still_slices()
    region = region_field(slices, np.ones(len(slices)))
    affine, shape = grid_over(region, resolution)
    np.testing.assert_allclose(affine[:3, :3], resolution * np.eye(3))
    # Voxel centres lie on multiples of the resolution: volumes of one subject share a lattice.
    np.testing.assert_allclose(affine[:3, 3] / resolution, np.rint(affine[:3, 3] / resolution), atol=1e-9)
    index = np.linalg.solve(affine[:3, :3], (in_world(slices) - affine[:3, 3]).T).T
    assert (index > 0).all() and (index < np.array(shape) - 1).all()
    mask = region_mask(region, affine, shape)
    border = mask.copy()
    border[1:-1, 1:-1, 1:-1] = False
    assert mask.any() and not border.any()


def test_empty_region_is_an_error() -> None:
    slices = still_slices()
    with pytest.raises(ValueError, match="no voxel in common"):
        grid_over(region_field(slices, np.zeros(len(slices))), 1.0)


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_grid_holds_the_values_of_the_field_at_its_voxel_centres(flip: float) -> None:
    field, shape = some_field(20), (9, 11, 8)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.3, 0.5, -0.2]).as_matrix() * [0.9, 1.1 * flip, 1.3]
    affine[:3, 3] = -affine[:3, :3] @ [4.0, 5.0, 3.5]
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    wanted = field.to(torch.float64).evaluate(torch.tensor(points)).numpy().reshape(shape)
    # Beyond the cut-off of four standard deviations a Gaussian has at most 3.4e-4 of its amplitude.
    tolerance = np.exp(-0.5 * SAMPLING_CUTOFF**2) * float(field.amplitudes.abs().sum())
    assert tolerance < 0.01 * np.abs(wanted).max()
    np.testing.assert_allclose(sample_on_grid(field, affine, shape), wanted, atol=tolerance)
