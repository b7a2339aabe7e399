"""Where a pixel lies in the world, and what becomes of it when slices are cut, averaged and picked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from balls import some_poses
from scipy.spatial.transform import Rotation

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.acquisition import acquisition_times
from slicesplat.geometry.psf import slice_psf
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices, cut_slices, pixel_indices
from slicesplat.geometry.stack import Stack
from slicesplat.splat import CpuForwardModel, set_geometry

SIZE = (13, 10, 5)


def stack(flip: bool = False, number: int = 0) -> Stack:
    """Random intensities on an oblique grid, an ellipsoid for the mask; left-handed when flipped."""
    rng = np.random.default_rng(number)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.4, -0.3, 0.7 + number]).as_matrix() * (1.1, 1.3, 3.0)
    if flip:
        affine[:3, 1] *= -1
    affine[:3, 3] = [5.0, -7.0, 11.0]
    index = np.indices(SIZE).reshape(3, -1).T - (np.array(SIZE) - 1) / 2
    mask = (np.linalg.norm(index / (4.6, 3.6, 2.4), axis=1) < 1).reshape(SIZE)
    return Stack(rng.uniform(1, 9, SIZE).astype(np.float32), mask, affine, 2.5, f"stack-{number}")


@pytest.mark.parametrize("flip", [False, True])
def test_pose_puts_a_pixel_where_the_affine_does(flip: bool) -> None:
    given = stack(flip)
    assert np.sign(np.linalg.det(given.affine)) == (-1 if flip else 1)
    pose = given.pose(3)
    for i, j in ((0, 0), (12, 0), (4, 9)):
        in_slice = [(i - 6.0) * given.spacing[0], (j - 4.5) * given.spacing[1], 0, 1]
        np.testing.assert_allclose(pose @ in_slice, given.affine @ [i, j, 3, 1], atol=1e-12)
    np.testing.assert_allclose(given.pose(3, (2, 8))[:3, 3], (given.affine @ [2, 8, 3, 1])[:3], atol=1e-12)


@pytest.mark.parametrize("flip", [False, True])
def test_pose_is_a_rotation_whatever_the_handedness(flip: bool) -> None:
    axes = stack(flip).axes
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)


def test_spacing_is_read_off_the_affine() -> None:
    np.testing.assert_allclose(stack(flip=True).spacing, (1.1, 1.3, 3.0))


@pytest.mark.parametrize("flip", [False, True])
def test_cut_slices_show_the_pixels_of_the_stack_at_their_world_positions(flip: bool) -> None:
    given = [stack(flip, 0), stack(not flip, 1)]
    slices = cut_slices(given, margin=1, min_pixels=1)
    assert slices.offset[-1] == len(slices.pixels) == len(slices.mask)
    np.testing.assert_array_equal(np.diff(slices.offset), slices.shape.prod(axis=1))
    for s in range(len(slices)):
        source, k = given[slices.stack[s]], slices.index[s]
        (i, j), (rows, columns) = slices.corner[s], slices.shape[s]
        window = np.s_[i : i + rows, j : j + columns, k]
        np.testing.assert_array_equal(slices.image(slices.pixels, s), source.data[window])
        np.testing.assert_array_equal(slices.image(slices.mask, s), source.mask[window])
        # Nothing of the mask is lost in the crop.
        assert slices.image(slices.mask, s).sum() == source.mask[:, :, k].sum()
        index = np.indices(source.data.shape[:2])[:, i : i + rows, j : j + columns].reshape(2, -1).T
        world = np.column_stack([index, np.full(len(index), k)]) @ source.affine[:3, :3].T + source.affine[:3, 3]
        np.testing.assert_allclose(slices.pose[s].map(slices.plane_points(s, inside=False)), world, atol=1e-9)


def test_masked_points_are_those_of_the_slices() -> None:
    given = stack()
    slices = cut_slices([given], min_pixels=1)
    points = np.concatenate([slices.world_points(s) for s in range(len(slices))])
    assert len(points) == given.mask.sum()
    found, wanted = (np.round(p, 6)[np.lexsort(np.round(p, 6).T)] for p in (points, given.masked_points()))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_slice_frame_has_its_origin_in_the_middle_of_the_crop() -> None:
    slices = cut_slices([stack()], min_pixels=1)
    for s in range(len(slices)):
        np.testing.assert_allclose(slices.plane_points(s, inside=False).mean(axis=0), 0, atol=1e-12)


def test_margin_ends_at_the_edge_of_the_image() -> None:
    slices = cut_slices([stack()], margin=50, min_pixels=1)
    assert (slices.shape == SIZE[:2]).all()
    assert (slices.corner == 0).all()


def test_slices_with_few_pixels_in_their_mask_are_left_out() -> None:
    given = stack()
    area = given.mask.sum(axis=(0, 1))
    assert 0 < area[0] < area[1]
    slices = cut_slices([given], min_pixels=int(area[1]))
    assert slices.index.tolist() == [1, 2, 3]
    assert len(cut_slices([given], min_pixels=int(area[0]))) == 5


def test_no_slice_to_cut_is_an_error() -> None:
    with pytest.raises(ValueError, match="check the masks"):
        cut_slices([stack()], min_pixels=1000)
    with pytest.raises(ValueError, match="check the masks"):
        cut_slices([replace(stack(), mask=np.zeros(SIZE, bool))])


def test_psf_is_that_of_the_spacing_and_the_thickness() -> None:
    thin, thick = stack(), replace(stack(number=1), thickness=4.0)
    slices = cut_slices([thin, thick], "box")
    for number, given in enumerate((thin, thick)):
        weights, covariances, offsets = slice_psf((1.1, 1.3), given.thickness, "box")
        for s in np.flatnonzero(slices.stack == number):
            np.testing.assert_allclose(slices.psf_weights[s], weights)
            np.testing.assert_allclose(slices.psf_covariances[s], covariances)
            np.testing.assert_allclose(slices.psf_offsets[s], offsets)


def test_slices_start_where_the_scanner_put_them() -> None:
    slices = cut_slices([stack(), stack(True, 1)])
    np.testing.assert_array_equal(slices.motion.matrix, np.tile(np.eye(4), (len(slices), 1, 1)))
    np.testing.assert_array_equal(slices.pose.matrix, slices.frame.matrix)


def test_motion_takes_the_scanned_position_to_the_corrected_one_whatever_the_crop() -> None:
    motion = Rigid.exp([1.0, -2.0, 4.0, 0.1, 0.2, -0.3])
    for margin in (0, 4):
        slices = cut_slices([stack(flip=True)], margin=margin)
        moved = slices.moved(Rigid(np.tile(motion.matrix, (len(slices), 1, 1))))
        for s in range(len(slices)):
            np.testing.assert_allclose(moved.world_points(s), motion.map(slices.world_points(s)), atol=1e-12)
        # The slices themselves have not been touched.
        np.testing.assert_array_equal(slices.pose.matrix, slices.frame.matrix)


@pytest.mark.parametrize(
    ("interleave", "order"),
    [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6, 1, 3, 5]), (3, [0, 3, 6, 1, 4, 2, 5])],
)
def test_slices_know_when_and_in_which_package_they_were_acquired(interleave: int, order: list[int]) -> None:
    assert np.argsort(acquisition_times(7, interleave)).tolist() == order
    given = [stack(), Stack(np.ones((9, 9, 7), np.float32), np.ones((9, 9, 7), bool), np.eye(4), 1.0)]
    slices = cut_slices(given, min_pixels=1, interleave=[1, interleave])
    own = np.flatnonzero(slices.stack == 1)
    assert slices.time[own[order]].tolist() == list(range(7))
    assert slices.package[own].tolist() == [k % interleave for k in range(7)]
    assert slices.index[slices.in_time(1)].tolist() == order
    # The other stack has a clock of its own, and nobody said that it was interleaved.
    assert slices.time[slices.stack == 0].tolist() == slices.index[slices.stack == 0].tolist()
    assert not slices.package[slices.stack == 0].any()


def test_times_that_are_known_are_believed_in_place_of_an_interleave() -> None:
    times = np.array([30.0, 10.0, np.nan, 0.0, 40.0, 20.0, 50.0])  # acquired 3, 1, 5, 0, 4, 6; slice 2 is missing
    data = np.ones((9, 9, 7), np.float32)
    given = Stack(data, np.ones((9, 9, 7), bool), np.eye(4), 1.0, times=times)
    slices = cut_slices([given], min_pixels=1, interleave=[2])
    assert slices.in_time(0).tolist() == [3, 1, 5, 0, 4, 6, 2]
    untold = cut_slices([replace(given, times=None)], min_pixels=1, interleave=[2])
    assert untold.in_time(0).tolist() == [0, 2, 4, 6, 1, 3, 5]


def test_time_is_the_stacks_whatever_the_mask_leaves_of_it() -> None:
    mask = np.zeros((9, 9, 7), bool)
    mask[:, :, [1, 2, 5]] = True
    slices = cut_slices([Stack(np.ones(mask.shape, np.float32), mask, np.eye(4), 1.0)], interleave=[2])
    # The slices 0, 2, 4, 6, then 1, 3, 5.
    assert slices.index.tolist() == [1, 2, 5]
    assert slices.time.tolist() == [4, 1, 6]
    assert slices.package.tolist() == [1, 0, 1]
    # And whatever the order that they come in.
    turned = slices.take(np.array([2, 0, 1]))
    assert turned.index[turned.in_time(0)].tolist() == [2, 1, 5]


def test_every_pixel_knows_its_slice() -> None:
    slices = cut_slices([stack()])
    owner = slices.slice_of_pixel()
    for s in range(len(slices)):
        assert (slices.image(owner, s) == s).all()
    assert len(owner) == len(slices.pixels)


@pytest.mark.parametrize("factor", [2, 3])
def test_binned_pixel_is_the_mean_of_its_block_with_zero_outside_the_mask(factor: int) -> None:
    slices = cut_slices([stack()], margin=2)
    binned = slices.binned(factor)
    for s in range(len(slices)):
        cut = np.where(slices.image(slices.mask, s), slices.image(slices.pixels, s), 0)
        share = slices.image(slices.mask, s)
        rows, columns = slices.shape[s] // factor
        assert tuple(binned.shape[s]) == (rows, columns)
        for i in range(rows):
            for j in range(columns):
                block = np.s_[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
                assert binned.image(binned.pixels, s)[i, j] == pytest.approx(cut[block].mean(), rel=1e-6)
                assert binned.image(binned.mask, s)[i, j] == (share[block].mean() >= 0.5)


@pytest.mark.parametrize("factor", [2, 3])
def test_binned_pixel_lies_in_the_middle_of_its_block(factor: int) -> None:
    slices = cut_slices([stack(flip=True)], margin=2)
    binned = slices.binned(factor)
    for s in range(len(slices)):
        fine = slices.plane_points(s, inside=False).reshape(*slices.shape[s], 3)
        coarse = binned.plane_points(s, inside=False).reshape(*binned.shape[s], 3)
        np.testing.assert_allclose(coarse[0, 0], fine[:factor, :factor].mean(axis=(0, 1)), atol=1e-12)
        last = np.s_[(len(coarse) - 1) * factor : len(coarse) * factor, :factor]
        np.testing.assert_allclose(coarse[-1, 0], fine[last].mean(axis=(0, 1)), atol=1e-12)
    np.testing.assert_array_equal(binned.pose.matrix, slices.pose.matrix)


@pytest.mark.parametrize("factor", [2, 3])
def test_psf_of_binned_pixels_explains_the_average_of_what_the_fine_ones_show(factor: int) -> None:
    slices = cut_slices([stack()], margin=2)
    slices = replace(slices, mask=np.ones_like(slices.mask))
    middle = stack().affine[:3, :3] @ ((np.array(SIZE) - 1) / 2) + stack().affine[:3, 3]
    means = torch.tensor(middle + np.random.default_rng(0).normal(0, 2, (6, 3)))
    ones = torch.ones(6)
    field = GaussianField(means, torch.full((6, 3), float(np.log(5.0))), torch.eye(4)[[0] * 6], ones)

    def shown(where: Slices) -> np.ndarray:
        forward_model = CpuForwardModel(where, 5.0)
        set_geometry(forward_model, field, where.pose)
        return forward_model.apply(ones, np.ones(len(where))).numpy()

    fine = replace(slices, pixels=shown(slices)).binned(factor)
    # A Gaussian has the variance of the window, not its shape: they differ in fourth order: 5e-4 of a blob of 5 mm
    # under three pixels of 1.3 mm.
    wanted, tolerance = fine.pixels, 1e-3
    np.testing.assert_allclose(shown(fine), wanted, atol=tolerance * wanted.max())
    # Without the window's variance the difference is an order of magnitude above the tolerance.
    unblurred = replace(fine, psf_covariances=slices.psf_covariances)
    assert np.abs(shown(unblurred) - wanted).max() > 5 * tolerance * wanted.max()


def test_binning_by_one_changes_nothing_and_by_too_much_is_an_error() -> None:
    slices = cut_slices([stack()])
    assert slices.binned(1) is slices
    with pytest.raises(ValueError, match="cannot be averaged over 50"):
        slices.binned(50)


def test_taken_slices_carry_their_pixels_in_the_order_asked_for() -> None:
    slices = cut_slices([stack(), replace(stack(True, 1), thickness=4.0)], "box", interleave=[2, 3])
    slices = slices.moved(some_poses(len(slices)))
    which = np.array([4, 0, 4, 2])
    taken = slices.take(which)
    assert len(taken) == 4
    for place, s in enumerate(which):
        np.testing.assert_array_equal(taken.image(taken.pixels, place), slices.image(slices.pixels, s))
        np.testing.assert_array_equal(taken.image(taken.mask, place), slices.image(slices.mask, s))
        psf = ("psf_weights", "psf_covariances", "psf_offsets")
        for name in ("stack", "index", "corner", "origin", "step", *psf, "time", "package"):
            np.testing.assert_array_equal(getattr(taken, name)[place], getattr(slices, name)[s])
        for name in ("frame", "motion", "pose"):
            np.testing.assert_array_equal(getattr(taken, name).matrix[place], getattr(slices, name).matrix[s])


def test_pixel_indices_pick_what_take_takes() -> None:
    slices = cut_slices([stack(), stack(True, 1)])
    which = np.array([3, 1])
    np.testing.assert_array_equal(slices.pixels[pixel_indices(slices.offset, which)], slices.take(which).pixels)
