"""Noise is measured ahead of any fit, and it is known where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brains import phantom, still_slices
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.likelihood.noise import Noise, measured_noise, noise_level, noise_response, whiteness
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.validation.simulate import SimulationConfig, simulate


def noisy(seed: int = 0) -> Slices:
    noise = np.random.default_rng(seed).normal(0, 0.1, len(still_slices().pixels))
    return replace(still_slices(), pixels=noise.astype(np.float32))


def zero_filled(image: NDArray) -> NDArray:
    """Twice as many pixels along each side, zeros around what was measured in k-space."""
    rows, columns = image.shape
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    wide = np.zeros((2 * rows, 2 * columns), complex)
    first = (rows - rows // 2, columns - columns // 2)
    wide[first[0] : first[0] + rows, first[1] : first[1] + columns] = spectrum
    return np.abs(np.fft.ifft2(np.fft.ifftshift(wide))) * 4


def interpolated(stack: Stack) -> Stack:
    """A stack with pixels of half the size, as scanners show it."""
    data = np.stack([zero_filled(stack.data[:, :, k]) for k in range(stack.n_slices)], axis=2)
    affine = stack.affine @ np.diag([0.5, 0.5, 1.0, 1.0])
    return replace(stack, data=data.astype(np.float32), mask=stack.mask.repeat(2, 0).repeat(2, 1), affine=affine)


def measured(stacks: list[Stack]) -> Noise:
    slices = cut_slices(scale_intensities(stacks)[0])
    return measured_noise(slices, torch.from_numpy(slices.mask))


def scanned() -> list[Stack]:
    config = SimulationConfig(motion="none", pixel=1.2, spacing=2.6, thickness=2.5, noise=0.04, dropout=0.0, seed=2)
    return simulate(*phantom(), config).stacks


def test_noise_is_measured_ahead_of_the_fit_and_anatomy_hardly_adds_to_it() -> None:
    slices = still_slices()
    inside = torch.from_numpy(slices.mask)
    assert 0.015 < noise_level(slices, inside) < 0.04
    assert noise_level(noisy(), inside) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("spread", [1, 2])
def test_white_noise_has_one_level_at_any_distance_and_is_seen_as_white(spread: int) -> None:
    slices = noisy()
    # Not at the rim, where pixels are repeated.
    inside = torch.from_numpy(slices.mask)
    assert noise_level(slices, inside, spread=spread) == pytest.approx(0.1, rel=0.05)
    assert whiteness(slices, inside, spread=spread) == pytest.approx(-2 / 3, abs=0.05)


def test_spread_stencil_has_its_entries_further_apart() -> None:
    point = torch.zeros(5, 5)
    point[2, 2] = 1.0
    assert noise_response(point, 2)[::2, ::2].tolist() == [[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]
    assert noise_response(point, 2)[1::2].abs().sum() == 0


def test_noise_of_interpolated_stacks_is_that_of_the_pixels_that_were_measured() -> None:
    plain, filled = measured(scanned()), measured([interpolated(stack) for stack in scanned()])
    assert (plain.known, plain.reach) == (True, 1)
    assert (filled.known, filled.reach) == (True, 2)
    assert filled.sigma == pytest.approx(plain.sigma, rel=0.15)
    # Four pixels that share one noise value tell as much as one.
    assert filled.independent == pytest.approx(2 * filled.sigma)
    assert plain.independent == plain.sigma


@pytest.mark.parametrize("change", [lambda x: gaussian_filter(x, [0.8, 0.8, 0]), lambda x: zoom(x, [2, 2, 1], order=1)])
def test_noise_that_was_filtered_is_not_known(change) -> None:
    def changed(stack: Stack) -> Stack:
        data = change(stack.data).astype(np.float32)
        size = data.shape[0] // stack.data.shape[0]
        return replace(
            stack,
            data=data,
            mask=stack.mask.repeat(size, 0).repeat(size, 1),
            affine=stack.affine @ np.diag([1 / size, 1 / size, 1, 1]),
        )

    assert not measured([changed(stack) for stack in scanned()]).known


def test_without_noise_or_pixels_it_counts_as_white() -> None:
    slices = still_slices()
    silent = replace(slices, pixels=np.ones_like(slices.pixels))
    assert measured_noise(silent, torch.from_numpy(slices.mask)) == Noise(0.0)
    assert measured_noise(slices, torch.zeros(len(slices.pixels), dtype=torch.bool)) == Noise(0.0)
