"""The simulation is true to the physics it states, without help from the Gaussian forward model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numba
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.folder import MANIFEST
from slicesplat.validation.acquisition import Quadrature, Subject
from slicesplat.validation.demo import as_scanned
from slicesplat.validation.files import save
from slicesplat.validation.motion import acquisition_order, apply_motion, rigid_about
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.pose_error import pose_error
from slicesplat.validation.simulate import Simulation, SimulationConfig, Truth, simulate

FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
NAN, INFINITY = float("nan"), float("inf")
FRACTIONS = ("noise", "dropout", "bias_field", "slice_gain")
CLEAN = SimulationConfig(motion="none", noise=0, dropout=0, slice_gain=0)
# The first slice of the second stack, degrees and mm, before subjects could turn between stacks.
SEED_1 = [-3.49768393, -2.28324669, -7.45640312, 3.31309511, 2.21121203, 4.29448935]
BLOB_SIGMA = 4.0
BLOB_CENTRE = np.array([2.0, -3.0, 1.0])

Volume = tuple[np.ndarray, np.ndarray, np.ndarray]


def world_of_grid(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


@pytest.fixture(scope="module")
def blob() -> Volume:
    """A Gaussian of height 100 on a grid that does not lie along the world axes."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()
    shape = (45, 44, 43)
    affine[:3, 3] = BLOB_CENTRE - affine[:3, :3] @ [21.7, 22.1, 20.9]
    squared = ((world_of_grid(shape, affine) - BLOB_CENTRE) ** 2).sum(-1)
    return 100 * np.exp(-0.5 * squared / BLOB_SIGMA**2), affine, squared < 10**2


@pytest.fixture(scope="module")
def brain() -> Volume:
    return brain_phantom(size_mm=60, spacing=1.5)


def convolved_blob(points: np.ndarray, axes: np.ndarray, pixel: float, thickness: float) -> np.ndarray:
    """The blob convolved with the Gaussian point-spread function of a slice with these axes, in closed form."""
    sigmas = FWHM_TO_SIGMA * np.array([1.2 * pixel, 1.2 * pixel, thickness])
    covariance = BLOB_SIGMA**2 + sigmas**2
    offsets = (points - BLOB_CENTRE) @ axes
    height = 100 * np.sqrt(BLOB_SIGMA**6 / covariance.prod())
    return height * np.exp(-0.5 * (offsets**2 / covariance).sum(-1))


def slice_points(stack: Stack, k: int) -> np.ndarray:
    """(nx, ny, 3) mm: nominal world positions of a slice's pixels."""
    return world_of_grid((*stack.data.shape[:2], 1), stack.affine)[:, :, 0] + stack.affine[:3, 2] * k


def test_still_stacks_of_a_gaussian_equal_the_closed_form_convolution(blob: Volume) -> None:
    for stack in simulate(*blob, CLEAN).stacks:
        for k in range(stack.n_slices):
            expected = convolved_blob(slice_points(stack, k), stack.axes, CLEAN.pixel, CLEAN.thickness)
            # Cubic interpolation on a grid of a quarter of the blob's width is good to a thousandth.
            np.testing.assert_allclose(stack.data[:, :, k], expected, atol=0.1)


def test_a_pixel_at_nominal_x_shows_what_lies_at_its_moved_position(blob: Volume) -> None:
    config = replace(CLEAN, motion="severe", stacks=5, seed=2)
    simulation = simulate(*blob, config)
    for stack, poses in zip(simulation.stacks, simulation.truth.motion, strict=True):
        for k, pose in enumerate(poses):
            centre, rotation = np.array(simulation.truth.centre), Rotation.from_rotvec(pose[:3], degrees=True)
            moved = (slice_points(stack, k) - centre) @ rotation.as_matrix().T + centre + pose[3:]
            expected = convolved_blob(moved, rotation.as_matrix() @ stack.axes, config.pixel, config.thickness)
            np.testing.assert_allclose(stack.data[:, :, k], expected, atol=0.1)


def test_the_quadrature_has_converged(brain: Volume) -> None:
    subject = Subject.from_volume(*brain)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [12, 25, -33], degrees=True).as_matrix()
    pose[:3, 3] = pose[:3, :3] @ [-25, -25, 4]
    for profile in ("gauss", "box"):
        default = subject.acquire(pose, (46, 46), 1.1, 3.0, profile)
        finest = subject.acquire(pose, (46, 46), 1.1, 3.0, profile, Quadrature(subdivisions=5, nodes=41, reach=5))
        # A hundredth of the default noise of 3 %.
        assert np.abs(default - finest).max() < 3e-3 * finest.max()
        assert np.sqrt(np.mean((default - finest) ** 2)) < 3e-4 * finest.max()


