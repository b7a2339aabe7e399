"""Noise is measured ahead of any fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brains import still_slices

from slicesplat.likelihood.noise import noise_level


def test_noise_is_measured_ahead_of_the_fit_and_anatomy_hardly_adds_to_it() -> None:
    slices = still_slices()
    inside = torch.from_numpy(slices.mask)
    measured = noise_level(slices, inside)
    assert 0.015 < measured < 0.04
    noise = np.random.default_rng(0).normal(0, 0.1, len(slices.pixels)).astype(np.float32)
    assert noise_level(replace(slices, pixels=noise), inside) == pytest.approx(0.1, rel=0.05)
