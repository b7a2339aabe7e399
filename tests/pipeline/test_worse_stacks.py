"""Fewer and worse stacks still give a volume, and what is wrong in them leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reconstructions import alike, assert_sound, brief, result, small, values


def test_two_stacks_are_enough() -> None:
    made = brief(small().stacks[:2])
    assert_sound(made)
    assert set(made.slices.stack) == {0, 1}
    assert alike(made, result()) > 0.85


def test_one_stack_gives_a_volume_too() -> None:
    made = brief(small().stacks[:1])
    assert_sound(made)
    assert made.reference == 0
    assert (made.weight > 0.1).mean() > 0.8
    assert alike(made, result()) > 0.7


def test_stack_on_another_scale_neither_dominates_nor_vanishes() -> None:
    stacks = list(small().stacks)
    stacks[1] = replace(stacks[1], data=stacks[1].data * np.float32(20))
    made = brief(stacks)
    assert_sound(made)
    # The scale is that of the median stack.
    assert np.median(values(made)[values(made) > 0]) == pytest.approx(
        np.median(values(result())[values(result()) > 0]), rel=0.1
    )
    assert alike(made, result()) > 0.97
    assert np.median(made.gain[made.slices.stack == 1]) == pytest.approx(1.0, abs=0.1)


def test_corrupted_slice_leaves_no_trace() -> None:
    stack = small().stacks[1]
    data, middle = stack.data.copy(), int(np.argmax(stack.mask.sum(axis=(0, 1))))
    data[:, :, middle] = np.random.default_rng(0).uniform(0, 1.5 * data.max(), data.shape[:2])
    made = brief([small().stacks[0], replace(stack, data=data), small().stacks[2]])
    assert_sound(made)
    corrupted = (made.slices.stack == 1) & (made.slices.index == middle)
    assert made.weight[corrupted] < 0.1
    assert (made.weight[~corrupted] > 0.5).all()
    assert alike(made, result()) > 0.95


@pytest.mark.parametrize("size", [3, 1000])
def test_spike_leaves_no_trace(size: int) -> None:
    stack = small().stacks[2]
    data, middle = stack.data.copy(), stack.n_slices // 2
    row, column = np.argwhere(stack.mask[:, :, middle])[40]
    data[row, column, middle] = size * data.max()
    made = brief([*small().stacks[:2], replace(stack, data=data)])
    assert_sound(made)
    elsewhere = (made.slices.stack != 2) | (made.slices.index != middle)
    assert (made.weight[elsewhere] > 0.5).all()
    assert alike(made, result()) > 0.95
    assert values(made).max() < 1.5 * values(result()).max()


@pytest.mark.parametrize("noise", [0.05, 0.12])
def test_noisy_stack_is_still_used(noise: float) -> None:
    stack, rng = small().stacks[2], np.random.default_rng(0)
    level = noise * np.percentile(stack.data[stack.mask], 99)
    real, imaginary = level * rng.standard_normal((2, *stack.data.shape))
    made = brief([*small().stacks[:2], replace(stack, data=np.hypot(stack.data + real, imaginary).astype(np.float32))])
    assert_sound(made)
    assert (made.weight[made.slices.stack == 2] > 0.1).mean() > 0.8


def test_slices_without_signal_are_left_out_and_get_a_pose_all_the_same() -> None:
    stacks = list(small().stacks)
    data = stacks[0].data.copy()
    middle = int(np.argmax(stacks[0].mask.sum(axis=(0, 1))))
    data[:, :, middle] = 0
    stacks[0] = replace(stacks[0], data=data)
    made = brief(stacks)
    assert_sound(made)
    dark = (made.slices.stack == 0) & (made.slices.index == middle)
    assert made.weight[dark] == 0
    one, other = (found.slices.pose[dark].translation for found in (made, result()))
    assert np.linalg.norm(one - other) < 2.0
