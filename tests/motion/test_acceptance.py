"""A slice is believed when it fits where it makes sense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from balls import full, stepped, three_stacks
from brains import scan

from slicesplat.config import RegistrationSettings
from slicesplat.geometry.slices import cut_slices
from slicesplat.motion.acceptance import least_ncc, out_of_place, slice_weights
from slicesplat.motion.align import Alignment
from slicesplat.prepare.intensity import scale_intensities

LEAST = RegistrationSettings().least_ncc


def test_slice_that_fits_nowhere_is_out_of_place() -> None:
    slices = three_stacks()
    ncc = full(slices, 0.95)
    ncc[4] = 0.2  # shows something else
    ncc[9] = 0.7  # little alike, where it is expected
    ncc[15] = 0.7  # little alike, where nothing is expected; 22 is a jump that fits
    motion = stepped(slices.pose, [15, 22], [9.0, 9.0, 9.0, 0.4, 0.4, 0.4]) @ ~slices.frame
    state = Alignment(motion, full(slices), full(slices, 0.05), ncc)
    assert np.flatnonzero(out_of_place(slices.moved(motion), state, LEAST)).tolist() == [4, 15]


def test_slices_of_noise_are_told_from_sound_slices_in_noise() -> None:
    """What a slice has to correlate falls with its noise, and never to what chance gives."""
    clean = cut_slices(scale_intensities(scan("none").stacks)[0])
    random, level = np.random.default_rng(3), float(clean.pixels[clean.mask].std())
    noise = random.normal(scale=level, size=clean.pixels.shape).astype(np.float32)
    counts = np.array([clean.image(clean.mask, s).sum() for s in range(len(clean))])
    large = counts >= 400
    noisy, only_noise = (replace(clean, pixels=pixels) for pixels in (clean.pixels + noise, noise))
    signal = np.array([clean.image(clean.pixels, s)[clean.image(clean.mask, s)].var() for s in range(len(clean))])
    expected = LEAST * np.sqrt(signal / (signal + level**2))
    assert np.median(least_ncc(clean)[large]) == pytest.approx(LEAST, rel=0.06)  # 3 % noise
    # What is taken for noise holds some of the anatomy's finest detail: the bound is lower for it, never higher.
    np.testing.assert_array_less(least_ncc(noisy)[large], 1.05 * expected[large])
    np.testing.assert_array_less(0.7 * expected[large], least_ncc(noisy)[large])
    chance = 1 / np.sqrt(counts)
    assert (least_ncc(only_noise) >= np.minimum(3 * chance, LEAST)).all()


def test_trust_falls_with_the_misfit_above_the_median() -> None:
    np.testing.assert_allclose(slice_weights(np.array([0.5, 1.0, 1.0, 2.0, 1.0])), [1, 1, 1, 0.25, 1])
