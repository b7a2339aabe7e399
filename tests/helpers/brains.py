"""Simulated scans of a small brain, their registrations and their errors, made once for all modules that ask."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from slicesplat.config import Config
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import register
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.result import Registration
from slicesplat.validation.demo import as_scanned
from slicesplat.validation.motion import Motion, apply_motion
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.pose_error import PoseError, pose_error
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

SIZE_MM, SPACING = 40.0, 1.25


@cache
def phantom() -> tuple[NDArray, NDArray, NDArray]:
    """Volume, affine and mask of a brain of 40 mm."""
    return brain_phantom(SIZE_MM, SPACING)


@cache
def still_slices() -> Slices:
    """Three still stacks of it in two packages each, brightest tissue at 1."""
    config = SimulationConfig(motion="none", pixel=1.6, spacing=2.6, thickness=2.5, noise=0.02, dropout=0.0, seed=2)
    return cut_slices(scale_intensities(simulate(*phantom(), config).stacks)[0], interleave=[2, 2, 2])


@cache
def scan(motion: Motion) -> Simulation:
    """Three stacks of a brain of 45 mm."""
    config = SimulationConfig(motion=motion, pixel=1.5, spacing=3.0, thickness=2.8, noise=0.02, dropout=0.0, seed=1)
    return simulate(*brain_phantom(45.0, 1.5), config)


@cache
def registered(motion: Motion) -> Registration:
    """That scan, registered."""
    return register(scan(motion).stacks, Config(threads=1))


def errors(motion: Motion, found: Registration) -> PoseError:
    """How far a registration of that scan is from the truth."""
    return pose_error(found.slice_records(), scan(motion).truth, scan(motion).masks)


def errors_as_scanned(motion: Motion) -> PoseError:
    """How far the slices of that scan are from where the scanner put them."""
    return pose_error(as_scanned(scan(motion).stacks), scan(motion).truth, scan(motion).masks)


@cache
def one_mask(motion: Motion = "mild") -> tuple[Stack, ...]:
    """Moved stacks in dark surroundings that do not move; the first has its mask, the others a wide one."""
    stacks = []
    for number, stack in enumerate(scan(motion).stacks):
        index = np.indices(stack.data.shape).reshape(3, -1)
        world = stack.affine[:3, :3] @ index + stack.affine[:3, 3:]
        tissue = 1 + 0.4 * np.sin(world / 10 + np.array([[0.0], [1.0], [2.0]])).prod(axis=0)
        surroundings = 0.15 * np.median(stack.data[stack.mask]) * tissue.reshape(stack.data.shape)
        data = np.where(stack.mask, stack.data, surroundings).astype(np.float32)
        mask = stack.mask if number == 0 else np.asarray(binary_dilation(stack.mask, iterations=4))
        stacks.append(replace(stack, data=data, mask=mask, carried=number > 0))
    return tuple(stacks)


def in_place(stacks: tuple[Stack, ...]) -> Slices:
    """The slices of the mild scan where they truly lie."""
    slices, truth = cut_slices(scale_intensities(stacks)[0]), scan("mild").truth
    corners, motion = np.concatenate([np.zeros((1, 3)), np.eye(3)]), []
    for stack, index in zip(slices.stack, slices.index, strict=True):
        moved = apply_motion(corners, truth.centre, truth.motion[stack][index])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = (moved[1:] - moved[0]).T, moved[0]
        motion.append(matrix)
    return slices.moved(Rigid(np.array(motion)))
