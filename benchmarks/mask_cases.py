"""Synthetic mothers that masks are looked for in, of other brains, seeds and settings than the network learned from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cases import SHARED, say
from numpy.typing import NDArray
from PIL import Image
from records import Row
from scipy import ndimage

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.segment.agree import FoundMask
from slicesplat.segment.look import Seen

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
import atlas
import mothers
from images import draw_image
from samples import HELD_OUT

ATLAS = SHARED / "data" / "atlas-cc0"
FIRST_SEED = 1_000_000
SETTINGS = mothers.MotherSettings(
    field_of_view=(240.0, 380.0),
    pixel=2.8,
    spacing=(2.8, 5.0),
    slices=(20, 34),
    brain_scale=(0.95, 1.1),
    liquor=(0.0, 0.05),
    off_centre=(0.0, 15.0),
    usual=0.85,
    bias=(0.2, 1.2),
    noise=(0.01, 0.05),
    blur=(0.2, 0.6),
    motion=(0.5, 4.0),
    turn=(0.5, 6.0),
    lost=0.05,
    absent=0.0,
    twins=0.1,
)
"""Other ranges than the training's: wider fields, more motion and lost slices, less often like T2."""
LEAST_SHOWN = 15.0
"""cm^3 of a brain that a stack has to show to be asked for it."""
TILES, TILE, MARGIN = 6, 100, 14
"""Slices of a stack in a picture, pixels of one on the page, pixels of the stack around the brain."""
BLUE, ORANGE = (0.34, 0.71, 0.91), (0.9, 0.62, 0.0)
"""Outlines that nobody confuses (Okabe and Ito)."""
COLOURS = 48
"""Of a picture: its file is small."""


@dataclass(frozen=True)
class Group:
    """Mothers of one kind.

    Attributes
    ----------
    settings : MotherSettings
    stacks : tuple of int
        Of a mother, in turn.
    share : float
        Mothers of this kind for each of the first kind.
    without : bool
        Whether the last stack of each misses the brain.
    """

    settings: mothers.MotherSettings = SETTINGS
    stacks: tuple[int, ...] = (2,)
    share: float = 0.1
    without: bool = False


GROUPS = {
    "mothers": Group(stacks=(1, 1, 2), share=1.0),
    "twins": Group(replace(SETTINGS, twins=1.0, neonatal=0.0)),
    "heads in air": Group(replace(SETTINGS, neonatal=1.0, bare=0.0, field_of_view=(180.0, 260.0), pixel=2.0)),
    "brain cut by the field of view": Group(
        replace(SETTINGS, twins=0.0, neonatal=0.0, slices=(9, 14), spacing=(2.8, 4.0), off_centre=(20.0, 40.0))
    ),
    "one stack without the brain": Group(replace(SETTINGS, twins=0.0, neonatal=0.0), (3,), without=True),
}


