"""Rotations are what SciPy's are, also where formulas divide by nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from slicesplat.geometry import rotations

PI = np.pi


def vectors() -> NDArray[np.float64]:
    """Rotation vectors (n, 3): any, tiny, none at all, and about half a turn."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(40, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    lengths = [0.0, 1e-300, 1e-12, 1e-6, 1e-4, 1.9e-4, 2.1e-4, 0.1, 1.0, 2.0, PI - 1e-3, PI - 1e-9]
    return np.concatenate([axes * np.resize(lengths, 40)[:, None], np.eye(3) * (PI - 1e-7)])


def test_quaternions_and_matrices_of_vectors_are_scipys() -> None:
    quaternions = rotations.quaternions_of_vectors(vectors())
    expected = Rotation.from_rotvec(vectors())
    np.testing.assert_allclose(quaternions, expected.as_quat(scalar_first=True), atol=1e-15)
    np.testing.assert_allclose(rotations.matrices_of_quaternions(quaternions), expected.as_matrix(), atol=1e-15)
    np.testing.assert_allclose(rotations.matrices_of_quaternions(3.0 * quaternions), expected.as_matrix(), atol=1e-15)


def test_vectors_come_back_from_quaternions_of_either_sign_and_any_length() -> None:
    quaternions = rotations.quaternions_of_vectors(vectors())
    for factor in (1.0, -1.0, 7.0):
        np.testing.assert_allclose(rotations.vectors_of_quaternions(factor * quaternions), vectors(), atol=1e-14)


def test_quaternions_of_matrices_give_the_matrices_back() -> None:
    matrices = Rotation.from_rotvec(vectors()).as_matrix()
    quaternions = rotations.quaternions_of_matrices(matrices)
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1.0, atol=1e-15)
    np.testing.assert_allclose(rotations.matrices_of_quaternions(quaternions), matrices, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_leading_axes_are_kept(shape: tuple[int, ...]) -> None:
    some = np.random.default_rng(1).normal(0, 0.5, (*shape, 3))
    quaternions = rotations.quaternions_of_vectors(some)
    again = rotations.quaternions_of_matrices(rotations.matrices_of_quaternions(quaternions))
    assert quaternions.shape == again.shape == (*shape, 4)
    np.testing.assert_allclose(rotations.vectors_of_quaternions(again), some, atol=1e-14)


def test_product_is_one_after_the_other() -> None:
    one, other = (Rotation.from_rotvec(some) for some in np.random.default_rng(2).normal(size=(2, 9, 3)))
    found = rotations.product(one.as_quat(scalar_first=True), other.as_quat(scalar_first=True))
    np.testing.assert_allclose(
        rotations.matrices_of_quaternions(found), one.as_matrix() @ other.as_matrix(), atol=1e-14
    )


def test_mean_is_scipys_whatever_the_signs() -> None:
    some = Rotation.from_rotvec(np.random.default_rng(3).normal(0, 0.3, (12, 3)))
    weights = np.arange(1.0, 13.0)
    quaternions = some.as_quat(scalar_first=True) * np.resize([1.0, -1.0], 12)[:, None]
    found = rotations.matrices_of_quaternions(rotations.mean_quaternion(quaternions, weights))
    np.testing.assert_allclose(found, some.mean(weights).as_matrix(), atol=1e-13)


@pytest.mark.parametrize("planar", [False, True])
def test_kabsch_is_a_rotation_also_of_points_in_a_plane_and_of_a_mirror_image(planar: bool) -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(20, 3)) * ([1, 1, 0] if planar else [1, 1, 1])
    turn = Rotation.from_rotvec([0.4, -1.0, 2.0]).as_matrix()
    np.testing.assert_allclose(rotations.kabsch(points, points @ turn.T), turn, atol=1e-12)
    mirrored = rotations.kabsch(points, points * [1, 1, -1])
    assert np.linalg.det(mirrored) == pytest.approx(1.0)


def test_rotations_cover_all_of_them_evenly() -> None:
    turns = rotations.uniform_rotations(2000)
    np.testing.assert_allclose(turns.swapaxes(1, 2) @ turns, np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    assert np.linalg.det(turns) == pytest.approx(1.0)
    some = Rotation.random(200, random_state=0).as_matrix()
    cosine = (np.einsum("aij,bij->ab", some, turns) - 1) / 2
    nearest = np.degrees(np.arccos(np.clip(cosine.max(axis=1), -1, 1)))
    assert nearest.max() < 20
