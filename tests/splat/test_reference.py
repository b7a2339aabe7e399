"""The definition of the forward model is the convolution that it says, and its gradients are its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import assert_close, definition, scene, stack

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.slices import cut_slices
from slicesplat.splat import reference


@pytest.mark.parametrize("profile", ["gaussian", "box"])
def test_convolved_gaussian_equals_quadrature(profile: SliceProfile) -> None:
    slices, parameters = scene(profile, n=1)
    field, (turns, shifts, gains) = GaussianField(*parameters[:4]), parameters[4:]
    observed = definition(slices, parameters, float("inf"))
    s, weights = 1, slices.psf_weights[1]
    pixels = slices.plane_points(s, inside=False)[::37]
    expected = np.zeros(len(pixels))
    for weight, variance, through in zip(weights, slices.psf_covariances[s], slices.psf_offsets[s], strict=True):
        sigma = np.sqrt(variance)
        # The trapezoidal rule on a Gaussian converges faster than any power: a third of the standard deviation and 6 of
        # them to each side leave less than 1e-8.
        steps = np.arange(-18, 19) / 3.0
        offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        density = np.exp(-0.5 * (offsets**2).sum(1)) / (2 * np.pi) ** 1.5 / 27
        for i, pixel in enumerate(pixels):
            world = torch.from_numpy(pixel + [0.0, 0.0, through] + offsets * sigma) @ turns[s].T + shifts[s]
            expected[i] += weight * (field.evaluate(world).numpy() @ density)
    first = slices.offset[s]
    actual = observed[first : slices.offset[s + 1]][::37].numpy()
    assert_close(actual, gains[s].item() * expected, 1e-7)


def test_a_box_is_the_mean_over_the_thickness_of_the_slice() -> None:
    thickness = 3.0
    slices = cut_slices([stack((14, 11, 3), (1.1, 1.0, thickness), [0.3, -0.2, 0.5], 7.0)], "box", margin=1)
    rng = np.random.default_rng(9)
    # As sharp as the lattice of the fit for such pixels, 0.7 mm, and oblique.
    values = (rng.normal(size=(20, 3)) * 3, rng.uniform(np.log(0.7), np.log(1.4), (20, 3)), rng.normal(size=(20, 4)))
    field = GaussianField(*map(torch.from_numpy, (*values, rng.normal(size=20))))
    turns, shifts = torch.from_numpy(slices.pose.rotation), torch.from_numpy(slices.pose.translation)
    gains = torch.ones(len(slices), dtype=torch.float64)
    observed = reference.render(field, turns, shifts, gains, slices)
    # Planes without thickness, by the midpoint rule.
    planes = replace(
        slices,
        psf_weights=np.ones((len(slices), 1)),
        psf_covariances=slices.psf_covariances[:, :1] * [1.0, 1.0, 0.0],
        psf_offsets=np.zeros((len(slices), 1)),
    )
    depths = thickness * ((np.arange(32) + 0.5) / 32 - 0.5)
    expected = sum(reference.render(field, turns, shifts + z * turns[:, :, 2], gains, planes) for z in depths) / 32
    # Three Gaussians of one centre, which were the box before, are off by 4 % of the largest pixel.
    assert_close(observed, expected, 2e-3)


def test_gradients_of_the_definition() -> None:
    slices, parameters = scene(n=2)
    few = slices.take(np.array([0, 3]))
    leaves = [p.clone() for p in parameters]
    leaves[4:] = [p[[0, 3]] for p in leaves[4:]]
    leaves = [p.requires_grad_() for p in leaves]
    assert torch.autograd.gradcheck(lambda *p: definition(few, p, float("inf"))[::41], leaves)
