"""Fields are found from what the prediction leaves unexplained; what they share only where the slices moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brains import still_slices
from numpy.typing import NDArray

from slicesplat.config import BiasFieldSettings
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.likelihood.bias_field import BiasField, even_bias_field, pixel_points
from slicesplat.likelihood.bias_step import bias_step

SETTINGS = BiasFieldSettings()
SIGMA = 0.03


def points(slices: Slices, moved: bool = False) -> NDArray:
    pose = slices.pose if moved else slices.frame
    return np.stack([axis.numpy() for axis in pixel_points(slices, pose, torch.device("cpu"))], axis=1)


def tissue(at: NDArray) -> NDArray:
    """Something with structure at positions (n, 3) mm, between 0.4 and 1."""
    return np.asarray(0.7 + 0.3 * np.sin(at / 3.0 + np.array([0.0, 1.0, 2.0])).prod(axis=1))


def owner(slices: Slices) -> NDArray:
    return np.asarray(slices.stack[slices.slice_of_pixel()])


def own_light(slices: Slices) -> NDArray:
    """(P,) logarithms of a field for each stack, that have nothing in common."""
    x, y, z = (points(slices) / 20).T
    fields = np.stack([0.1 * x + 0.05 * y * z, 0.06 * z * z - 0.08 * x * y, 0.1 * y], axis=1)
    fields -= fields.mean(axis=1, keepdims=True)
    return np.asarray(np.take_along_axis(fields, owner(slices)[:, None], axis=1)[:, 0])


def shared_light(at: NDArray) -> NDArray:
    return np.asarray(0.1 * at[:, 1] / 20)


def fitted(slices: Slices, log: NDArray, shared: bool = False, noise: float = SIGMA) -> tuple[BiasField, NDArray]:
    """The fields of tissue that is lit like this, and what is then left of the volume's light, at the pixels.

    The volume has what stacks share to begin with, as the field of a reconstruction does, and goes with the fields.
    """
    truth, at = tissue(points(slices, moved=True)), points(slices, moved=True)
    noisy = truth * np.exp(log)
    noisy = noisy + np.random.default_rng(0).normal(0, noise, len(truth))
    pixels, inside = torch.from_numpy(noisy.astype(np.float32)), torch.from_numpy(slices.mask)
    found, weights = even_bias_field(slices, inside, SETTINGS), inside.float()
    volume, gain = shared * shared_light(at), flat_gains(slices)
    for _ in range(4):
        image = torch.from_numpy((truth * np.exp(volume)).astype(np.float32))
        steps, factor = bias_step(found, slices, pixels, found.pixel * image, weights, gain, noise, SETTINGS)
        found = found.plus(slices, steps)
        volume = volume + (found.basis.at(at) - found.level) @ factor
    return found, volume


def flat_gains(slices: Slices) -> NDArray:
    return np.ones(len(slices))


def tossed(slices: Slices) -> Slices:
    """The slices moved by up to ten degrees and some mm."""
    steps = np.random.default_rng(5).normal(0, 1, (len(slices), 6)) * [4, 4, 4, 0.15, 0.15, 0.15]
    return slices.moved(Rigid.exp(steps))


def test_fields_of_single_stacks_are_found_from_noisy_pixels() -> None:
    slices = still_slices()
    log = own_light(slices)
    found, _ = fitted(slices, log)
    error, place = np.log(found.pixel.numpy()) - log, slices.slice_of_pixel()
    # Profiles along a stack may be those of the slices' gains.
    inside = np.bincount(place, slices.mask)
    error -= (np.bincount(place, error * slices.mask) / inside)[place]
    assert np.std(error[slices.mask]) < 0.15 * np.std(log[slices.mask])


def test_what_stacks_share_is_left_to_the_volume_where_nothing_moved() -> None:
    slices = still_slices()
    found, volume = fitted(slices, shared_light(points(slices)), shared=True)
    assert np.abs(np.log(found.pixel.numpy()[slices.mask])).max() < 0.015
    assert np.std(volume[slices.mask]) > 0.9 * np.std(shared_light(points(slices))[slices.mask])


def test_what_stacks_share_is_found_by_motion() -> None:
    slices = tossed(still_slices())
    log = shared_light(points(slices))
    found, volume = fitted(slices, log, shared=True, noise=0.005)
    assert np.std(volume[slices.mask]) < 0.2 * np.std(log[slices.mask])
    assert np.std((np.log(found.pixel.numpy()) - log)[slices.mask]) < 0.2 * np.std(log[slices.mask])


def test_even_pixels_keep_even_fields() -> None:
    slices = tossed(still_slices())
    found, _ = fitted(slices, np.zeros(len(slices.pixels)))
    assert found.ratios(slices).max() < 1.05


def test_stack_that_is_not_trusted_gets_no_field() -> None:
    slices = still_slices()
    even = even_bias_field(slices, torch.from_numpy(slices.mask), SETTINGS)
    pixels = torch.from_numpy((tissue(points(slices)) * np.exp(own_light(slices))).astype(np.float32))
    image = torch.from_numpy(tissue(points(slices)).astype(np.float32))
    weights = torch.from_numpy((slices.mask & (owner(slices) != 2)).astype(np.float32))
    steps, volume = bias_step(even, slices, pixels, image, weights, flat_gains(slices), SIGMA, SETTINGS)
    assert np.isfinite(volume).all()
    assert np.abs(steps[2]).max() == pytest.approx(0.0, abs=1e-9)
    assert np.abs(steps[:2]).max() > 0.02


def test_step_does_not_depend_on_the_unit_of_the_pixels() -> None:
    slices = still_slices()
    even = even_bias_field(slices, torch.from_numpy(slices.mask), replace(SETTINGS, degree=1))
    image = torch.from_numpy(tissue(points(slices)).astype(np.float32))
    pixels, weights = (
        image * torch.from_numpy(np.exp(own_light(slices)).astype(np.float32)),
        torch.from_numpy(slices.mask).float(),
    )
    one, other = (
        bias_step(even, slices, unit * pixels, unit * image, weights, flat_gains(slices), unit * SIGMA, SETTINGS)
        for unit in (1.0, 2.0)
    )
    np.testing.assert_allclose(one[0], other[0], atol=1e-9)
