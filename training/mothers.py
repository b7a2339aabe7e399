"""Synthetic mothers: stacks of slices through a fetus in a uterus in a body, every voxel labelled.

Anatomy is made of few surfaces, in mm: a body with fat, muscle, spine and bowel; a uterus with fluid and placenta; a
fetus in it whose brain is that of an atlas or a phantom, with liquor, skull, scalp, face, trunk, limbs and cord.

Frames: world x to the mother's right, y to her front, z to her head; the fetus's frame is that of its brain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from atlas import Brain
from fetus import Fetus, add_fetus
from labels import AIR, BONE, BOWEL, CLASS, DISC, FAT, FLUID, IS_BRAIN, MUSCLE, PLACENTA, VOID, WALL, WATER
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from shapes import Float, Random, Range, between, direction, ellipsoid, smooth_noise


@dataclass(frozen=True)
class MotherSettings:
    """Ranges that mothers, stacks and images are drawn from; lengths in mm, shares from 0 to 1.

    Attributes
    ----------
    field_of_view, pixel, spacing, slices
        Of a stack: in plane, of the grid, between slices, their number.
    gap : range
        Slice thickness over spacing.
    brain_scale : range
        Of the brain's own size.
    liquor : range
        Thickness added around the brain, as a share of its length.
    cavity : range
        How smooth the skull's inside is: 0 follows the brain, 1 the ball that rolls around it.
    off_centre : range
        How far the stack's centre is from the brain's.
    usual : float
        Share of images with contrasts like T2-weighted ones; the others are drawn at random.
    bias : range
        Logarithm of the strongest change of light.
    noise, blur : range
        Of the brightest signal; pixels.
    motion, turn : range
        mm and degrees that the fetus moves between slices, standard deviation.
    lost : float
        Share of slices that lose their signal.
    neonatal, bare, absent, twins : float
        Share of heads in air, of those that are nothing but a brain, of stacks that miss the brain, of a second fetus.
    """

    field_of_view: Range = (170.0, 420.0)
    pixel: float = 2.5
    spacing: Range = (2.4, 6.0)
    slices: tuple[int, int] = (14, 36)
    gap: Range = (0.7, 1.3)
    brain_scale: Range = (0.88, 1.15)
    liquor: Range = (0.0, 0.1)
    cavity: Range = (0.4, 1.0)
    off_centre: Range = (0.0, 35.0)
    usual: float = 0.9
    bias: Range = (0.0, 1.6)
    noise: Range = (0.004, 0.05)
    blur: Range = (0.0, 0.8)
    motion: Range = (0.0, 3.0)
    turn: Range = (0.0, 5.0)
    lost: float = 0.03
    neonatal: float = 0.08
    bare: float = 0.3
    absent: float = 0.06
    twins: float = 0.04


@dataclass(frozen=True, eq=False)
class LabelledStack:
    """A stack's geometry and what each of its voxels is.

    Attributes
    ----------
    labels, second : (nz, nx, ny) uint8
        At a quarter of the slice thickness before and behind the slice's centre.
    signal : (2, nz, nx, ny) float32
        The brain's own signal there.
    spacing : (3,) mm
        Of the two axes in plane and between slices.
    affine : (4, 4)
        Voxel (x, y, slice) to world.
    """

    labels: NDArray[np.uint8]
    second: NDArray[np.uint8]
    signal: Float
    spacing: Float
    affine: NDArray[np.float64]

    @property
    def brain(self) -> NDArray[np.bool_]:
        """(nz, nx, ny): whether at least half of a voxel is brain."""
        return (CLASS[self.labels] == IS_BRAIN) | (CLASS[self.second] == IS_BRAIN)


@dataclass(frozen=True, eq=False)
class Mother:
    """Everything that does not depend on the stack."""

    fetuses: list[Fetus]
    body: tuple[float, float]
    fat: float
    muscle: float
    uterus: NDArray[np.float64]  # radii
    wall: float
    placenta: tuple[NDArray[np.float64], float]
    bumps: list[tuple[NDArray[np.float64], NDArray[np.float64], int]]  # centre, radii, label
    air: bool
    seed: int


def draw_mother(brains: Sequence[Brain], settings: MotherSettings, random: Random) -> Mother:
    """A mother at random: her uterus around the origin."""
    air = random.random() < settings.neonatal
    count = 1 if air else 1 + int(random.random() < settings.twins)
    fetuses = [_draw_fetus(brains, settings, random, air) for _ in range(count)]
    length = fetuses[0].length
    uterus = np.array([random.uniform(0.85, 1.3), random.uniform(0.7, 1.1), random.uniform(1.0, 1.7)]) * length
    placed = []
    for number, fetus in enumerate(fetuses):
        # Breech or not: the rotation is any, often along the uterus.
        shift = fetus.rotation @ [0, 0, 0.55 * fetus.length] + random.normal(0, 0.12, 3) * fetus.length
        if number:
            shift = -placed[0].head + random.normal(0, 0.1, 3) * fetus.length
            shift *= max(1.0, 0.75 * (length + fetus.length) / max(float(np.linalg.norm(shift - placed[0].head)), 1.0))
        placed.append(replace(fetus, head=np.zeros(3) if air else shift))
    axis = random.normal(size=3)
    bumps = []
    for _ in range(random.integers(4, 12)):
        centre = random.uniform(-1, 1, 3) * [150, 110, 220]
        bumps.append((centre, random.uniform(8, 45, 3), int(random.choice([WATER, VOID, *BOWEL, MUSCLE, FAT]))))
    return Mother(
        placed,
        (random.uniform(140, 215), random.uniform(100, 160)),
        random.uniform(8, 55),
        random.uniform(4, 20),
        uterus,
        random.uniform(2, 12),
        (axis / np.linalg.norm(axis), random.uniform(0.0, 55)),
        bumps,
        air,
        int(random.integers(2**31)),
    )


def _draw_fetus(brains: Sequence[Brain], settings: MotherSettings, random: Random, air: bool) -> Fetus:
    brain = brains[random.integers(len(brains))]
    if air:
        brain = max((brains[random.integers(len(brains))] for _ in range(3)), key=lambda found: found.length)
    scale = between(random, settings.brain_scale) * (random.uniform(1.0, 1.25) if air else 1.0)
    if random.random() < 0.5:
        tilt = Rotation.from_rotvec(random.normal(0, 0.35, 3))
        turn = Rotation.from_euler("z", random.uniform(0, 2 * np.pi))
        flip = Rotation.from_euler("x", np.pi * (random.random() < 0.7))
        rotation = (tilt * flip * turn).as_matrix()
    else:
        rotation = Rotation.random(random_state=int(random.integers(2**31))).as_matrix()
    bare = air and random.random() < settings.bare
    return Fetus(
        brain,
        scale,
        between(random, settings.liquor) * brain.length * scale,
        0.0 if bare else between(random, settings.cavity),
        random.uniform(0.8, 3.0) + (random.uniform(0, 3) if air else 0),
        random.uniform(1.0, 5.5) + (random.uniform(0, 4) if air else 0),
        rotation,
        np.zeros(3),
        float(random.uniform(-0.2, 1.1)),
        int(random.integers(2**31)),
        alone=air,
        bare=bare,
    )


def draw_stack(
    mother: Mother, settings: MotherSettings, random: Random, motion: bool = True, off_centre: float | None = None
) -> LabelledStack:
    """A stack through a mother, with motion of the fetus between slices."""
    low, high = settings.spacing
    spacing = low + (high - low) * random.random() ** 1.5
    shape = _in_plane(settings, random)
    count = int(random.integers(settings.slices[0], settings.slices[1] + 1))
    axes = _orientation(mother.fetuses[0], random)
    distance = between(random, settings.off_centre) if off_centre is None else off_centre
    if off_centre is None and random.random() < settings.absent:
        distance += random.uniform(120, 200)
    centre = mother.fetuses[0].head + distance * direction(random)
    if distance < 100:
        # In plane the brain can be anywhere; across the slices it is what the stack was planned for.
        room = np.maximum(np.array(shape) * settings.pixel - 130, 0) / 2
        centre = centre + axes[:, :2] @ (random.uniform(-1, 1, 2) * np.minimum(room, 80))
    affine = np.eye(4)
    affine[:3, :3] = axes * [settings.pixel, settings.pixel, spacing]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array([*shape, count]) - 1) / 2)
    thickness = spacing * between(random, settings.gap)
    moved = _motion(count, settings, random) if motion else (np.zeros((count, 3)), np.zeros((count, 3)))
    parts = [
        _labels(mother, affine, (*shape, count), sign * thickness / 4, moved, np.random.default_rng(mother.seed))
        for sign in (-1, 1)
    ]
    steps = np.array([settings.pixel, settings.pixel, spacing])
    return LabelledStack(parts[0][0], parts[1][0], np.stack([parts[0][1], parts[1][1]]), steps, affine)


def _in_plane(settings: MotherSettings, random: Random) -> tuple[int, int]:
    sides = between(random, settings.field_of_view) * np.array([1.0, random.uniform(0.75, 1.0)])
    if random.random() < 0.5:
        sides = sides[::-1]
    first, second = np.round(sides / settings.pixel).astype(int)
    return int(first), int(second)


def _orientation(fetus: Fetus, random: Random) -> NDArray[np.float64]:
    """(3, 3) axes of a stack: along the mother's or the fetus's, tilted a little."""
    frame = fetus.rotation if random.random() < 0.6 else np.eye(3)
    axes = frame[:, random.permutation(3)] * random.choice([-1.0, 1.0], 3)
    return Rotation.from_rotvec(random.normal(0, 0.2, 3)).as_matrix() @ axes


def _motion(count: int, settings: MotherSettings, random: Random) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(count, 3) each: rotation vectors, radians, and shifts, mm: a drift, jumps of interleaved packages, jitter."""
    turn, shift = np.radians(between(random, settings.turn)), between(random, settings.motion)
    packages = int(random.integers(1, 5))
    own = random.normal(0, 0.3, (2, count, 3))
    group = random.normal(0, 0.8, (2, packages, 3))[:, np.arange(count) % packages]
    drift = np.cumsum(random.normal(0, 1.5 / np.sqrt(count), (2, count, 3)), axis=1)
    drift -= drift.mean(axis=1, keepdims=True)
    whole = own + group + drift
    return turn * whole[0], shift * whole[1]