def test_a_box_profile_is_the_mean_over_the_slice_thickness(blob: Volume) -> None:
    values, affine, mask = blob
    subject = Subject.from_volume(values, affine, mask)
    pose = np.eye(4)
    pose[:3, 3] = BLOB_CENTRE
    z = np.linspace(-4, 4, 4001)
    points = BLOB_CENTRE + np.outer(z, [0, 0, 1])
    expected = convolved_blob(points, np.eye(3), 1.1, 1e-9).mean()
    assert subject.acquire(pose, (1, 1), 1.1, 8.0, "box")[0, 0] == pytest.approx(expected, rel=2e-3)
    assert subject.acquire(pose, (1, 1), 1.1, 8.0, "gauss")[0, 0] != pytest.approx(expected, rel=2e-2)


def test_a_flat_region_keeps_its_intensity() -> None:
    flat = np.full((30, 30, 30), 7.0)
    subject = Subject.from_volume(flat, np.eye(4), flat)
    pose = rigid_about([15, 15, 15], [5, 6, 7, 0, 0, 0])
    pose[:3, 3] = [13, 13, 13]
    for profile in ("gauss", "box"):
        np.testing.assert_allclose(subject.acquire(pose, (4, 4), 1.1, 3.0, profile), 7.0, rtol=1e-4)


def test_masks_are_what_the_moved_slices_cut_out_of_the_region(blob: Volume) -> None:
    simulation = simulate(*blob, replace(CLEAN, motion="moderate", seed=1))
    for stack, poses in zip(simulation.stacks, simulation.truth.motion, strict=True):
        assert stack.mask.any()
        for k, pose in enumerate(poses):
            really = apply_motion(slice_points(stack, k).reshape(-1, 3), simulation.truth.centre, pose)
            radius = np.linalg.norm(really - BLOB_CENTRE, axis=1).reshape(stack.mask.shape[:2])
            # Voxels of 1 mm make the sphere of 10 mm uncertain by less than one of them.
            assert stack.mask[:, :, k][radius < 9].all()
            assert not stack.mask[:, :, k][radius > 11].any()


def test_the_field_of_view_holds_the_whole_moved_region(brain: Volume) -> None:
    for motion in ("mild", "severe"):
        for stack in simulate(*brain, replace(CLEAN, motion=motion, pixel=3.0, stacks=4)).stacks:
            edges = stack.mask.copy()
            edges[1:-1, 1:-1, 1:-1] = False
            assert not edges.any()


def test_stacks_are_axial_coronal_sagittal_then_oblique(brain: Volume) -> None:
    stacks = simulate(*brain, replace(CLEAN, stacks=6, pixel=4.0)).stacks
    normals = np.array([stack.axes[:, 2] for stack in stacks])
    np.testing.assert_allclose(np.abs(normals[:3]), np.eye(3)[[2, 1, 0]], atol=1e-12)
    tilts = np.rad2deg(np.arccos((normals[:3] * normals[3:]).sum(axis=1)))
    assert ((tilts > 0.5) & (tilts < 18)).all()
    for stack in stacks:
        np.testing.assert_allclose(stack.spacing, [4.0, 4.0, 3.3])
        assert np.linalg.det(stack.affine[:3, :3]) > 0


def uncorrected(simulation: Simulation) -> float:
    """Mean slice error in mm if nothing is corrected."""
    return pose_error(as_scanned(simulation.stacks), simulation.truth, simulation.masks).tre_mean


@pytest.mark.parametrize(("motion", "error"), [("none", 0.0), ("mild", 1.6), ("moderate", 4.7), ("severe", 10.3)])
def test_motion_levels_have_the_stated_error(motion: str, error: float) -> None:
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    ball = np.linalg.norm(world_of_grid((18, 18, 18), affine) - 51, axis=-1) < 48
    config = replace(CLEAN, motion=motion, stacks=6, pixel=6.0)
    errors = [uncorrected(simulate(ball * 1.0, affine, ball, replace(config, seed=seed))) for seed in range(2)]
    assert np.mean(errors) == pytest.approx(error, rel=0.15, abs=1e-9)


def test_motion_is_smooth_over_acquisition_time_not_over_position(brain: Volume) -> None:
    truth = simulate(*brain, replace(CLEAN, motion="moderate", pixel=4.0, spacing=1.0, seed=4)).truth
    for poses in map(np.array, truth.motion):
        in_time = np.abs(np.diff(poses[acquisition_order(len(poses), 2)], axis=0))
        in_space = np.abs(np.diff(poses, axis=0))
        assert np.median(in_time) < 0.5 * np.median(in_space)


