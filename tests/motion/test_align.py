"""Known motion is found on a known field by one alignment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from balls import SCALE, distance, full, known_field, observed, put, some_poses, stepped, three_stacks
from numpy.typing import NDArray

from slicesplat.geometry.rigid import Rigid
from slicesplat.motion.align import align, correlation, group_jacobian
from slicesplat.motion.time_prior import TimePrior
from slicesplat.splat import CPU


def inside() -> NDArray[np.float32]:
    """Weights of the pixels."""
    return three_stacks().mask.astype(np.float32)


def test_group_jacobian_equals_numerical_differentiation() -> None:
    pose, centre, h = some_poses(5), np.array([4.0, -8.0, 15.0]), 1e-5
    analytic = group_jacobian(pose, np.tile(centre, (5, 1)))
    for k in range(6):
        ahead, back = (Rigid.exp(sign * h * np.eye(6)[k]).about(centre) @ pose for sign in (1, -1))
        numerical = ((~pose @ ahead).log() - (~pose @ back).log()) / (2 * h)
        np.testing.assert_allclose(analytic[:, :, k], numerical, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_known_pose_of_a_slice_is_recovered(seed: int) -> None:
    truth = three_stacks()
    s, step = [5, 14, 25][seed], np.random.default_rng(seed).normal(size=(2, 3))
    step *= np.array([[1.5], [np.deg2rad(5)]]) / np.linalg.norm(step, axis=1, keepdims=True)
    start = stepped(truth.pose, s, step.ravel())
    given = (observed(truth), inside(), full(truth), full(truth, SCALE))
    found = align(known_field(), put(truth, start), *given, iterations=15)
    assert distance(truth, start, truth.pose)[s] > 1.0
    # The others were right and stay so.
    assert distance(truth, found.motion @ truth.frame, truth.pose).max() < 0.02
    assert found.ncc.min() > 0.9999


def test_short_last_step_is_taken_as_the_systems_say_it_is_and_a_long_one_is_tried() -> None:
    truth = three_stacks()
    steps = np.full((len(truth), 6), [0.1, -0.2, 0.1, *np.deg2rad([0.2, -0.1, 0.1])])
    start, given = truth.pose @ Rigid.exp(steps), (observed(truth), inside(), full(truth), full(truth, SCALE))
    found, asked = {}, {}
    for linear in (0.0, 0.1, 2.0):
        made = CPU.forward_model(truth)
        at = put(truth, start)
        found[linear] = align(known_field(), at, *given, iterations=1, forward_model=made, linear=linear)
        asked[linear] = made.placements
    assert asked == {0.0: 2, 0.1: 2, 2.0: 1}
    tried, taken = found[0.0], found[2.0]
    assert distance(truth, taken.motion @ truth.frame, truth.pose).max() < 0.05
    np.testing.assert_array_equal(taken.motion.matrix, tried.motion.matrix)
    np.testing.assert_array_equal(taken.gain, tried.gain)
    # Misfit and correlation are those of where the step began.
    assert (taken.misfit > 2 * tried.misfit).all() and (taken.ncc < tried.ncc).all()


def test_known_pose_of_a_group_is_recovered() -> None:
    truth = three_stacks()
    moved = truth.stack == 1
    there = Rigid.exp([1.5, -2.0, 1.0, *np.deg2rad([4.0, -5.0, 3.0])])
    start = (there @ truth.pose).where(moved, truth.pose)
    given = (observed(truth), inside(), full(truth), full(truth, 0.5), truth.stack, 15)
    found = align(known_field(), put(truth, start), *given)
    assert distance(truth, start, truth.pose)[moved].min() > 2
    assert distance(truth, found.motion @ truth.frame, truth.pose).max() < 0.02
    # As one body.
    motion = found.motion.matrix[moved]
    np.testing.assert_allclose(motion, motion[[0] * moved.sum()], atol=1e-9)


def test_gain_of_a_slice_is_found_with_its_pose() -> None:
    truth, s = three_stacks(), 14
    gain = np.where(np.arange(len(truth)) == s, 1.4, 1.0)
    pixels = (observed(truth) * gain[truth.slice_of_pixel()]).astype(np.float32)
    slices, now, gains = put(truth, stepped(truth.pose, s, [0.8, -0.5, 0.6, 0.03, 0.02, -0.04])), full(truth), []
    # The residuals that count shrink, as from level to level, and with them what holds a gain to 1.
    for scale in (1.0, 0.3, 0.1, 0.02):
        found = align(known_field(), slices, pixels, inside(), now, full(truth, scale), iterations=15)
        slices, now = slices.moved(found.motion), found.gain
        gains.append(found.gain[s])
    np.testing.assert_allclose(found.gain, gain, atol=4e-3)
    assert distance(truth, slices.pose, truth.pose)[s] < 0.02
    assert 1.0 < gains[0] < gains[1] - 0.02 < gains[2]


def test_few_wild_pixels_do_not_move_a_slice() -> None:
    truth = three_stacks()
    pixels = observed(truth)
    wild = np.random.default_rng(5).random(len(pixels)) < 0.05
    pixels = np.where(wild, pixels + 5.0, pixels).astype(np.float32)
    found = align(known_field(), truth, pixels, inside(), full(truth), full(truth, SCALE), iterations=8)
    # A twentieth of the pixels, each by forty times the scale: its influence is a few 1e-5 of a pixel's.
    assert np.median(distance(truth, found.motion @ truth.frame, truth.pose)) < 0.05


def test_slice_that_nothing_constrains_stays_put() -> None:
    truth = three_stacks()
    weights, (unseen, far) = inside(), (7, 20)
    truth.image(weights, unseen)[:] = 0
    away = np.arange(len(truth)) == far
    start = put(truth, Rigid.exp(np.outer(away, [500.0, 500.0, 500.0, 0, 0, 0])) @ truth.pose)
    found = align(known_field(), start, observed(truth), weights, full(truth), full(truth, SCALE))
    for s in (unseen, far):
        np.testing.assert_allclose(found.motion.matrix[s], start.motion.matrix[s], atol=1e-9)
    assert all(np.isfinite(part).all() for part in (found.motion.matrix, found.gain, found.misfit))


def test_expectation_moves_what_nothing_else_constrains_and_leaves_what_the_image_shows() -> None:
    truth = three_stacks()
    weights, (unseen, seen) = inside(), (7, 17)
    truth.image(weights, unseen)[:] = 0
    expected = stepped(truth.pose, [unseen, seen], [0.6, -0.4, 0.5, 0.01, -0.015, 0.01])
    prior = TimePrior(expected, 1.0, np.deg2rad(1.0))
    given = (known_field(), truth, observed(truth), weights, full(truth), full(truth, SCALE))
    found = align(*given, iterations=10, prior=prior).motion @ truth.frame
    assert distance(truth, found, expected)[unseen] < 0.02
    assert distance(truth, truth.pose, expected)[seen] > 0.8
    # A slice of several hundred pixels outvotes its expectation by one to a hundred.
    assert distance(truth, found, truth.pose)[seen] < 0.1


def test_crop_of_a_slice_does_not_matter() -> None:
    """A motion is one of the world: slices that are cropped elsewhere find the same."""
    truth = three_stacks()
    shift = np.zeros((len(truth), 6))
    shift[:, :2] = [3.0, -4.5]
    elsewhere = Rigid.exp(shift)
    # The same pixels, about another origin in their plane.
    cropped = replace(truth, origin=truth.origin - shift[:, :2], frame=truth.frame @ elsewhere)
    start = Rigid.exp(np.tile([0.8, -0.5, 0.4, 0.02, -0.01, 0.03], (len(truth), 1)))
    given = (observed(truth), inside(), full(truth), full(truth, SCALE))
    one, other = (align(known_field(), slices.moved(start), *given, iterations=20) for slices in (truth, cropped))
    assert distance(truth, start @ truth.frame, one.motion @ truth.frame).min() > 0.3
    apart = distance(truth, one.motion @ truth.frame, other.motion @ truth.frame)
    # Slices at the rim show a dozen pixels: there twenty steps do not come to the end.
    assert np.median(apart) < 1e-4 and apart.max() < 0.05


def test_correlation_is_that_of_numpy() -> None:
    y, p = np.random.default_rng(0).normal(size=(2, 50)) + 3
    sums = np.array([50.0, y.sum(), p.sum(), y @ y, p @ p, y @ p])
    assert correlation(sums) == pytest.approx(np.corrcoef(y, p)[0, 1])
