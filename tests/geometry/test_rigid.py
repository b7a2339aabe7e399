"""Rigid transforms are a group, and their matrices are what SciPy's rotations say."""

from __future__ import annotations

import numpy as np
import pytest
from balls import some_poses
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from slicesplat.geometry.rigid import LEVER_ARM, Rigid, displacement, step_product, to_lps


def steps(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    """Steps (..., 6), turns below half a turn."""
    return np.random.default_rng(seed).normal(0, 0.7, (*shape, 6))


def homogeneous(points: NDArray) -> NDArray:
    return np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3)])
def test_exponential_is_rotation_and_shift_and_the_logarithm_undoes_it(shape: tuple[int, ...]) -> None:
    step = steps(*shape)
    transform = Rigid.exp(step)
    turn = Rotation.from_rotvec(step[..., 3:].reshape(-1, 3)).as_matrix().reshape(*shape, 3, 3)
    np.testing.assert_allclose(transform.rotation, turn, atol=1e-14)
    np.testing.assert_array_equal(transform.translation, step[..., :3])
    np.testing.assert_array_equal(transform.matrix[..., 3, :], np.broadcast_to([0, 0, 0, 1], (*shape, 4)))
    np.testing.assert_allclose(transform.log(), step, atol=1e-12)
    np.testing.assert_allclose(transform.angle(), np.linalg.norm(step[..., 3:], axis=-1), atol=1e-7)


def test_logarithm_of_half_a_turn_is_one_of_the_two() -> None:
    half = Rigid.exp([0, 0, 0, 0, 0, np.pi])
    np.testing.assert_allclose(np.abs(half.log()), [0, 0, 0, 0, 0, np.pi], atol=1e-9)
    assert half.angle() == pytest.approx(np.pi)


def test_product_is_one_after_the_other() -> None:
    first, second, points = some_poses(5), some_poses(5, seed=1), np.random.default_rng(2).normal(0, 30, (5, 8, 3))
    np.testing.assert_allclose((second @ first).map(points), second.map(first.map(points)), atol=1e-11)
    # One serves many.
    np.testing.assert_allclose((second[0] @ first).matrix, second.matrix[0] @ first.matrix, atol=1e-12)


def test_inverse_takes_everything_back() -> None:
    transform = some_poses(6)
    np.testing.assert_allclose((~transform).matrix, np.linalg.inv(transform.matrix), atol=1e-12)
    for product in (~transform @ transform, transform @ ~transform):
        np.testing.assert_allclose(product.matrix, Rigid.identity(6).matrix, atol=1e-12)


def test_step_of_a_slice_is_taken_in_its_own_frame() -> None:
    pose = some_poses(4)
    along = (pose @ Rigid.exp([0, 0, 3.0, 0, 0, 0])).translation
    np.testing.assert_allclose(along, pose.translation + 3.0 * pose.rotation[..., 2], atol=1e-12)


def test_points_are_mapped_as_their_shapes_say() -> None:
    many, rng = some_poses(4), np.random.default_rng(0)
    one, points, own = many[1], rng.normal(size=(9, 3)), rng.normal(size=(4, 9, 3))
    np.testing.assert_allclose(one.map(points[0]), (one.matrix @ homogeneous(points[0]))[:3])
    np.testing.assert_allclose(one.map(points), (homogeneous(points) @ one.matrix.T)[:, :3])
    # The same points under every transform, or each transform's own.
    for given, shape in ((points[0], (4, 3)), (points, (4, 9, 3)), (own, (4, 9, 3))):
        mapped = many.map(given)
        assert mapped.shape == shape
        for k in range(4):
            np.testing.assert_allclose(mapped[k], many[k].map(given[k] if given.ndim == 3 else given), atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        np.diag([1.01, 1.01, 1.01, 1.0]),
        np.diag([1.0, 1.0, -1.0, 1.0]),
        np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.1, 1.0]]),
        np.diag([1.0, 1.0, 1.0, 2.0]),
        np.diag([np.nan, 1.0, 1.0, 1.0]),
        np.array([[1, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.zeros((4, 4)),
    ],
    ids=["scales", "mirrors", "shears", "projects", "divides", "NaN", "infinity", "nothing"],
)
def test_matrix_that_does_more_than_rotate_and_shift_is_refused(wrong: NDArray) -> None:
    with pytest.raises(ValueError, match="not rigid"):
        Rigid.from_matrix(wrong)
    # One among many, too.
    with pytest.raises(ValueError, match="not rigid"):
        Rigid.from_matrix(np.stack([np.eye(4), wrong]))


@pytest.mark.parametrize("shape", [(3, 4), (4,), (2, 4, 3)])
def test_matrix_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"give matrices \(\.\.\., 4, 4\)"):
        Rigid.from_matrix(np.zeros(shape))


def test_rounded_matrix_of_a_file_is_taken_and_is_nobody_elses() -> None:
    written = some_poses(5).matrix.astype(np.float32)
    read = Rigid.from_matrix(written)
    assert read.matrix.dtype == np.float64
    np.testing.assert_array_equal(read.matrix, written)
    written[:] = 0
    assert (read.matrix[..., 3, 3] == 1).all()


