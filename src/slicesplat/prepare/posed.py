"""Single slices whose poses are known, put together to stacks again.

A folder of slices does not say which of them one stack was made of. Neighbours in the folder belong together while
grid, orientation and place go on: intensities, lost slices and motion in time are judged stack by stack. Where that
guess is wrong little is lost, since every slice keeps its own pose, gain and weight.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.geometry import rotations
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.stack import Stack
from slicesplat.io.slices import load_slices, slice_number

Float = NDArray[np.float64]

log = logging.getLogger("slicesplat")

FEWEST = 3
"""Slices of a stack: fewer go with their neighbours in the folder."""
_SAME = 0.01  # of a length on the grid
_TURN = np.deg2rad(45.0)  # between neighbours: stacks stand at right angles, and hardly any motion is as large
_GAP = 8.0  # thicknesses between neighbours: slices may be missing, and a new stack starts a field of view away


def load_posed_slices(folder: str | PathLike[str]) -> list[Stack]:
    """Stacks of a folder of slices, each slice at the pose in its affine.

    Parameters
    ----------
    folder : path
        As `io.slices.load_slices` reads it.

    Returns
    -------
    list of Stack
        With `poses`. Slices count in the order of their files, through all stacks.

    Raises
    ------
    InputError
        As `load_slices`; or no slice shows anything of its mask.
    """
    slices = load_slices(folder)
    if not any(one.mask.any() for one in slices):
        raise InputError(f"{folder}: all masks of its slices are empty; give slices that show the region")
    stacks = stacks_of_slices(slices)
    for stack in stacks:
        log.info("%s: %d of them, %.3g mm thick, taken as one stack", stack.name, stack.n_slices, stack.thickness)
    return stacks


def stacks_of_slices(slices: Sequence[Stack]) -> list[Stack]:
    """Stacks of slices that follow each other; without those that show nothing of the region.

    Parameters
    ----------
    slices : sequence of Stack
        Of one slice each.
    """
    groups: list[list[Stack]] = [[slices[0]]]
    for before, after in pairwise(slices):
        if _goes_on(before, after):
            groups[-1].append(after)
        else:
            groups.append([after])
    return [_stack(group) for group in _merged(groups) if any(one.mask.any() for one in group)]


def _goes_on(before: Stack, after: Stack) -> bool:
    """Whether a slice may be the next one of the same stack."""
    if not _same_grid(before, after):
        return False
    normal = before.axes[:, 2]
    step = normal @ (_centre(after) - _centre(before))
    return bool(normal @ after.axes[:, 2] > np.cos(_TURN) and abs(step) < _GAP * before.thickness)


def _same_grid(one: Stack, other: Stack) -> bool:
    """Whether pixels and thickness are of the same size."""
    return bool(np.allclose(one.spacing, other.spacing, rtol=_SAME))


def _merged(groups: list[list[Stack]]) -> list[list[Stack]]:
    """The groups, those of too few slices with the one before or after them on the same grid."""
    out: list[list[Stack]] = []
    for group in groups:
        small = out and min(len(out[-1]), len(group)) < FEWEST
        if small and _same_grid(out[-1][-1], group[0]):
            out[-1].extend(group)
        else:
            out.append(list(group))
    return out


def _stack(slices: Sequence[Stack]) -> Stack:
    """Slices of one grid as a stack: parallel planes about where they are, and how far each is from its plane."""
    shape = (*np.max([one.data.shape[:2] for one in slices], axis=0), len(slices))
    data, mask, measured = np.zeros(shape, np.float32), np.zeros(shape, bool), np.zeros(shape, bool)
    for k, one in enumerate(slices):
        rows, columns = one.data.shape[:2]
        data[:rows, :columns, k], mask[:rows, :columns, k] = one.data[:, :, 0], one.mask[:, :, 0]
        measured[:rows, :columns, k] = True
    first, last = (slice_number(slices[k].name) for k in (0, -1))
    plain = Stack(
        data, mask, _planes(slices), slices[0].thickness, f"slices {first} to {last}",
        measured=None if measured.all() else measured,
    )  # fmt: skip
    there = Rigid(np.array([one.pose(0, (0, 0)) for one in slices]))
    nominal = Rigid(np.array([plain.pose(k, (0, 0)) for k in range(len(slices))]))
    return plain.posed(there @ ~nominal)


def _planes(slices: Sequence[Stack]) -> Float:
    """Affine (4, 4) of parallel, evenly spaced planes that lie about where the slices are."""
    turns = rotations.quaternions_of_matrices([one.axes for one in slices])
    turn = rotations.matrices_of_quaternions(rotations.mean_quaternion(turns, np.ones(len(slices))))
    centres = np.array([_centre(one) for one in slices])
    # A line through all of them: single steps hold the motion between two slices.
    order = np.arange(len(slices)) - (len(slices) - 1) / 2
    between = float(order @ centres @ turn[:, 2] / max(float(order @ order), 1.0))
    if abs(between) < 0.1 * slices[0].thickness:
        between = slices[0].thickness
    affine = np.eye(4)
    affine[:3, :3] = turn * [*slices[0].spacing[:2], between]
    middle = np.median(centres - np.outer(np.arange(len(slices)) * between, turn[:, 2]), axis=0)
    rows, columns = slices[0].data.shape[:2]
    affine[:3, 3] = middle - affine[:3, :2] @ [(rows - 1) / 2, (columns - 1) / 2]
    return affine


def _centre(one: Stack) -> Float:
    """(3,) mm: the middle of a slice's image."""
    return np.asarray(one.pose(0)[:3, 3])
