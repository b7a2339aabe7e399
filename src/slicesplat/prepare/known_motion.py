"""Motion that was found before, from what was written of it: for which slice of which stack is it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.io.files import load_json
from slicesplat.io.slices import load_slices
from slicesplat.records import SliceRecord

log = logging.getLogger("slicesplat")

KnownMotion: TypeAlias = "dict[tuple[int, int], NDArray[np.float64]]"
"""By stack and index the world transform (4, 4) of each slice that is to be used, from where the scanner put it."""


def load_motion(path: str | PathLike[str], stacks: Sequence[Stack]) -> KnownMotion:
    """Read the motion of the slices of stacks.

    Parameters
    ----------
    path : path
        What --output-json has written, the slices that were left out there being left out; or a folder of transforms
        or of motion-corrected slices. Files that are only numbered stand for all slices of all stacks in turn, or for
        those that show the region, whichever their number says.
    stacks : sequence of Stack
        In the order in which they were reconstructed.

    Raises
    ------
    InputError
        It cannot be read, names slices that there are not, has no pose for any, or numbers that fit neither.
    """
    source = Path(path)
    if not source.is_dir():
        motion = _of_records(source)
    elif any(entry.suffix.lower() in (".tfm", ".dof") for entry in source.iterdir()):
        motion = _of_transforms(source, stacks)
    else:
        motion = _of_slices(source, stacks)
    for number, index in motion:
        if number >= len(stacks) or index >= stacks[number].n_slices:
            raise InputError(
                f"{source}: has slice {index} of stack {number}, which is not there; "
                "give the same stacks, or others of the same size, in the same order"
            )
    log.info("poses: %d slices of %d stacks", len(motion), len(stacks))
    return motion


def _of_records(path: Path) -> KnownMotion:
    try:
        records = [SliceRecord.from_json(entry) for entry in load_json(path)["slices"]]
        moved = Rigid.from_matrix([record.world_transform for record in records])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: has no poses of slices; give what --output-json has written") from error
    if not any(record.used for record in records):
        raise InputError(f"{path}: all its slices were left out; reconstruct again")
    return {
        (record.stack, record.slice): matrix
        for record, matrix in zip(records, moved.matrix, strict=True)
        if record.used
    }


def _of_transforms(folder: Path, stacks: Sequence[Stack]) -> KnownMotion:
    from slicesplat.io.transforms import load_transforms  # ITK is slow to import, and other motion does not need it

    found = load_transforms(folder)
    if all(not name for name, _ in found):
        numbers = sorted(number for _, number in found)
        return {
            key: found["", number] for key, number in zip(_in_turn(folder, len(found), stacks), numbers, strict=True)
        }
    names = {Path(stack.name).name.partition(".nii")[0]: number for number, stack in enumerate(stacks)}
    motion = {(names[name], index): matrix for (name, index), matrix in found.items() if name in names}
    if not motion:
        raise InputError(f"{folder}: its transforms are of other stacks; they are called after the stacks' files")
    return motion


def _of_slices(folder: Path, stacks: Sequence[Stack]) -> KnownMotion:
    slices, motion = load_slices(folder), {}
    for one, (number, index) in zip(slices, _in_turn(folder, len(slices), stacks), strict=True):
        scanned = stacks[number].slice_affine(index)
        if not np.allclose(one.spacing, np.linalg.norm(scanned[:3, :3], axis=0), rtol=0.01):
            raise InputError(
                f"{folder}: {one.name} has other pixels than slice {index} of {stacks[number].name}; "
                "give the stacks that the slices come from, in the same order, or the poses as JSON"
            )
        motion[number, index] = one.pose(0, (0, 0)) @ np.linalg.inv(stacks[number].pose(index, (0, 0)))
    return motion


def _in_turn(folder: Path, count: int, stacks: Sequence[Stack]) -> list[tuple[int, int]]:
    """Which slices so many numbered files are of."""
    every = [(number, index) for number, stack in enumerate(stacks) for index in range(stack.n_slices)]
    if len(every) == count:
        return every
    try:
        cut = cut_slices(stacks)
    except ValueError as error:
        raise InputError(f"{stacks[0].name} and the other stacks: {error}; check the masks") from error
    if len(cut) != count:
        raise InputError(
            f"{folder}: holds {count} files, and the stacks have {len(every)} slices, {len(cut)} of them with the "
            "region; give the stacks and masks that they come from, or the poses as JSON"
        )
    return list(zip(cut.stack.tolist(), cut.index.tolist(), strict=True))
