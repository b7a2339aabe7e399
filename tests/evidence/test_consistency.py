"""Stacks that show the same agree as well as they could; one that shows something else falls behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reconstructions import brief, result, small
from scipy.ndimage import gaussian_filter

from slicesplat.evidence.consistency import LEAST_GAP, consistency
from slicesplat.geometry.stack import Stack
from slicesplat.likelihood.noise import Noise, noise_levels
from slicesplat.motion.agreement import agreement
from slicesplat.result import Reconstruction
from slicesplat.splat import predict
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import simulate


def gaps(made: Reconstruction) -> np.ndarray:
    return np.array([stack.possible_ncc - stack.ncc for stack in made.evidence.stacks])


def with_another_subject(seed: int = 5) -> list[Stack]:
    settings = replace(small().truth.settings, seed=seed)
    turned = brain_phantom(32.0, 1.4)
    other = simulate(np.flip(np.swapaxes(turned[0], 0, 2), 1), turned[1], np.swapaxes(turned[2], 0, 2), settings)
    return [*small().stacks[:2], other.stacks[2]]


def test_stacks_that_show_the_same_agree_as_well_as_they_could() -> None:
    assert (np.abs(gaps(result())) < 0.1).all()
    assert result().verdict.grade == "pass"


def test_mirror_images_of_stacks_that_agree_are_not_looked_for() -> None:
    behind = gaps(result()) >= LEAST_GAP
    leads = np.array([seen.mirror_lead for seen in result().consistency])
    np.testing.assert_array_equal(np.isfinite(leads), behind)
    assert not behind.all()


def test_what_is_possible_is_that_of_a_whole_solution() -> None:
    slices, weight = result().slices, np.ones(len(result().slices))
    image = predict(result().model.field, slices, weight).numpy()
    noise = Noise(0.0)
    _, found = consistency(slices, image, weight, weight, noise, 3, np.random.default_rng(0))
    random = np.random.default_rng(0)
    level = noise_levels(slices, torch.as_tensor(slices.mask & slices.measured))
    level = np.where(np.isfinite(level), level, np.nanmedian(level))
    shown = image + level[slices.slice_of_pixel()] * random.standard_normal(len(image))
    whole = agreement(replace(slices, pixels=shown.astype(np.float32)), weight, 3)
    assert [seen.ncc for seen in found] == pytest.approx([seen.ncc for seen in whole], abs=0.005)


def test_the_same_bytes_for_the_same_seed() -> None:
    again = brief(small().stacks)
    assert [seen.ncc for seen in again.consistency] == [seen.ncc for seen in result().consistency]


def test_another_subject_falls_behind() -> None:
    made = brief(with_another_subject())
    assert gaps(made).max() > max(0.1, 2 * gaps(result()).max())
    assert made.verdict.grade != "pass"


def test_noise_is_no_excess() -> None:
    rng = np.random.default_rng(0)
    stacks = []
    for stack in small().stacks:
        sigma = 0.1 * float(np.percentile(stack.data[stack.mask], 99))
        noisy = np.abs(stack.data + sigma * rng.standard_normal(stack.data.shape))
        stacks.append(replace(stack, data=noisy.astype(np.float32)))
    made = brief(stacks)
    assert [seen.excess for seen in made.consistency] == pytest.approx([1.0] * 3, abs=0.3)
    assert made.evidence.contrast < result().evidence.contrast


def test_after_a_filter_the_noise_is_not_known_and_excess_says_nothing() -> None:
    filtered = []
    for stack in small().stacks:
        data = gaussian_filter(stack.data, (1.2, 1.2, 0.0))
        filtered.append(replace(stack, data=data.astype(np.float32)))
    made = brief(filtered)
    assert np.isnan([seen.excess for seen in made.consistency]).all()
    assert not any("its noise" in reason for reason in made.verdict.reasons)


def test_of_one_stack_nothing_can_be_compared() -> None:
    made = brief([small().stacks[0]])
    assert np.isnan(made.consistency[0].ncc) and made.verdict.grade == "check"