def test_kabsch_finds_the_transform_between_points_and_of_noisy_ones_the_nearest() -> None:
    rng, there = np.random.default_rng(0), some_poses(1)[0]
    source = rng.normal(0, 10, (40, 3))
    np.testing.assert_allclose(Rigid.kabsch(source, there.map(source)).matrix, there.matrix, atol=1e-10)
    target = there.map(source) + rng.normal(0, 1.5, source.shape)
    found = Rigid.kabsch(source, target)

    def squares(transform: Rigid) -> float:
        return float(((transform.map(source) - target) ** 2).sum())

    assert squares(found) < squares(there)
    for step in np.concatenate([np.eye(6), -np.eye(6)]) * 1e-3:
        assert squares(found) < squares(found @ Rigid.exp(step))
    # The error of 120 numbers, each off by 1.5, in six of freedom.
    assert displacement(there, found) < 1.5


def test_kabsch_of_mirrored_points_is_a_rotation_all_the_same() -> None:
    points = np.random.default_rng(1).normal(size=(20, 3))
    found = Rigid.kabsch(points, points * [1, 1, -1])
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-12)


def test_mean_is_between_its_parts_at_the_centre_that_is_asked_for() -> None:
    centre, weights = np.array([10.0, -4.0, 7.0]), np.array([3.0, 1.0])
    axis = np.array([0.36, 0.48, 0.8])
    parts = Rigid.exp(np.array([[2.0, 0, 0, *0.1 * axis], [-2.0, 4.0, 0, *0.5 * axis]]))
    mean = parts.mean(weights, centre)
    # Of quaternions, nearly of angles: less by the square of what they differ.
    np.testing.assert_allclose(mean.log()[3:], 0.2 * axis, rtol=0.01)
    expected = np.average([part.map(centre) for part in (parts[0], parts[1])], axis=0, weights=weights)
    np.testing.assert_allclose(mean.map(centre), expected, atol=1e-12)
    # Of equal ones it is each of them; of one that alone counts, that one.
    same = some_poses(1)[[0, 0, 0]]
    np.testing.assert_allclose(same.mean([1, 2, 3], centre).matrix, same.matrix[0], atol=1e-9)
    np.testing.assert_allclose(parts.mean([1.0, 0.0], centre).matrix, parts.matrix[0], atol=1e-9)
    # Of many at once it is each by itself.
    many, weights, centres = some_poses(6)[np.arange(6).reshape(2, 3)], np.array([[1, 2, 3], [3, 1, 0]]), np.eye(3)[:2]
    for n, together in enumerate(many.mean(weights, centres).matrix):
        np.testing.assert_allclose(together, many[n].mean(weights[n], centres[n]).matrix, atol=1e-12)


def test_transform_about_a_centre_turns_there() -> None:
    step, centre = steps(2), np.array([[1.0, 2.0, 3.0], [-20.0, 5.0, 9.0]])
    about = Rigid.exp(step).about(centre)
    np.testing.assert_allclose(about.rotation, Rigid.exp(step).rotation)
    for k in range(2):
        np.testing.assert_allclose(about[k].map(centre[k]), centre[k] + step[k, :3], atol=1e-12)


def test_choice_is_made_one_by_one() -> None:
    one, other, choice = some_poses(4), some_poses(4, seed=1), np.array([True, False, False, True])
    chosen = one.where(choice, other)
    np.testing.assert_array_equal(chosen.matrix[choice], one.matrix[choice])
    np.testing.assert_array_equal(chosen.matrix[~choice], other.matrix[~choice])


def test_some_of_many_are_picked_by_index_and_mask() -> None:
    many = some_poses(5)
    assert len(many) == 5 and len(many[[4, 0]]) == 2
    np.testing.assert_array_equal(many[[4, 0]].matrix, many.matrix[[4, 0]])
    np.testing.assert_array_equal(many[np.arange(5) > 3].matrix, many.matrix[4:])
    assert [repr(some) for some in (many, many[0])] == ["Rigid(5 transforms)", "Rigid(1 transform)"]


def test_rotations_count_as_lengths_at_the_lever_arm() -> None:
    one, other = steps(3), steps(3, seed=1)
    scale = np.array([1, 1, 1, LEVER_ARM, LEVER_ARM, LEVER_ARM])
    np.testing.assert_allclose(step_product(one, other), ((one * scale) * (other * scale)).sum(axis=1))
    pose = some_poses(1)
    shifted = Rigid.exp([3.0, 0, 4.0, 0, 0, 0]) @ pose
    turned = pose @ Rigid.exp([0, 0, 0, 0, 0.02, 0])
    assert displacement(pose, shifted)[0] == pytest.approx(5.0, abs=1e-4)
    assert displacement(pose, turned)[0] == pytest.approx(0.02 * LEVER_ARM, abs=1e-6)


def test_transform_of_the_other_convention_moves_the_same_points() -> None:
    transform, points = some_poses(3), np.random.default_rng(0).normal(size=(7, 3))
    lps = points * [-1, -1, 1]
    np.testing.assert_allclose(to_lps(transform).map(lps), transform.map(points) * [-1, -1, 1], atol=1e-12)
    np.testing.assert_allclose(to_lps(to_lps(transform)).matrix, transform.matrix)
