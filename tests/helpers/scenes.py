"""Slices and Gaussians that every backend is tried on, and what is expected of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.splat import Backend, ForwardModel, reference

NAMES = ("means", "log_scales", "rotations", "amplitudes", "slice rotations", "translations", "gains")
Parameters = tuple[torch.Tensor, ...]
"""Tensors float64 in the order of NAMES."""

# Pixels are summed in float32 and exp is good to 3e-6: relative to the largest pixel, whose terms do not cancel.
VALUE = 1e-5
# Moments cancel where upstream changes its sign, so their rounding weighs more than a pixel's.
GRADIENT = 5e-5
POSES = 2  # where `everything` has the gradients of the poses


def stack(size: tuple[int, int, int], spacing: tuple[float, float, float], turn: list[float], radius: float) -> Stack:
    """A stack about the world's origin, turned by a rotation vector, with an ellipsoid for its mask."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(turn).as_matrix() * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2)
    index = np.indices(size).reshape(3, -1).T
    mask = (np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3], axis=1) < radius).reshape(size)
    return Stack(np.zeros(size, np.float32), mask, affine, spacing[2])


def scene(profile: SliceProfile = "gaussian", n: int = 16, seed: int = 1) -> tuple[Slices, Parameters]:
    """Slices of two stacks of different size and oblique orientation, and parameters in the order of NAMES."""
    first = stack((14, 11, 3), (1.1, 1.0, 3.0), [0.3, -0.2, 0.5], 7.0)
    second = stack((9, 16, 2), (0.9, 1.3, 4.0), [1.2, 0.6, -0.4], 8.0)
    slices = cut_slices([first, second], profile, margin=1)
    if profile == "box":
        # Off centre: a symmetric profile does not tell one side of the slice from the other.
        slices = replace(slices, psf_offsets=slices.psf_offsets + 0.4)
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(rng.normal(size=(len(slices), 3)) * 0.1).as_matrix()
    values = (
        rng.normal(size=(n, 3)) * 4.0,
        rng.uniform(-0.7, 1.1, (n, 3)),
        rng.normal(size=(n, 4)) * 2.0,
        rng.normal(size=n),
        turn @ slices.frame.rotation,
        slices.frame.translation + rng.normal(size=(len(slices), 3)) * 0.5,
        rng.uniform(0.5, 1.5, len(slices)),
    )
    return slices, tuple(map(torch.from_numpy, values))


def round_scene(profile: SliceProfile = "gaussian", n: int = 16) -> tuple[Slices, Parameters]:
    """The same with round Gaussians, of different sizes, and a PSF that is round in plane."""
    slices, (means, log_scales, *others) = scene(profile, n)
    covariances = slices.psf_covariances.copy()
    covariances[..., :2] = covariances[..., :2].mean(axis=-1, keepdims=True)
    return replace(slices, psf_covariances=covariances), (means, log_scales[:, :1].repeat(1, 3), *others)


def lattice_scene(profile: SliceProfile = "gaussian", n: int = 16) -> tuple[Slices, Parameters]:
    """The same with Gaussians as small as a lattice's, some of them beside and beyond the images."""
    slices, (means, log_scales, *others) = round_scene(profile, 4 * n)
    return slices, (means * 1.5, log_scales.clamp(max=-0.4), *others)


def nearly_round_scene(profile: SliceProfile = "gaussian", n: int = 16) -> tuple[Slices, Parameters]:
    """The same with a PSF whose two widths differ as pixel sizes in single precision do."""
    slices, parameters = round_scene(profile, n)
    covariances = slices.psf_covariances.copy()
    covariances[..., 0] *= 1 + 1e-6
    return replace(slices, psf_covariances=covariances), parameters


def affordable(backend: Backend, slices: Slices, parameters: Parameters) -> tuple[Slices, Parameters]:
    """For the interpreter, whose time goes with the tiles, one slice of each stack, of several tiles; else all."""
    if backend.name != "interpreter":
        return slices, parameters
    some = np.array([0, len(slices) - 1])
    return slices.take(some), (*parameters[:4], *(values[some] for values in parameters[4:]))


def definition(slices: Slices, parameters: Parameters, cutoff: float) -> torch.Tensor:
    """The pixels (P,) that `splat.reference` gives."""
    return reference.render(GaussianField(*parameters[:4]), *parameters[4:], slices, cutoff)


def tensors(device: torch.device, *values: Any, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """The values as tensors on the device."""
    return [torch.as_tensor(np.asarray(value), dtype=dtype).to(device) for value in values]


def array(value: Any) -> np.ndarray:
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def place(made: ForwardModel, parameters: Parameters, **policy: bool) -> None:
    """Set the geometry from the parameters."""
    means, log_scales, rotations, _, turns, translations, _ = tensors(made.device, *parameters)
    made.set_geometry(means, log_scales, rotations, turns, translations, **policy)


def everything(made: ForwardModel, parameters: Parameters) -> list[np.ndarray]:
    """Every number that a forward model gives for Gaussians and poses that are in place."""
    amplitudes, gains = tensors(made.device, parameters[3], parameters[6])
    rng, pixels = np.random.default_rng(3), made.pixels
    (upstream,) = tensors(made.device, rng.normal(size=pixels), dtype=torch.float32)
    observed, weights = tensors(made.device, rng.normal(size=pixels), rng.uniform(size=pixels), dtype=torch.float32)
    (scale,) = tensors(made.device, np.full(len(gains), 2.0))
    results = [made.apply(amplitudes, gains), *made.vjp(upstream, amplitudes, gains)]
    results += [made.adjoint(upstream, gains), made.pose_jacobian(amplitudes)]
    given = (amplitudes, gains, observed, weights, scale)
    return [array(r).copy() for r in [*results, *made.pose_normal_equations(*given), *made.misfits(*given)]]


def assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Within `tolerance` of the largest expected number."""
    actual, expected = array(actual), array(expected)
    assert actual.shape == expected.shape
    if expected.size:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-30))