def _labels(
    mother: Mother,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    ahead: float,
    moved: tuple[NDArray[np.float64], NDArray[np.float64]],
    random: Random,
) -> tuple[NDArray[np.uint8], Float]:
    """Labels (nz, nx, ny) and the brain's signal, `ahead` mm in front of the slices' centres."""
    nx, ny, nz = shape
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    k, i, j = (axis.astype(np.float32) for axis in np.meshgrid(*map(np.arange, (nz, nx, ny)), indexing="ij"))
    k += np.float32(ahead / spacing[2])
    matrix = affine[:3].astype(np.float32)
    points = [m[0] * i + m[1] * j + m[2] * k + m[3] for m in matrix]
    grid = (nz, nx, ny)
    steps = np.array([spacing[2], spacing[0], spacing[1]])
    warp = [random.uniform(2, 9) * smooth_noise(grid, random.uniform(40, 80) / steps, random) for _ in range(3)]
    labels = np.zeros(grid, np.uint8)
    if not mother.air:
        _add_body(labels, [p + w for p, w in zip(points, warp, strict=True)], mother, steps, random)
    signal = np.zeros(grid, np.float32)
    for fetus in mother.fetuses:
        add_fetus(labels, signal, points, warp, fetus, moved, np.random.default_rng(fetus.seed))
    return labels, signal


