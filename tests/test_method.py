"""The formulas of docs/method.md are those of the definition: written down as there, held to `splat/reference.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.splat import reference

Float = NDArray[np.float64]
AXES = np.eye(3)


def cross(w: Float) -> Float:
    """The matrix of the cross product with w."""
    return -np.cross(AXES, w).T


@dataclass(frozen=True)
class Pair:
    """One Gaussian and one slice, and what docs/method.md has names for."""

    slices: Slices
    field: GaussianField
    turn: Float  # R_s
    shift: Float  # t_s
    gain: float

    @classmethod
    def made(cls, profile: SliceProfile) -> Pair:
        affine, shape = np.diag([1.1, 0.9, 3.0, 1.0]), (9, 7, 1)
        stack = Stack(np.zeros(shape, np.float32), np.ones(shape, bool), affine, 3.0)
        rng = np.random.default_rng(4)
        values = (rng.normal([[4.0, 3.0, 0.5]]), rng.normal(size=(1, 3)) * 0.4, rng.normal(size=(1, 4)))
        field = GaussianField(*(torch.from_numpy(value) for value in values), torch.tensor([1.7], dtype=torch.float64))
        turn = Rotation.from_rotvec([0.4, -0.7, 0.3]).as_matrix()
        shift = field.means[0].numpy() - turn @ [0.3, -0.2, 0.8]
        return cls(cut_slices([stack], profile, margin=0), field, turn, shift, 1.3)

    def rendered(self, field: GaussianField, turn: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return reference.render(
            field, turn[None], shift[None], torch.tensor([self.gain], dtype=torch.float64), self.slices
        )

    def components(self) -> list[tuple[float, Float, float]]:
        return list(
            zip(self.slices.psf_weights[0], self.slices.psf_covariances[0], self.slices.psf_offsets[0], strict=True)
        )

    def geometry(self, blur: Float, offset: float) -> tuple[Float, Float, Float, float, Float]:
        """m, M, P, A and d of every pixel."""
        covariance = self.field.covariances()[0].numpy()
        m = self.turn.T @ (self.field.means[0].numpy() - self.shift)
        own = self.turn.T @ covariance @ self.turn
        blurred = own + np.diag(blur)
        amplitude = float(self.field.amplitudes[0]) * np.sqrt(np.linalg.det(covariance) / np.linalg.det(blurred))
        distance = self.slices.plane_points(0) - (m - np.array([0.0, 0.0, offset]))
        return m, own, np.linalg.inv(blurred), amplitude, distance


@pytest.fixture(params=["gaussian", "box"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair.made(request.param)


def test_completing_the_square_leaves_a_gaussian_in_the_plane(pair: Pair) -> None:
    for _, blur, offset in pair.components():
        _, own, precision, _, d = pair.geometry(blur, offset)
        blurred = own + np.diag(blur)
        z, tilt = d[0, 2], blurred[:2, 2] / blurred[2, 2]
        rho = d[:, :2] - tilt * z
        plane = np.linalg.inv(blurred[:2, :2] - np.outer(tilt, blurred[2, :2]))
        square = z**2 / blurred[2, 2] + np.einsum("pi,ij,pj->p", rho, plane, rho)
        np.testing.assert_allclose(square, np.einsum("pi,ij,pj->p", d, precision, d), rtol=1e-10)


def test_six_moments_give_every_gradient(pair: Pair) -> None:
    upstream = np.random.default_rng(5).normal(size=len(pair.slices.pixels))
    leaves = [value.clone().requires_grad_() for value in pair.field.tensors().values()]
    pose = [torch.from_numpy(value).requires_grad_() for value in (pair.turn, pair.shift)]
    (pair.rendered(GaussianField(*leaves), *pose) @ torch.from_numpy(upstream)).backward()

    a = float(pair.field.amplitudes[0])
    scales = np.exp(2 * pair.field.log_scales[0].numpy())
    spin = Rotation.from_quat(pair.field.rotations[0].numpy(), scalar_first=True).as_matrix()
    by_a, by_mean, by_scales, by_turn, by_spin = 0.0, np.zeros(3), np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3))
    for weight, blur, offset in pair.components():
        m, own, p, amplitude, d = pair.geometry(blur, offset)
        eta = pair.gain * weight * upstream
        he, z = eta * np.exp(-0.5 * np.einsum("pi,ij,pj->p", d, p, d)), d[0, 2]
        m0, (mu, mv) = he.sum(), he @ d[:, :2]
        muu, muv, mvv = he @ d[:, 0] ** 2, he @ (d[:, 0] * d[:, 1]), he @ d[:, 1] ** 2
        m1 = np.array([mu, mv, z * m0])
        m2 = np.array([[muu, muv, z * mu], [muv, mvv, z * mv], [z * mu, z * mv, z * z * m0]])
        q, b = amplitude * p @ m1, amplitude / 2 * (p @ m2 @ p - m0 * p)
        e = pair.turn @ b @ pair.turn.T
        by_a += amplitude / a * m0
        by_mean += pair.turn @ q
        by_turn += pair.turn @ (np.outer(m, q) + 2 * own @ b)
        by_scales += 2 * scales * np.diag(spin.T @ e @ spin) + amplitude * m0
        by_spin += 2 * e @ spin @ np.diag(scales)
    means, log_scales, rotations, amplitudes = (leaf.grad.numpy()[0] for leaf in leaves)  # type: ignore[union-attr]
    np.testing.assert_allclose(amplitudes, by_a, rtol=1e-9)
    np.testing.assert_allclose(means, by_mean, rtol=1e-9)
    np.testing.assert_allclose(log_scales, by_scales, rtol=1e-9)
    np.testing.assert_allclose(pose[0].grad.numpy(), by_turn, rtol=1e-8)  # type: ignore[union-attr]
    np.testing.assert_allclose(pose[1].grad.numpy(), -by_mean, rtol=1e-9)  # type: ignore[union-attr]
    # A quaternion's gradient is that by its rotation, taken along the rotations that it can make.
    unit = pair.field.rotations[0].numpy() / np.linalg.norm(pair.field.rotations[0].numpy())
    for axis in AXES:
        w, x = unit[0], unit[1:]
        along = 0.5 * np.array([-axis @ x, *(w * axis + np.cross(axis, x))])
        turned = np.sum(by_spin * (cross(axis) @ spin))
        found = rotations @ along * np.linalg.norm(pair.field.rotations[0].numpy())
        np.testing.assert_allclose(found, turned, rtol=1e-8)
    assert abs(rotations @ unit) < 1e-12 * np.linalg.norm(rotations)


def test_pose_derivatives_are_those_of_a_step_in_the_slice_frame(pair: Pair) -> None:
    expected = np.zeros((6, len(pair.slices.pixels)))
    for weight, blur, offset in pair.components():
        m, own, p, amplitude, d = pair.geometry(blur, offset)
        f = pair.gain * weight * amplitude * np.exp(-0.5 * np.einsum("pi,ij,pj->p", d, p, d))
        n = d @ p
        trace = np.array([np.trace(p @ own @ cross(axis)) for axis in AXES])
        by_w = -np.cross(m, n) + np.cross(n, n @ own) - trace
        expected += np.concatenate([-n.T, by_w.T]) * f
    step = 1e-5
    for k, direction in enumerate(np.eye(6)):
        ahead, behind = (
            pair.rendered(
                pair.field,
                torch.from_numpy(pair.turn @ Rotation.from_rotvec(side * step * direction[3:]).as_matrix()),
                torch.from_numpy(pair.shift + pair.turn @ (side * step * direction[:3])),
            ).numpy()
            for side in (1, -1)
        )
        difference = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(difference, expected[k], atol=1e-8 * np.abs(expected).max())
