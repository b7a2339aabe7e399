"""Every backend that is present gives the numbers of the definition, `splat/reference.py`, in value and gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scenes import (
    GRADIENT,
    NAMES,
    VALUE,
    Parameters,
    affordable,
    array,
    assert_close,
    definition,
    lattice_scene,
    place,
    scene,
    tensors,
)

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.slices import Slices
from slicesplat.splat import Backend, render


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
@pytest.mark.parametrize("profile", ["gaussian", "box"])
def test_backend_equals_the_definition(backend: Backend, profile: SliceProfile, cutoff: float) -> None:
    slices, parameters = affordable(backend, *scene(profile, n=12))
    upstream = torch.from_numpy(np.random.default_rng(2).normal(size=slices.offset[-1]))

    leaves = [p.clone().requires_grad_() for p in parameters]
    expected = definition(slices, tuple(leaves), cutoff)
    expected_gradients = torch.autograd.grad(expected, leaves, upstream)

    leaves = [p.requires_grad_() for p in tensors(backend.device, *parameters)]
    actual = render(GaussianField(*leaves[:4]), *leaves[4:], backend.forward_model(slices, cutoff))
    gradients = torch.autograd.grad(actual, leaves, tensors(backend.device, upstream, dtype=torch.float32))

    assert_close(actual.detach(), expected.detach(), VALUE)
    for name, gradient, wanted in zip(NAMES, gradients, expected_gradients, strict=True):
        assert gradient.dtype == wanted.dtype, name
        assert_close(gradient, wanted, GRADIENT)


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
@pytest.mark.parametrize("profile", ["gaussian", "box"])
def test_a_lattice_equals_the_definition(backend: Backend, profile: SliceProfile, cutoff: float) -> None:
    slices, parameters = affordable(backend, *lattice_scene(profile, n=12))
    upstream = torch.from_numpy(np.random.default_rng(2).normal(size=slices.offset[-1]))
    amplitudes = parameters[3].clone().requires_grad_()
    expected = definition(slices, (*parameters[:3], amplitudes, *parameters[4:]), cutoff)
    (expected_gradient,) = torch.autograd.grad(expected, amplitudes, upstream)
    made = backend.forward_model(slices, cutoff)
    place(made, parameters)
    given, gains = tensors(backend.device, parameters[3], parameters[6])
    assert_close(made.apply(given, gains), expected.detach(), VALUE)
    assert_close(made.adjoint(*tensors(backend.device, upstream, dtype=torch.float32), gains), expected_gradient, VALUE)


@pytest.mark.parametrize("case", ["no slice", "no Gaussian", "one Gaussian", "far away"])
def test_edge_cases(backend: Backend, case: str) -> None:
    slices, parameters = affordable(backend, *scene("box", n={"no Gaussian": 0, "one Gaussian": 1}.get(case, 3)))
    if case == "no slice":
        slices = slices.take(np.zeros(0, int))
        parameters = (*parameters[:4], *(p[:0] for p in parameters[4:]))
    if case == "far away":
        parameters = (parameters[0] + 1e4, *parameters[1:])
    expected = definition(slices, parameters, 3.0) if len(slices) else torch.zeros(0)
    made = backend.forward_model(slices, 3.0)
    place(made, parameters)
    amplitudes, gains = tensors(backend.device, parameters[3], parameters[6])
    (upstream,) = tensors(backend.device, np.ones(slices.offset[-1]), dtype=torch.float32)
    assert_close(made.apply(amplitudes, gains), expected, VALUE)
    gaussians, poses = map(array, made.vjp(upstream, amplitudes, gains))
    assert gaussians.shape == (len(amplitudes), 11)
    assert poses.shape == (len(slices), 13)
    assert np.isfinite(gaussians).all()
    assert np.isfinite(poses).all()
    assert array(made.adjoint(upstream, gains)).shape == (len(amplitudes),)
    assert array(made.pose_jacobian(amplitudes)).shape == (7, slices.offset[-1])
    if case in ("no slice", "no Gaussian", "far away"):
        assert made.pairs == 0
        assert not gaussians.any()
        assert not poses.any()


@pytest.mark.parametrize("made_scene", [scene, lattice_scene], ids=["any shape", "lattice"])
def test_adjoint_is_the_transpose(
    backend: Backend, made_scene: Callable[[SliceProfile, int], tuple[Slices, Parameters]]
) -> None:
    slices, parameters = affordable(backend, *made_scene("box", 4))
    made = backend.forward_model(slices, 3.0)
    place(made, parameters)
    amplitudes, gains = tensors(backend.device, parameters[3], parameters[6])
    (upstream,) = tensors(backend.device, np.random.default_rng(7).normal(size=made.pixels), dtype=torch.float32)
    forward, back = array(made.apply(amplitudes, gains)), array(made.adjoint(upstream, gains))
    size = np.linalg.norm(forward) * np.linalg.norm(array(upstream))
    # Rounding of float32 sums; exp is the same function in both directions and cancels.
    assert forward @ array(upstream).astype(float) == pytest.approx(back @ array(amplitudes), abs=float(1e-6 * size))
    # The gradient by the amplitudes is the same map.
    gaussians, _ = made.vjp(upstream, amplitudes, gains)
    assert_close(array(gaussians)[:, 10], back, 1e-5)


def test_a_cutoff_that_the_exponential_does_not_cover_is_refused(backend: Backend) -> None:
    slices, _ = scene(n=1)
    with pytest.raises(ValueError, match=r"cutoff 6\.0 is not in"):
        backend.forward_model(slices, 6.0)


def test_gradients_of_what_is_no_longer_in_place_are_refused(backend: Backend) -> None:
    slices, parameters = scene(n=2)
    leaves = [p.requires_grad_() for p in tensors(backend.device, *parameters)]
    made = backend.forward_model(slices, 3.0)
    first = render(GaussianField(*leaves[:4]), *leaves[4:], made)
    render(GaussianField(*leaves[:4]), *leaves[4:], made)
    with pytest.raises(RuntimeError, match="since this was rendered"):
        first.sum().backward()
