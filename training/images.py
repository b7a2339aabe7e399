"""What a scanner makes of labelled stacks: random contrast, texture, light and noise, far beyond what scanners do.

A network that has seen everything has to go by shape (domain randomisation: Billot et al., SynthSeg, Medical Image
Analysis 86, 2023, 102789).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from labels import (
    AIR,
    BASE,
    BONE,
    BOWEL,
    BRAIN,
    CORD,
    DISC,
    FAT,
    FETAL_MIXED,
    FETAL_WATER,
    FLUID,
    LIQUOR,
    LIVER,
    LUNG,
    MUSCLE,
    N_LABELS,
    PLACENTA,
    SKIN,
    SKULL,
    VOID,
    WALL,
    WATER,
)
from mothers import LabelledStack, MotherSettings
from scipy import ndimage
from shapes import Float, Random, between, smooth_noise

# T2-weighted signal, that of fluid 1: a usual range of each label.
_USUAL = {
    AIR: (0.0, 0.02), FAT: (0.35, 0.95), MUSCLE: (0.08, 0.3), BONE: (0.1, 0.4), DISC: (0.15, 0.6), WATER: (0.7, 1.1),
    WALL: (0.15, 0.5), FLUID: (0.6, 1.1), PLACENTA: (0.25, 0.6), CORD: (0.03, 0.5), SKIN: (0.2, 0.6),
    SKULL: (0.02, 0.18), LUNG: (0.3, 0.8), LIVER: (0.1, 0.3), FETAL_WATER: (0.7, 1.1), FETAL_MIXED: (0.15, 0.5),
    VOID: (0.0, 0.05), LIQUOR: (0.75, 1.1), BASE: (0.05, 0.5),
}  # fmt: skip
# Of the atlas: white matter and cortex, ventricles, cerebellum, outer liquor, deep grey matter, brainstem and two more.
_TISSUE = ((0.4, 0.65), (0.75, 1.05), (0.3, 0.55), (0.75, 1.1), (0.3, 0.5), (0.35, 0.6), (0.35, 0.65), (0.35, 0.65))


@dataclass(frozen=True, eq=False)
class _Look:
    """Signal and texture of each label."""

    mean: Float
    texture: Float = field(default_factory=lambda: np.zeros((3, N_LABELS), np.float32))
    own: float = 0.7
    """Weight of the brain's own signal against one value for each tissue."""
    gamma: float = 1.0


def _draw_look(settings: MotherSettings, random: Random) -> _Look:
    usual = random.random() < settings.usual
    mean = np.zeros(N_LABELS)
    for label in range(N_LABELS):
        known = _USUAL.get(label, _TISSUE[min(label - BRAIN, 7)] if label >= BRAIN else (0.05, 0.9))
        mean[label] = between(random, known)
        if not usual and label not in (AIR, VOID):
            mean[label] = random.uniform(0.02, 1.1) if random.random() < 0.7 else mean[label]
    texture = random.uniform(0, 1, (3, N_LABELS)) * np.array([[0.1], [0.16], [0.2]])
    texture[:, list(BOWEL)] *= 2
    texture[:, [FETAL_MIXED, PLACENTA]] *= 1.5
    texture[:, LIQUOR:BASE] *= 0.5
    own = random.uniform(0.4, 1.0) if usual else random.uniform(0, 0.8)
    return _Look(mean.astype(np.float32), texture.astype(np.float32), own, float(np.exp(random.normal(0, 0.15))))


def draw_image(stack: LabelledStack, settings: MotherSettings, random: Random) -> Float:
    """An image (nz, nx, ny) of a labelled stack."""
    look = _draw_look(settings, random)
    grid, steps = stack.labels.shape, stack.spacing[[2, 0, 1]]
    fields = [
        smooth_noise(grid, size / steps, random) for size in (random.uniform(2.5, 4), random.uniform(6, 14), 40.0)
    ]
    image = np.zeros(grid, np.float32)
    # Its own signal, brightened or inverted: contrasts between tissues may be any.
    level = between(random, (0.8, 1.15))
    for part, own in zip((stack.labels, stack.second), stack.signal, strict=True):
        values = look.mean[part]
        inside = own > 0
        values[inside] = (1 - look.own) * values[inside] + look.own * level * own[inside] ** np.float32(look.gamma)
        rough = sum(amplitude[part] * noise for amplitude, noise in zip(look.texture, fields, strict=True))
        image += 0.5 * values * np.clip(1 + rough, 0.1, 2.5)
    return _acquired(image, steps, settings, random)


def _acquired(image: Float, steps: Float, settings: MotherSettings, random: Random) -> Float:
    """What a scanner makes of it: blur, light, slices of different gain, noise, an edge without values."""
    grid = image.shape
    blur = between(random, settings.blur)
    if blur > 0.2:
        image = ndimage.gaussian_filter(image, (0, blur, blur))
    light = between(random, settings.bias)
    ramp = smooth_noise(grid, random.uniform(90, 250) / steps, random)
    axis = random.normal(size=3)
    k, i, j = np.ogrid[: grid[0], : grid[1], : grid[2]]
    coil = sum(float(a) * (n - s / 2) / (max(s, 2) / 2) for a, n, s in zip(axis / 2, (k, i, j), grid, strict=True))
    image = image * np.exp(np.clip(light * (0.35 * ramp + 0.6 * coil), -2.5, 1.2)).astype(np.float32)
    gain = np.exp(random.normal(0, random.uniform(0, 0.12), grid[0]))
    lost = random.random(grid[0]) < settings.lost
    gain[lost] = random.uniform(0.02, 0.6, int(lost.sum()))
    image = image * gain[:, None, None].astype(np.float32)
    sigma = np.float32(between(random, settings.noise))
    noise = random.standard_normal((2, *grid), dtype=np.float32) * sigma
    image = np.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)
    if random.random() < 0.25:
        # Corrected gradients leave corners without values.
        cut = sum(float(random.normal()) * (n - s / 2) / s for n, s in zip((i, j), grid[1:], strict=True))
        image = np.where(np.abs(cut) > random.uniform(0.45, 0.9), 0, image)
    return image.astype(np.float32)