def test_a_subject_turns_between_stacks_and_is_scanned_as_it_lies(brain: Volume) -> None:
    config = replace(CLEAN, motion="mild", pixel=4.0, turn=180.0, stacks=4, seed=2)
    made = simulate(*brain, config)
    turns = [Rotation.from_rotvec(poses[:, :3], degrees=True).mean().magnitude() for poses in made.truth.motion]
    assert np.rad2deg(turns[0]) < 10.0
    assert np.rad2deg(max(turns[1:])) > 60.0
    inside = int((brain[2] > 0).sum()) * 1.5**3
    for stack in made.stacks:
        # Nothing of the turned subject is cut off, whichever way it is longest.
        assert stack.mask.sum() * np.prod(stack.spacing) == pytest.approx(inside, rel=0.1)


def test_without_a_turn_a_seed_gives_the_motion_that_it_always_gave(brain: Volume) -> None:
    motion = simulate(*brain, replace(CLEAN, motion="moderate", pixel=6.0, stacks=2, seed=1)).truth.motion
    np.testing.assert_allclose(motion[1][0], SEED_1, atol=1e-6)


def test_in_independent_motion_neighbours_in_time_say_nothing(brain: Volume) -> None:
    (poses,) = simulate(*brain, replace(CLEAN, motion="independent", pixel=6.0, spacing=1.0, stacks=1)).truth.motion
    assert np.abs(poses[:, :3]).max() <= 6.0 and np.abs(poses[:, 3:]).max() <= 4.0
    assert np.abs(poses).max(axis=0).min() > 3.0
    in_time = poses[acquisition_order(len(poses), 2)]
    assert abs(np.corrcoef(in_time[1:].ravel(), in_time[:-1].ravel())[0, 1]) < 0.15


def test_the_first_stack_is_where_the_others_are_measured_from(brain: Volume) -> None:
    truth = simulate(*brain, replace(CLEAN, motion="severe", pixel=4.0)).truth
    means = [np.abs(np.mean(poses, axis=0)).max() for poses in truth.motion]
    assert means[0] < 1e-9
    assert min(means[1:]) > 0.5


def test_rician_noise_has_the_stated_level(blob: Volume) -> None:
    values, _, mask = blob
    config = replace(CLEAN, noise=0.05, seed=3)
    sigma = 0.05 * np.percentile(values[mask], 99)
    noisy, clean = (
        np.concatenate([stack.data.ravel() for stack in simulate(*blob, c).stacks])
        for c in (config, replace(config, noise=0))
    )
    # A Rayleigh distribution where there is no signal, a Gaussian of the same width where there is much.
    assert noisy[clean < 0.1 * sigma].mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.03)
    assert (noisy - clean)[clean > 8 * sigma].std() == pytest.approx(sigma, rel=0.03)


def test_dropout_nearly_loses_whole_slices(blob: Volume) -> None:
    clean = simulate(*blob, CLEAN).stacks[0]
    lost = simulate(*blob, replace(CLEAN, dropout=1.0)).stacks[0]
    shown = clean.data.max(axis=(0, 1)) > 1
    left = lost.data.sum(axis=(0, 1))[shown] / clean.data.sum(axis=(0, 1))[shown]
    assert ((left > 0.09) & (left < 0.41)).all()


def test_gain_changes_from_slice_to_slice(blob: Volume) -> None:
    clean = simulate(*blob, replace(CLEAN, spacing=0.8, pixel=2.0)).stacks[0]
    gained = simulate(*blob, replace(CLEAN, spacing=0.8, pixel=2.0, slice_gain=0.1)).stacks[0]
    shown = clean.data.max(axis=(0, 1)) > 1
    gains = gained.data.sum(axis=(0, 1))[shown] / clean.data.sum(axis=(0, 1))[shown]
    assert gains.std() == pytest.approx(0.1, rel=0.4)


