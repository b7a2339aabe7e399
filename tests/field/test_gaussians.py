"""The volume is a sum of anisotropic Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from slicesplat.field.gaussians import GaussianField, rotation_matrices


@pytest.fixture
def field() -> GaussianField:
    rng = np.random.default_rng(5)
    n = 12
    parameters = (rng.uniform(-5, 5, (n, 3)), rng.uniform(-1, 1.5, (n, 3)), rng.normal(size=(n, 4)), rng.normal(size=n))
    return GaussianField(*map(torch.from_numpy, parameters))


def test_quaternions_are_scalar_first_and_of_any_length(field: GaussianField) -> None:
    expected = Rotation.from_quat(field.rotations.numpy(), scalar_first=True).as_matrix()
    for length in (1.0, 1e-3, 40.0):
        np.testing.assert_allclose(rotation_matrices(length * field.rotations).numpy(), expected, atol=1e-14)


def test_covariances_are_symmetric_and_positive(field: GaussianField) -> None:
    covariances = field.covariances()
    np.testing.assert_allclose(covariances, covariances.mT, rtol=0, atol=1e-13)
    variances = torch.linalg.eigvalsh(covariances)
    expected = (2 * field.log_scales).exp().sort(dim=-1).values
    np.testing.assert_allclose(variances, expected, rtol=1e-10)


def test_a_gaussian_alone_gives_its_amplitude_at_its_mean(field: GaussianField) -> None:
    for j in range(len(field)):
        alone = field.select(torch.tensor([j]))
        assert alone.evaluate(alone.means).item() == pytest.approx(field.amplitudes[j].item())


def test_one_standard_deviation_along_an_axis(field: GaussianField) -> None:
    alone = field.select(torch.tensor([0]))
    axes = rotation_matrices(alone.rotations)[0].T * alone.log_scales[0].exp()[:, None]
    np.testing.assert_allclose(
        alone.evaluate(alone.means + axes), alone.amplitudes.expand(3) * np.exp(-0.5), rtol=1e-12
    )


def test_the_field_is_the_sum_of_its_parts(field: GaussianField) -> None:
    points = torch.from_numpy(np.random.default_rng(6).uniform(-6, 6, (20, 3)))
    parts = [field.select(torch.arange(5)), field.select(torch.arange(5, 12))]
    np.testing.assert_allclose(sum(part.evaluate(points) for part in parts), field.evaluate(points), atol=1e-14)
    whole = GaussianField.concatenate(parts)
    assert all(torch.equal(value, field.tensors()[name]) for name, value in whole.tensors().items())