@dataclass(frozen=True, eq=False)
class Examination:
    """Stacks of a mother, and what is brain in them."""

    seen: list[Seen]
    brains: list[NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in one stack, and what is there."""

    seen: Seen
    brain: NDArray[np.bool_]
    found: FoundMask

    @property
    def shown(self) -> float:
        """cm^3 of brain that the stack shows."""
        return float(self.brain.sum() * self.seen.spacing.prod() / 1000)

    @property
    def asked(self) -> bool:
        """Whether the stack shows enough of a brain to be asked for it."""
        return self.shown >= LEAST_SHOWN

    @property
    def overlap(self) -> float:
        """Dice with the brain; of twins that were both labelled, with the one that was chosen."""
        mask, whole = self.found.mask, self.brain
        pieces, count = ndimage.label(whole, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        large = [1 + n for n in range(count) if sizes[n] > 0.2 * sizes.max()]
        regions = [whole, *(pieces == n for n in large)] if len(large) > 1 else [whole]
        return max(dice(mask, region) for region in regions)

    @property
    def off(self) -> bool:
        """Whether something else was taken for a brain."""
        return bool(self.found.mask.any() and not (self.found.mask & self.brain).any())

    @property
    def warned(self) -> bool:
        """Whether the log would name the stack: doubtful, cut, or left out."""
        return self.found.confidence < SegmentationSettings().doubtful or self.found.cut or not self.found.volume

    def told(self) -> Row:
        """All that is counted of it."""
        found = self.found
        words = {"found": found.mask.any(), "off": self.off, "warning": self.warned, "in_air": found.in_air}
        known = {"dice": self.overlap} if self.asked else {}
        known |= {"shown_cm3": round(self.shown), "confidence": found.confidence}
        return known | {name: "yes" if true else "no" for name, true in words.items()}


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Overlap of two regions, from 0 to 1."""
    return float(2 * (first & second).sum() / max(first.sum() + second.sum(), 1))


def test_brains() -> list[atlas.Brain]:
    """Brains that nothing was learned from."""
    made = [atlas.phantom_brain(length, seed) for seed, length in ((101, 72.0), (102, 88.0))]
    if not ATLAS.is_dir():
        say("no atlas here: brains of the phantom only")
        return made
    return made + atlas.atlas_brains(ATLAS, HELD_OUT)


def examinations(group: Group, numbers: Sequence[int], brains: Sequence[atlas.Brain]) -> Iterator[Examination]:
    """Each from its number alone."""
    for number in numbers:
        random = np.random.default_rng(FIRST_SEED + number)
        mother = mothers.draw_mother(brains, group.settings, random)
        count = group.stacks[number % len(group.stacks)]
        ranges = [group.settings] * count
        if group.without:
            ranges[-1] = replace(group.settings, absent=1.0)
        stacks = [mothers.draw_stack(mother, settings, random) for settings in ranges]
        images = [draw_image(stack, group.settings, random).transpose(1, 2, 0) for stack in stacks]
        seen = [Seen(image, stack.affine) for image, stack in zip(images, stacks, strict=True)]
        yield Examination(seen, [stack.brain.transpose(1, 2, 0) for stack in stacks])


def draw(answers: Sequence[Answer], path: Path) -> None:
    """Slices of stacks, one stack a row: what is brain in blue, what was found in orange."""
    rows = []
    for answer in answers:
        box = _around(answer.brain | answer.found.mask)
        image, brain, mask = (values[box] for values in (answer.seen.data, answer.brain, answer.found.mask))
        shown = np.flatnonzero((brain | mask).any(axis=(0, 1)))
        chosen = np.linspace(shown[0], shown[-1], TILES).round().astype(int)
        top = np.percentile(image, 99.5)
        rows.append(np.concatenate([_tile(image[:, :, k] / top, brain[:, :, k], mask[:, :, k]) for k in chosen], 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).quantize(COLOURS).save(path, optimize=True)


def _around(region: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """A square in plane that holds it, with some more."""
    if not region.any():
        return slice(None), slice(None), slice(None)
    ends = [np.flatnonzero(region.any(axis=others))[[0, -1]] for others in ((1, 2), (0, 2))]
    half = max(int(last - first) for first, last in ends) // 2 + MARGIN
    x, y = (slice(max(int(first + last) // 2 - half, 0), int(first + last) // 2 + half + 1) for first, last in ends)
    return x, y, slice(None)


def _tile(image: NDArray[np.floating], brain: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """One slice, outlines a pixel wide on the page."""
    scale = TILE / max(image.shape)
    large = ndimage.zoom(np.clip(image, 0, 1), scale, order=1)
    tile = np.zeros((TILE, TILE, 3))
    tile[: large.shape[0], : large.shape[1]] = large[:TILE, :TILE, None]
    for region, colour in ((brain, BLUE), (mask, ORANGE)):
        inside = np.zeros((TILE, TILE), bool)
        wide = ndimage.zoom(region.astype(np.float32), scale, order=1) > 0.5
        inside[: wide.shape[0], : wide.shape[1]] = wide[:TILE, :TILE]
        tile[inside & ~ndimage.binary_erosion(inside)] = colour
    return np.asarray(255 * tile.transpose(1, 0, 2), np.uint8)
