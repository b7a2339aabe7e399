"""Derivatives by the slices' poses are those of the definition, and the systems are those of Gauss and Newton."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scenes import (
    Parameters,
    affordable,
    array,
    assert_close,
    definition,
    lattice_scene,
    nearly_round_scene,
    place,
    round_scene,
    scene,
    tensors,
)
from scipy.spatial.transform import Rotation

from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.slices import Slices
from slicesplat.splat import Backend


def turned_and_shifted(parameters: Parameters, k: int, step: float) -> Parameters:
    """Every slice moved along the k-th unknown of a pose: v (mm), w (rad), in its own frame."""
    turns, translations = parameters[4], parameters[5]
    unit = np.zeros(3)
    unit[k % 3] = step
    if k < 3:
        translations = translations + turns @ torch.from_numpy(unit)
    else:
        turns = turns @ torch.from_numpy(Rotation.from_rotvec(unit).as_matrix())
    return (*parameters[:4], turns, translations, parameters[6])


def numerical_pose_derivatives(slices: Slices, parameters: Parameters) -> np.ndarray:
    """(7, P): central differences of the definition for gain 1, and the image itself.

    Without a cut-off, whose jumps divided by the step would swamp the derivative. Rounding leaves 1e-16 / 1e-4, the
    third derivative 1e-4 squared: both far below what is asked.
    """
    unit = (*parameters[:6], torch.ones_like(parameters[6]))
    rows = []
    for k in range(6):
        ahead, behind = (definition(slices, turned_and_shifted(unit, k, step), float("inf")) for step in (1e-4, -1e-4))
        rows.append((ahead - behind) / 2e-4)
    return torch.stack([*rows, definition(slices, unit, float("inf"))]).numpy()


@pytest.fixture(
    params=[scene, round_scene, nearly_round_scene, lattice_scene],
    ids=["any shape", "round", "nearly round", "lattice"],
)
def made_scene(request: pytest.FixtureRequest) -> Callable[[SliceProfile, int], tuple[Slices, Parameters]]:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("profile", ["gaussian", "box"])
def test_pose_derivatives_equal_differences_of_the_definition(
    backend: Backend, profile: SliceProfile, made_scene: Callable[[SliceProfile, int], tuple[Slices, Parameters]]
) -> None:
    slices, parameters = affordable(backend, *made_scene(profile, 2))
    made = backend.forward_model(slices, 5.0)
    place(made, parameters)
    actual = array(made.pose_jacobian(*tensors(backend.device, parameters[3])))
    for derivative, expected in zip(actual, numerical_pose_derivatives(slices, parameters), strict=True):
        # What the cut-off at 5 leaves out: exp(-12.5) = 4e-6 of a peak, times the degree-two polynomial's size there.
        assert_close(derivative, expected, 1e-4)


@pytest.mark.parametrize("profile", ["gaussian", "box"])
def test_pose_systems_are_gauss_newton(
    backend: Backend, profile: SliceProfile, made_scene: Callable[[SliceProfile, int], tuple[Slices, Parameters]]
) -> None:
    slices, parameters = affordable(backend, *made_scene(profile, 3))
    rng = np.random.default_rng(6)
    observed = rng.normal(size=slices.offset[-1])
    weights = rng.uniform(size=slices.offset[-1]) * (rng.uniform(size=slices.offset[-1]) > 0.2)
    scale = rng.uniform(0.5, 2.0, len(slices))
    made = backend.forward_model(slices, 5.0)
    place(made, parameters)
    amplitudes, gains, scales = tensors(backend.device, parameters[3], parameters[6], scale)
    given = tensors(backend.device, observed, weights, dtype=torch.float32)
    hessian, gradient, cost, sums = map(array, made.pose_normal_equations(amplitudes, gains, *given, scales))
    alone = made.misfits(amplitudes, gains, *given, scales)
    assert_close(array(alone.cost), cost, 1e-5)
    assert_close(array(alone.sums), sums, 1e-5)

    derivative = numerical_pose_derivatives(slices, parameters)
    for s, gain in enumerate(parameters[6].tolist()):
        here = slice(slices.offset[s], slices.offset[s + 1])
        w, p, y = weights[here], observed[here], derivative[6, here]
        rows = np.concatenate([gain * derivative[:6, here], y[None]])
        residual = gain * y - p
        soft = 1 / (1 + (residual / scale[s]) ** 2)
        # As the derivatives: 1e-4 each, twice in the Hessian.
        assert_close(hessian[s], (rows * w * soft**2) @ rows.T, 3e-4)
        assert_close(gradient[s], (rows * w * soft**2) @ residual, 3e-4)
        assert cost[s] == pytest.approx((w * soft * residual**2).sum(), rel=3e-4)
        assert_close(sums[s], np.array([w.sum(), *(w @ x for x in (y, p, y * y, p * p, y * p))]), 3e-4)
