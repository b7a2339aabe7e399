"""Bias fields are smooth functions of where the scanner put a pixel, and fixed there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brains import still_slices
from numpy.typing import NDArray

from slicesplat.config import BiasFieldSettings
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.bias_field import Basis, divided_by, even_bias_field, pixel_points
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

SETTINGS = BiasFieldSettings()
SIGMA = 0.03
CPU = torch.device("cpu")


def points(slices: Slices) -> NDArray:
    return np.stack([axis.numpy() for axis in pixel_points(slices, slices.frame, CPU)], axis=1)


def test_basis_holds_all_products_up_to_its_degree_and_stays_what_it_is_outside_its_box() -> None:
    basis = Basis.over(np.array([[-10.0, -20, -30], [10, 20, 30]]), 2)
    assert len(basis.orders) == 9
    at = np.array([[5.0, 10.0, -15.0], [10.0, 20.0, 30.0], [70.0, 20.0, 30.0]])
    found = dict(zip(basis.orders, basis.at(at).T, strict=True))
    np.testing.assert_allclose(found[1, 1, 0], [0.25, 1.0, 1.0])
    np.testing.assert_allclose(found[0, 0, 2], [-0.125, 1.0, 1.0])
    torch.testing.assert_close(
        torch.stack(list(basis.terms(*torch.from_numpy(at).T)), 1), torch.from_numpy(basis.at(at))
    )


def test_pixels_are_where_the_scanner_put_them_however_the_slices_moved() -> None:
    slices = still_slices()
    expected = np.concatenate([slices.frame[s].map(slices.plane_points(s, inside=False)) for s in range(len(slices))])
    moved = slices.moved(Rigid.exp(np.full((len(slices), 6), 0.3)))
    np.testing.assert_allclose(points(moved), expected, atol=1e-4)


def test_stack_is_divided_by_the_field_that_its_pixels_have() -> None:
    stacks = simulate(*brain_phantom(40.0, 1.25), SimulationConfig(motion="none", pixel=1.6, spacing=2.6)).stacks
    basis, coefficients = Basis.over(stacks[1].masked_points(), 2), np.linspace(-0.1, 0.1, 9)
    even = divided_by(stacks[1], basis, coefficients, 0.02)
    field = np.exp(basis.at(stacks[1].masked_points()) @ coefficients - 0.02)
    np.testing.assert_allclose(even.data[even.mask] * field, stacks[1].data[even.mask], rtol=1e-4)


def test_field_has_the_values_of_its_polynomial_and_ratios_are_between_its_ends() -> None:
    slices = still_slices()
    even = even_bias_field(slices, torch.from_numpy(slices.mask), BiasFieldSettings())
    assert (even.ratios(slices) == 1.0).all() and (even.pixel == 1.0).all()
    steps = np.zeros((3, 9))
    steps[1, even.basis.orders.index((0, 1, 0))] = 0.1
    log = np.log(even.plus(slices, steps).pixel.numpy())
    stack = slices.stack[slices.slice_of_pixel()]
    assert np.abs(log[stack != 1]).max() == 0
    own = (stack == 1) & slices.mask
    y = points(slices)[own, 1]
    assert np.polyfit(y / even.basis.half[1], log[own], 1)[0] == pytest.approx(0.1, rel=1e-3)
    ratio = np.exp(0.1 * np.ptp(y) / even.basis.half[1])
    np.testing.assert_allclose(even.plus(slices, steps).ratios(slices), [1.0, ratio, 1.0], rtol=1e-3)
