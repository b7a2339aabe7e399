"""A copy of a stack is told from a scan that was repeated; one of each pair stays, and numbers stay the user's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from reconstructions import BRIEF
from scipy.ndimage import gaussian_filter, map_coordinates

from slicesplat.config import Config
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import reconstruct, register
from slicesplat.prepare.duplicates import COPY, find_copies, noise_correlation
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

REPEATED = COPY / 2  # a repeated scan stays below half of what a copy has to reach


@cache
def noise_free() -> Stack:
    """A stack of a subject that holds still."""
    config = SimulationConfig(stacks=1, motion="none", noise=0.0, dropout=0.0, seed=3)
    return simulate(*brain_phantom(80.0, 1.2), config).stacks[0]


def scan(seed: int, noise: float = 0.03, stack: Stack | None = None) -> Stack:
    """The same again: magnitudes with noise of their own, a share of the brightest tissue."""
    stack = stack or noise_free()
    random, shape = np.random.default_rng(seed), stack.data.shape
    sigma = noise * float(np.percentile(stack.data[stack.mask], 99))
    real, imaginary = sigma * random.standard_normal((2, *shape))
    return replace(stack, data=np.hypot(stack.data + real, imaginary).astype(np.float32))


def moved_axes(stack: Stack, to_old: NDArray, data: NDArray, mask: NDArray) -> Stack:
    """The stack with other axes; `to_old` takes new indices to old ones."""
    return replace(stack, data=np.ascontiguousarray(data), mask=mask, affine=stack.affine @ to_old)


def flipped(stack: Stack) -> Stack:
    to_old = np.diag([-1.0, 1.0, -1.0, 1.0])
    to_old[[0, 2], 3] = np.array(stack.data.shape)[[0, 2]] - 1
    return moved_axes(stack, to_old, stack.data[::-1, :, ::-1], stack.mask[::-1, :, ::-1])


def transposed(stack: Stack) -> Stack:
    to_old = np.eye(4)[[1, 0, 2, 3]]
    return moved_axes(stack, to_old, stack.data.swapaxes(0, 1), stack.mask.swapaxes(0, 1))


def cropped(stack: Stack) -> Stack:
    to_old = np.eye(4)
    to_old[:3, 3] = 6, 3, 2
    return moved_axes(stack, to_old, stack.data[6:-5, 3:, 2:-1], stack.mask[6:-5, 3:, 2:-1])


def padded(stack: Stack) -> Stack:
    to_old = np.eye(4)
    to_old[:3, 3] = -4, -9, -1
    margin = [(4, 7), (9, 2), (1, 3)]
    return moved_axes(stack, to_old, np.pad(stack.data, margin), np.pad(stack.mask, margin))


def in_plane(stack: Stack, row: NDArray, column: NDArray, to_old: NDArray) -> Stack:
    """Every slice interpolated at other places."""
    place = np.meshgrid(row, column, indexing="ij") if row.ndim == 1 else [row, column]
    planes = [map_coordinates(stack.data[:, :, k], place, order=3, mode="nearest") for k in range(stack.n_slices)]
    masks = [map_coordinates(stack.mask[:, :, k].astype(float), place, order=1) > 0.5 for k in range(stack.n_slices)]
    return moved_axes(stack, to_old, np.stack(planes, axis=-1).astype(np.float32), np.stack(masks, axis=-1))


def distortion_corrected(stack: Stack) -> Stack:
    """As a gradient that is not linear asks for it: up to 0.3 pixels at the edge, and another scale."""
    middle = (np.array(stack.data.shape[:2]) - 1) / 2
    i, j = np.indices(stack.data.shape[:2]) - middle[:, None, None]
    scale = 1 + 0.006 * (i**2 + j**2) / middle[0] ** 2
    out = in_plane(stack, middle[0] + i * scale, middle[1] + j * scale, np.eye(4))
    return replace(out, data=np.rint(1.15 * out.data))


def resampled(stack: Stack) -> Stack:
    """On pixels of another size."""
    size = (np.array(stack.data.shape[:2]) / 0.83).astype(int)
    return in_plane(stack, 0.83 * np.arange(size[0]), 0.83 * np.arange(size[1]), np.diag([0.83, 0.83, 1.0, 1.0]))


def other_slice_distance(stack: Stack) -> Stack:
    """Interpolated linearly at slice positions of another distance, as converters make distances equal."""
    place = np.arange(0, stack.n_slices - 1, 1.17)
    below = place.astype(int)
    share = (place - below).astype(np.float32)
    data = (1 - share) * stack.data[:, :, below] + share * stack.data[:, :, below + 1]
    return moved_axes(stack, np.diag([1.0, 1.0, 1.17, 1.0]), data, stack.mask[:, :, below])


def smoothed(stack: Stack) -> Stack:
    return replace(stack, data=gaussian_filter(stack.data, (0.6, 0.6, 0.0)))


def scaled_and_rounded(stack: Stack) -> Stack:
    return replace(stack, data=np.rint(1.15 * stack.data / stack.data.max() * 1000).astype(np.float32))


EXACT = (scaled_and_rounded, flipped, transposed, cropped, padded)
INTERPOLATED = (resampled, other_slice_distance, smoothed)


@pytest.mark.parametrize("made", [*EXACT, *INTERPOLATED, distortion_corrected])
def test_copy_is_recognised(made: Callable[[Stack], Stack]) -> None:
    original = scan(1)
    # Twice the threshold, whichever comes first.
    assert noise_correlation(original, made(original)) > 2 * COPY
    assert find_copies([made(original), original])


@pytest.mark.parametrize("made", INTERPOLATED)
def test_original_stays_and_not_what_was_interpolated(made: Callable[[Stack], Stack]) -> None:
    original = scan(1)
    assert find_copies([original, made(original)]) == {1: 0}
    assert find_copies([made(original), original]) == {0: 1}


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
def test_repeated_scan_of_a_still_subject_is_no_copy(noise: float) -> None:
    one, other = scan(1, noise), scan(2, noise)
    assert abs(noise_correlation(one, other)) < REPEATED
    assert not find_copies([one, other])


@pytest.mark.parametrize("made", [*EXACT, *INTERPOLATED, distortion_corrected])
def test_repeated_scan_is_no_copy_after_the_same_processing(made: Callable[[Stack], Stack]) -> None:
    assert abs(noise_correlation(made(scan(1, 0.01)), made(scan(2, 0.01)))) < REPEATED


def test_interleaved_halves_of_a_stack_are_no_copies() -> None:
    stack = scan(1)
    halves = [
        moved_axes(
            stack,
            np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, first], [0, 0, 0, 1.0]]),
            stack.data[:, :, first::2],
            stack.mask[:, :, first::2],
        )
        for first in (0, 1)
    ]
    assert not find_copies(halves)


def test_stacks_of_other_planes_are_not_compared() -> None:
    stacks = simulate(*brain_phantom(40.0, 1.4), SimulationConfig(motion="none", noise=0.0)).stacks
    assert not find_copies(stacks)


def test_equal_voxels_without_noise_are_a_copy_only_at_the_same_place() -> None:
    even = replace(noise_free(), data=np.ones_like(noise_free().data))
    elsewhere = replace(even, affine=even.affine + np.eye(4)[:, 3:] @ np.zeros((1, 4)))
    elsewhere.affine[0, 3] += 50.0
    assert find_copies([even, replace(even)]) == {1: 0}
    assert not find_copies([even, elsewhere])


def test_one_of_several_copies_stays() -> None:
    original, repeated = scan(1), scan(2)
    given = [other_slice_distance(original), original, repeated, distortion_corrected(original), scan(2)]
    assert find_copies(given) == {0: 1, 3: 1, 4: 2}


def test_stack_with_the_mask_stays() -> None:
    original = scan(1)
    assert find_copies([replace(original, carried=True), original]) == {0: 1}


def test_copy_that_shows_more_stays() -> None:
    original = scan(1)
    part = moved_axes(original, np.eye(4), original.data[:, :, :-9], original.mask[:, :, :-9])
    assert find_copies([part, original]) == {0: 1}


# --- in a reconstruction


@cache
def small() -> tuple[Stack, ...]:
    config = SimulationConfig(motion="mild", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.02, seed=1)
    return tuple(simulate(*brain_phantom(32.0, 1.4), config).stacks)


def named(stack: Stack, name: str) -> Stack:
    return replace(stack, name=name)


def test_copies_change_nothing_and_stacks_keep_their_numbers(caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = small()
    config = Config(resolution=2.0, threads=1, fit=BRIEF)
    given = [first, named(first, "again.nii.gz"), second, third, named(third, "twin.nii.gz")]
    with caplog.at_level(logging.WARNING, "slicesplat"):
        alone, result = reconstruct([first, second, third], config), reconstruct(given, config)
    assert np.asarray(result.volume.dataobj).tobytes() == np.asarray(alone.volume.dataobj).tobytes()
    assert [(r.stack, r.slice) for r in result.slice_records()] == [
        ([0, 2, 3][r.stack], r.slice) for r in alone.slice_records()
    ]
    assert result.reference == [0, 2, 3][alone.reference]
    assert result.json()["copies"] == [{"stack": 1, "copy_of": 0}, {"stack": 4, "copy_of": 3}]
    simulated = result.simulated()
    assert [stack.name for stack in simulated] == [stack.name for stack in given]
    for number, stack in zip((0, 2, 3), alone.simulated(), strict=True):
        assert np.array_equal(simulated[number].data, stack.data)
    told = [record.getMessage() for record in caplog.records if "same acquisition" in record.getMessage()]
    assert len(told) == 2
    assert "again.nii.gz" in told[0] and first.name in told[0] and "--keep-duplicates" in told[0]


def test_copies_are_kept_where_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    given = [*small(), named(small()[0], "again.nii.gz")]
    with caplog.at_level(logging.WARNING, "slicesplat"):
        result = register(given, Config(threads=1, keep_duplicates=True))
    assert {record.stack for record in result.slice_records()} == {0, 1, 2, 3}
    assert result.json()["copies"] == []
    assert "again.nii.gz" in caplog.text