def _add_body(
    labels: NDArray[np.uint8], points: Sequence[Float], mother: Mother, steps: NDArray[np.float64], random: Random
) -> None:
    x, y, z = points
    grid = labels.shape
    middle = np.array([random.uniform(-25, 25), -random.uniform(-10, 35), 0])
    wide, deep = mother.body
    level = (np.abs(x - middle[0]) / wide) ** 2.5 + (np.abs(y - middle[1]) / (deep * (1 - (z / 700) ** 2))) ** 2.5
    depth = (1 - level**0.4) * min(wide, deep)
    cells = random.uniform(12, 45) / steps
    regions = [smooth_noise(grid, cells, random) for _ in BOWEL]
    labels[:] = np.where(depth > 0, BOWEL[0] + np.argmax(regions, axis=0), AIR)
    for centre, radii, label in mother.bumps:
        labels[(ellipsoid(points, centre, radii) > 0) & (depth > 0)] = label
    # Spine: vertebrae and discs, and the canal behind.
    back = middle[1] - deep + mother.fat + mother.muscle + 28
    bend = np.float32(20) * np.sin(z / np.float32(120))
    column = np.hypot(x - middle[0], (y - back - bend)) < 20
    labels[column] = np.where(np.mod(z[column], 34) < 25, BONE, DISC)
    labels[np.hypot(x - middle[0], y - back - bend + 29) < 8] = WATER
    skin = (depth > 0) & (depth < mother.fat + mother.muscle)
    labels[skin] = np.where(depth[skin] < mother.fat * (0.7 + 0.3 * (y[skin] < 0)), FAT, MUSCLE)
    inside = ellipsoid(points, (0, 0, 0), mother.uterus)
    for fetus in mother.fetuses:
        # Room for the head wherever it lies.
        inside = np.maximum(inside, ellipsoid(points, fetus.head, [0.62 * fetus.length + 4] * 3))
    labels[inside > -mother.wall] = WALL
    side, thick = mother.placenta
    towards = sum(p * np.float32(d) for p, d in zip(points, side, strict=True)) / np.float32(mother.uterus.mean())
    labels[inside > 0] = FLUID
    labels[(inside > 0) & (inside < thick * np.clip(towards * 2, 0, 1))] = PLACENTA
