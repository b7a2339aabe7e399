"""Training samples: views of synthetic stacks as the networks see them, each from its number alone.

python training/samples.py FOLDER --atlas ../shared/data/atlas-cc0 --count 3000 [--first 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from atlas import Brain, atlas_brains, phantom_brain
from images import draw_image
from labels import CLASS, IS_BRAIN
from mothers import LabelledStack, MotherSettings, draw_mother, draw_stack

from slicesplat.segment.grids import brightness, edge_view, find_view
from slicesplat.segment.network import CLASSES

HELD_OUT = (24, 29, 33)
"""Weeks whose brains are for tests."""
IMAGES = 3
"""Images of each stack: anatomy takes ten times as long to make as contrast."""
FIND = MotherSettings(pixel=3.0, field_of_view=(130.0, 420.0))
EDGE = MotherSettings(pixel=1.8, field_of_view=(120.0, 230.0), slices=(12, 30), off_centre=(0.0, 30.0), absent=0.0)
_LEAST = 4.0  # cm3 of brain that an edge is drawn around


def training_brains(atlas: Path) -> list[Brain]:
    """Those of the atlas but for the weeks held out, and some phantoms."""
    weeks = [week for week in range(20, 40) if week not in HELD_OUT]
    phantoms = [phantom_brain(length, seed) for seed, length in enumerate((66.0, 80.0, 94.0))]
    return atlas_brains(atlas, weeks) + phantoms


def samples(number: int, brains: Sequence[Brain]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images (nz, nx, ny) of float16 and classes (4, nz, nx, ny), 0 to 255, of one stack.

    Even numbers are whole fields of view to look for a brain in, odd ones boxes around it.
    """
    random = np.random.default_rng(number)
    close = number % 2 == 1
    settings = EDGE if close else FIND
    mother = draw_mother(brains, settings, random)
    stack = draw_stack(mother, settings, random)
    shares = torch.from_numpy(_shares(stack)).permute(0, 2, 3, 1)
    shape = tuple(shares.shape[1:])
    for _ in range(IMAGES):
        view = find_view(shape, stack.spacing)
        if close:
            found = _roughly(shares[IS_BRAIN].numpy(), stack.spacing, random)
            if found is None:
                return
            view = edge_view(shape, stack.spacing, *found)
        image = draw_image(stack, settings, random).transpose(1, 2, 0)
        seen = view.of(brightness(image), stack.spacing)
        # Nothing is asked for where there is no image.
        lit = torch.from_numpy((image > 0).astype(np.float32))
        classes = torch.stack([view.of(share * lit, stack.spacing) for share in shares])
        yield seen.numpy().astype(np.float16), (255 * classes.clamp(0, 1)).round().numpy().astype(np.uint8)


def _shares(stack: LabelledStack) -> np.ndarray:
    """(4, nz, nx, ny) of every class in every voxel; where half of one is brain, all of it counts as brain."""
    parts = [np.where(stack.brain, IS_BRAIN, CLASS[labels]) for labels in (stack.labels, stack.second)]
    return np.stack([0.5 * sum((part == c).astype(np.float32) for part in parts) for c in range(len(CLASSES))])


def _roughly(brain: np.ndarray, spacing: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float] | None:
    """Centre, mm, and diameter of a brain about as well as they are found; None where there is too little of it."""
    volume = float(brain.sum() * spacing.prod())
    if volume < 1000 * _LEAST:
        return None
    centre = (
        np.array([np.average(np.arange(n), weights=brain.sum(axis=others)) for n, others in _axes(brain)]) * spacing
    )
    diameter = (6 * volume / np.pi) ** (1 / 3)
    return centre + random.normal(0, 0.07, 3) * diameter, diameter * float(np.exp(random.normal(0, 0.12)))


def _axes(brain: np.ndarray) -> list[tuple[int, tuple[int, ...]]]:
    return [(n, tuple(a for a in range(3) if a != axis)) for axis, n in enumerate(brain.shape)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--atlas", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--near", action="store_true", help="odd numbers only: edges are harder than places")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    brains = training_brains(given.atlas)
    numbers = range(given.first, given.first + given.count)
    for number in (number for number in numbers if number % 2 or not given.near):
        for image, (seen, classes) in enumerate(samples(number, brains)):
            target = given.folder / f"{number:06d}-{image}.npz"
            partial = target.with_suffix(".tmp.npz")
            np.savez(partial, image=seen, classes=classes)
            partial.rename(target)


if __name__ == "__main__":
    main()
