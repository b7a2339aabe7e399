"""Splitting and merging keep what is there; what a merger costs is the integral that it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from balls import some_field
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.mixture import energies, merge, split


def moments(field: GaussianField) -> tuple[Tensor, Tensor, Tensor]:
    """Mass, mean and covariance of the field as a whole."""
    field = field.to(torch.float64)
    masses = field.amplitudes * field.log_scales.sum(dim=1).exp()
    mean = (masses[:, None] * field.means).sum(dim=0) / masses.sum()
    apart = field.means - mean
    spread = field.covariances() + apart[:, :, None] * apart[:, None, :]
    return masses.sum(), mean, (masses[:, None, None] * spread).sum(dim=0) / masses.sum()


def squared(field: GaussianField) -> float:
    """Integral of the square of the field, by a sum over a fine grid."""
    axis = torch.arange(-24.0, 24.01, 0.6)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3).double()
    return float((field.to(torch.float64).evaluate(points) ** 2).sum()) * 0.6**3


def test_split_keeps_mass_mean_and_covariance_and_makes_one_more_of_each() -> None:
    field = some_field(9)
    found = split(field, torch.tensor([1, 4]))
    assert len(found) == 11
    for before, after in zip(moments(field), moments(found), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    # Along its longest axis each half is shorter than the whole.
    assert float(found.log_scales[-1].max()) < float(field.log_scales[4].max())


def test_merge_takes_the_halves_of_a_split_together_again() -> None:
    field = some_field(1)
    halves = split(field, torch.tensor([0]))
    found = merge(halves, most=1e9)
    assert len(found) == 1
    torch.testing.assert_close(found.covariances(), field.covariances(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.means, field.means, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.amplitudes, field.amplitudes, rtol=1e-4, atol=1e-5)


def test_merger_costs_what_the_square_of_the_difference_integrates_to() -> None:
    shape = (
        torch.tensor([[0.2, 0.9, 0.5], [0.4, 0.6, 0.9]]),
        torch.tensor([[1.0, 0.2, 0.1, 0.3], [0.8, -0.3, 0.2, 0.1]]),
    )
    pair = GaussianField(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.5, -0.4]]), *shape, torch.tensor([1.0, 0.7]))
    one = merge(pair, most=1e9)
    assert len(one) == 1
    negative = GaussianField(one.means, one.log_scales, one.rotations, -one.amplitudes)
    cost = squared(GaussianField.concatenate([pair, negative]))
    assert len(merge(pair, most=0.98 * cost)) == 2
    assert len(merge(pair, most=1.02 * cost)) == 1


def test_one_gaussian_that_adds_and_one_that_takes_away_stay_two() -> None:
    field = split(some_field(1), torch.tensor([0]))
    field.amplitudes[1] *= -1
    assert len(merge(field, most=1e9)) == 2


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_merge(count: int) -> None:
    assert len(merge(some_field(3).select(torch.arange(count)), most=1.0)) == count


def test_energy_is_the_integral_of_the_square() -> None:
    field = some_field(4, seed=5)
    for number, energy in enumerate(energies(field)):
        assert float(energy) == pytest.approx(squared(field.select(torch.tensor([number]))), rel=1e-3)


def test_split_is_the_same_whatever_the_order_of_the_rest() -> None:
    field = some_field(5)
    found = split(field, torch.tensor([2]))
    assert np.array_equal(found.amplitudes[:4].numpy(), field.amplitudes[[0, 1, 3, 4]].numpy())