def test_the_bias_field_is_smooth_and_as_strong_as_stated(blob: Volume) -> None:
    flat = np.ones_like(blob[0])
    clean = simulate(flat, *blob[1:], CLEAN).stacks[0]
    biased = simulate(flat, *blob[1:], replace(CLEAN, bias_field=0.3)).stacks[0]
    ratio = np.where(clean.data > 0.5, biased.data / np.maximum(clean.data, 0.5), np.nan)
    assert 0.02 < np.nanmax(np.abs(ratio - 1)) <= 0.3 + 1e-5
    assert np.nanmax(np.abs(np.diff(ratio, axis=0))) < 0.06


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_threads(brain: Volume) -> None:
    config = SimulationConfig(motion="moderate", bias_field=0.2, pixel=3.0, seed=7)
    most = numba.config.NUMBA_NUM_THREADS
    runs = []
    try:
        for threads in (1, most):
            numba.set_num_threads(threads)
            runs.append(simulate(*brain, config))
    finally:
        numba.set_num_threads(most)
    for one, many in zip(runs[0].stacks, runs[1].stacks, strict=True):
        assert one.data.tobytes() == many.data.tobytes()
        assert one.mask.tobytes() == many.mask.tobytes()
    assert runs[0].truth.json() == runs[1].truth.json()
    other = simulate(*brain, replace(config, seed=8))
    assert other.stacks[0].data.tobytes() != runs[0].stacks[0].data.tobytes()


def test_saved_folders_hold_everything_and_are_reproducible(brain: Volume, tmp_path: Path) -> None:
    values, affine, mask = brain
    config = SimulationConfig(stacks=2, pixel=3.0, seed=5)
    for name in ("one", "two"):
        save(simulate(values, affine, mask, config), tmp_path / name, values, affine, mask)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        *(f"mask-{i}.nii.gz" for i in (1, 2)),
        MANIFEST,
        *(f"stack-{i}.nii.gz" for i in (1, 2)),
        "truth-mask.nii.gz",
        "truth.json",
        "truth.nii.gz",
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name

    simulation = simulate(values, affine, mask, config)
    stored = nib.load(tmp_path / "one" / "stack-2.nii.gz")
    np.testing.assert_array_equal(np.asarray(stored.dataobj), simulation.stacks[1].data)
    np.testing.assert_allclose(stored.affine, simulation.stacks[1].affine, atol=1e-5)
    truth = json.loads((tmp_path / "one" / "truth.json").read_text())
    assert truth == simulation.truth.json() == Truth.from_json(truth).json()
    assert [len(poses) for poses in truth["poses_deg_mm"]] == [stack.n_slices for stack in simulation.stacks]


def test_motion_about_a_centre_leaves_the_centre_where_the_translation_puts_it() -> None:
    np.testing.assert_allclose(apply_motion([[1.0, 2.0, 3.0]], [1, 2, 3], [30, 40, 50, 7, 8, 9]), [[8, 10, 12]])
    # 90 degrees about z takes x to y.
    np.testing.assert_allclose(apply_motion([[1.0, 0, 0]], [0, 0, 0], [0, 0, 90, 0, 0, 0]), [[0, 1, 0]], atol=1e-12)


def test_every_slice_is_acquired_once_in_interleaved_passes() -> None:
    assert acquisition_order(7, 3).tolist() == [0, 3, 6, 1, 4, 2, 5]
    assert acquisition_order(2, 4).tolist() == [0, 1]


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"stacks": 0},
            {"motion": "wild"},
            {"turn": -1.0},
            {"turn": NAN},
            {"profile": "sinc"},
            {"interleave": 0},
            {"seed": -1},
        ),
        *({name: value} for name in ("thickness", "spacing", "pixel") for value in (0.0, -1.0, 1e30, NAN, INFINITY)),
        *({name: value} for name in FRACTIONS for value in (-0.1, 1.1, NAN, INFINITY, -INFINITY)),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SimulationConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FRACTIONS)
def test_fractions_may_be_all_or_nothing(name: str) -> None:
    for value in (0.0, 1.0):
        assert getattr(SimulationConfig(**{name: value}), name) == value  # type: ignore[arg-type]


def test_more_packages_than_slices_are_refused(blob: Volume) -> None:
    (stack,) = simulate(*blob, replace(CLEAN, stacks=1, pixel=4.0)).stacks
    simulate(*blob, replace(CLEAN, stacks=1, pixel=4.0, interleave=stack.n_slices))
    with pytest.raises(InputError, match=f"stack-1: interleave {stack.n_slices + 1}, but only {stack.n_slices} slices"):
        simulate(*blob, replace(CLEAN, stacks=1, pixel=4.0, interleave=stack.n_slices + 1))


def test_an_empty_mask_is_refused(blob: Volume) -> None:
    with pytest.raises(ValueError, match="empty"):
        simulate(blob[0], blob[1], np.zeros_like(blob[2]))
    with pytest.raises(ValueError, match="same shape"):
        simulate(blob[0], blob[1], np.ones((3, 3, 3)))
