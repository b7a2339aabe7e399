"""The spectrum of the anatomy is found in the slices that show it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slicesplat.estimate.spectrum import Spectrum, interior, measure_spectrum
from slicesplat.estimate.uncertainty import Box
from slicesplat.geometry.slices import cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.likelihood.robust import initial_weights


def test_spectrum_gives_the_variance_of_the_closed_form() -> None:
    # Without blur the covariance is exponential: s^2 / (8 pi kappa) exp(-kappa r).
    assert Spectrum(1.0, 0.5, 0.0).variance() == pytest.approx(1 / (8 * np.pi * 0.5), rel=0.01)
    assert Spectrum(1.0, 0.5, 1.0).variance() < Spectrum(1.0, 0.5, 0.2).variance()


@pytest.mark.parametrize("blur", [0.3, 0.9])
def test_spectrum_of_random_tissue_is_found_in_its_slices(blur: float) -> None:
    truth = Spectrum(0.3, 0.5, blur)
    random = np.random.default_rng(4)
    box = Box(1.0, np.zeros(3), (72, 72, 72))
    axes = box.frequencies()
    square = axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2
    thickness, pixel = 3.0, 0.6
    seen = np.exp(-0.5 * (pixel**2 * (axes[0] ** 2 + axes[1] ** 2) + (thickness / 2.355) ** 2 * axes[2] ** 2))
    white = random.standard_normal(box.shape, dtype=np.float32) * np.float32(truth.strength**0.5)
    tissue = 1.0 + box.filtered(white, (truth.root(square) * seen).astype(np.float32))
    data = tissue + random.normal(0, 0.02, box.shape)
    stack = Stack(data.astype(np.float32), np.ones(box.shape, bool), np.eye(4), thickness)
    slices = cut_slices([stack])
    slices.psf_covariances[:, :, :2] = pixel**2
    weights = initial_weights(slices, torch.from_numpy(slices.mask))
    found = measure_spectrum(slices, weights, interior(slices, weights))
    assert found is not None
    # What can be told is the spectrum where slices show it, not each parameter.
    k = np.linspace(1.0, 2.0, 6)
    power = [s.strength * s.root(k**2) ** 2 for s in (found, truth)]
    assert power[0] == pytest.approx(power[1], rel=0.3)
