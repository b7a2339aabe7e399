"""Synthetic mothers: stacks of slices through a fetus in a uterus in a body, every voxel labelled.

Anatomy is made of few surfaces, in mm: a body with fat, muscle, spine and bowel; a uterus with fluid and placenta; a
fetus in it whose brain is that of an atlas or a phantom, with liquor, skull, scalp, face, trunk, limbs and cord.
Contrast, texture, light, noise and motion are random, far beyond what scanners do: a network that has seen everything
has to go by shape (domain randomisation: Billot et al., SynthSeg, Medical Image Analysis 86, 2023, 102789).

Frames: world x to the mother's right, y to her front, z to her head; the fetus's frame is that of its brain.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Float = NDArray[np.float32]
Range = tuple[float, float]
Random = np.random.Generator

AIR, FAT, MUSCLE, BONE, DISC, WATER, WALL, FLUID, PLACENTA, CORD = range(10)
SKIN, SKULL, LUNG, LIVER, FETAL_WATER, FETAL_MIXED, VOID = range(10, 17)
BOWEL = range(17, 23)
LIQUOR, BRAIN = 23, 24  # and eight tissues of the brain from there on
N_LABELS = BRAIN + 9

OTHER, IS_BRAIN, FETUS, UTERUS = range(4)
"""What a network tells apart."""
CLASS = np.full(N_LABELS, OTHER, np.uint8)
CLASS[[FLUID, PLACENTA, CORD]] = UTERUS
CLASS[[SKIN, SKULL, LUNG, LIVER, FETAL_WATER, FETAL_MIXED]] = FETUS
CLASS[LIQUOR:] = IS_BRAIN

# T2-weighted signal, that of fluid 1: a usual range of each label.
_USUAL = {
    AIR: (0.0, 0.02), FAT: (0.35, 0.95), MUSCLE: (0.08, 0.3), BONE: (0.1, 0.4), DISC: (0.15, 0.6), WATER: (0.7, 1.1),
    WALL: (0.15, 0.5), FLUID: (0.6, 1.1), PLACENTA: (0.25, 0.6), CORD: (0.03, 0.5), SKIN: (0.2, 0.6),
    SKULL: (0.02, 0.18), LUNG: (0.3, 0.8), LIVER: (0.1, 0.3), FETAL_WATER: (0.7, 1.1), FETAL_MIXED: (0.15, 0.5),
    VOID: (0.0, 0.05), LIQUOR: (0.75, 1.1),
}  # fmt: skip
# Of the atlas: white matter and cortex, ventricles, cerebellum, outer liquor, deep grey matter, brainstem and two more.
_TISSUE = ((0.4, 0.65), (0.75, 1.05), (0.3, 0.55), (0.75, 1.1), (0.3, 0.5), (0.35, 0.6), (0.35, 0.65), (0.35, 0.65))


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
    liquor: Range = (0.0, 0.07)
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
class Brain:
    """A brain to put into a head: tissues, signal, and the distance from its surface, on one grid.

    Attributes
    ----------
    tissue : (X, Y, Z) uint8
        0 outside, 1 to 8 inside.
    signal : (X, Y, Z) float32
        That of fluid about 1.
    distance : (X, Y, Z) float32
        mm, negative inside.
    spacing : float
        mm; the axes point to the right, the front and the top.
    centre : (3,) voxels
    length : float
        mm from front to back.
    """

    tissue: NDArray[np.uint8]
    signal: Float
    distance: Float
    spacing: float
    centre: Float
    length: float

    @classmethod
    def made(cls, tissue: NDArray[np.integer], signal: NDArray[np.floating], spacing: float) -> Brain:
        """From tissues and signal on a grid; room for the layers of the head is made around."""
        pad = int(np.ceil(30 / spacing))
        tissue, signal = np.pad(tissue, pad).astype(np.uint8), np.pad(signal, pad).astype(np.float32)
        inside = ndimage.binary_closing(tissue > 0, iterations=max(1, round(3 / spacing)))
        # Furrows at the surface belong to the brain, as masks are drawn.
        tissue[inside & (tissue == 0)] = 4
        distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
        where = np.argwhere(inside)
        top = float(np.percentile(signal[inside], 99))
        signal[inside & (signal <= 0)] = 0.8 * top
        length = float(np.ptp(where[:, 1]) + 1) * spacing
        return cls(tissue, signal / top, (distance * spacing).astype(np.float32), spacing, where.mean(axis=0), length)


def atlas_brains(folder: Path, ages: Sequence[int] | None = None, spacing: float = 1.6) -> list[Brain]:
    """Brains of the open spina bifida atlas: files gaNN-srr.nii.gz and gaNN-parcellation.nii.gz of 0.8 mm."""
    found = []
    for path in sorted(folder.glob("ga*-srr.nii.gz")):
        if ages is not None and int(path.name[2:4]) not in ages:
            continue
        image = nib.load(path)
        step = round(spacing / float(image.header.get_zooms()[0]))
        parcels = nib.load(path.with_name(path.name.replace("srr", "parcellation")))
        # Anti-aliased by the mean of the neighbours, labels by their middle voxel.
        signal = ndimage.uniform_filter(np.asarray(image.dataobj, np.float32), step)[::step, ::step, ::step]
        tissue = np.asarray(parcels.dataobj).astype(np.uint8)[::step, ::step, ::step]
        found.append(Brain.made(tissue, signal, spacing))
    return found


def phantom_brain(length_mm: float, seed: int, spacing: float = 1.6) -> Brain:
    """The package's digital phantom as a brain; its tissues are told apart by their signal."""
    from slicesplat.validation.phantom import brain_phantom

    volume, _, mask = brain_phantom(size_mm=length_mm, spacing=spacing, seed=seed)
    volume = np.asarray(volume, np.float32)
    levels = np.percentile(volume[mask], [25, 50, 80, 93])
    tissue = np.where(mask, 1 + np.array([4, 2, 0, 5, 1])[np.searchsorted(levels, volume)], 0)
    return Brain.made(tissue, np.where(mask, volume, 0), spacing)


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
    def brain(self) -> Float:
        """(nz, nx, ny): share of each voxel that is brain."""
        return 0.5 * sum((CLASS[part] == IS_BRAIN).astype(np.float32) for part in (self.labels, self.second))


def between(random: Random, ends: Range) -> float:
    """Uniform."""
    return float(random.uniform(*ends))


@dataclass(frozen=True, eq=False)
class Fetus:
    """Where a fetus is and how it is built; lengths in brain lengths in its own frame."""

    brain: Brain
    scale: float
    liquor: float  # mm
    skull: float
    scalp: float
    rotation: NDArray[np.float64]  # its frame to world
    head: NDArray[np.float64]  # centre of the brain in world, mm
    flexion: float
    seed: int
    alone: bool = False  # no body but a neck
    bare: bool = False  # a brain cut out of its head

    @property
    def length(self) -> float:
        """Of the brain, mm."""
        return self.brain.length * self.scale


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
    return Fetus(
        brain,
        scale,
        between(random, settings.liquor) * brain.length * scale,
        random.uniform(0.8, 3.0) + (random.uniform(0, 3) if air else 0),
        random.uniform(1.0, 5.5) + (random.uniform(0, 4) if air else 0),
        rotation,
        np.zeros(3),
        float(random.uniform(-0.2, 1.1)),
        int(random.integers(2**31)),
        alone=air,
        bare=air and random.random() < settings.bare,
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
    centre = mother.fetuses[0].head + distance * _unit(random)
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


def _unit(random: Random) -> NDArray[np.float64]:
    axis = random.normal(size=3)
    return axis / np.linalg.norm(axis)


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


def _smooth(shape: tuple[int, int, int], cells: Sequence[float], random: Random) -> Float:
    """Noise (nz, nx, ny) of standard deviation about 1 that changes over so many voxels along each axis."""
    coarse = [int(np.ceil(n / max(c, 1.0))) + 2 for n, c in zip(shape, cells, strict=True)]
    values = torch.from_numpy(random.standard_normal(coarse, dtype=np.float32))[None, None]
    fine = torch.nn.functional.interpolate(values, size=shape, mode="trilinear", align_corners=True)
    return fine[0, 0].numpy() * np.float32(1.4)


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
    warp = [random.uniform(2, 9) * _smooth(grid, random.uniform(40, 80) / steps, random) for _ in range(3)]
    labels = np.zeros(grid, np.uint8)
    if not mother.air:
        _add_body(labels, [p + w for p, w in zip(points, warp, strict=True)], mother, steps, random)
    signal = np.zeros(grid, np.float32)
    for fetus in mother.fetuses:
        _add_fetus(labels, signal, points, warp, fetus, moved, mother, np.random.default_rng(fetus.seed))
    return labels, signal


def _ellipsoid(points: Sequence[Float], centre: Sequence[float], radii: Sequence[float]) -> Float:
    """Depth below the surface, mm, to first order; negative outside."""
    level = np.sqrt(
        sum(((p - np.float32(c)) / np.float32(r)) ** 2 for p, c, r in zip(points, centre, radii, strict=True))
    )
    return (1 - level) * np.float32(min(radii))


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
    regions = [_smooth(grid, cells, random) for _ in BOWEL]
    labels[:] = np.where(depth > 0, BOWEL[0] + np.argmax(regions, axis=0), AIR)
    for centre, radii, label in mother.bumps:
        labels[(_ellipsoid(points, centre, radii) > 0) & (depth > 0)] = label
    # Spine: vertebrae and discs, and the canal behind.
    back = middle[1] - deep + mother.fat + mother.muscle + 28
    bend = np.float32(20) * np.sin(z / np.float32(120))
    column = np.hypot(x - middle[0], (y - back - bend)) < 20
    labels[column] = np.where(np.mod(z[column], 34) < 25, BONE, DISC)
    labels[np.hypot(x - middle[0], y - back - bend + 29) < 8] = WATER
    skin = (depth > 0) & (depth < mother.fat + mother.muscle)
    labels[skin] = np.where(depth[skin] < mother.fat * (0.7 + 0.3 * (y[skin] < 0)), FAT, MUSCLE)
    inside = _ellipsoid(points, (0, 0, 0), mother.uterus)
    for fetus in mother.fetuses:
        # Room for the head wherever it lies.
        inside = np.maximum(inside, _ellipsoid(points, fetus.head, [0.62 * fetus.length + 4] * 3))
    labels[inside > -mother.wall] = WALL
    direction, thick = mother.placenta
    towards = sum(p * np.float32(d) for p, d in zip(points, direction, strict=True)) / np.float32(mother.uterus.mean())
    labels[inside > 0] = FLUID
    labels[(inside > 0) & (inside < thick * np.clip(towards * 2, 0, 1))] = PLACENTA


def _add_fetus(
    labels: NDArray[np.uint8],
    signal: Float,
    points: Sequence[Float],
    warp: Sequence[Float],
    fetus: Fetus,
    moved: tuple[NDArray[np.float64], NDArray[np.float64]],
    mother: Mother,
    random: Random,
) -> None:
    """Paint a fetus over everything, where it is in each slice."""
    length = fetus.length
    reach = np.float32(1.0 * length if fetus.alone else 2.4 * length)
    near = sum((p - np.float32(c)) ** 2 for p, c in zip(points, fetus.head, strict=True)) < reach**2
    where = np.nonzero(near)
    if not len(where[0]):
        return
    rotations = Rotation.from_rotvec(moved[0]).as_matrix()
    offset = np.stack([p[where] for p in points], axis=1) - fetus.head.astype(np.float32)
    to_frame = np.einsum("ab,kbc->kac", fetus.rotation.T, rotations).astype(np.float32)
    shifts = (moved[1] @ fetus.rotation).astype(np.float32)
    own = np.empty_like(offset)
    ends = np.searchsorted(where[0], np.arange(len(rotations) + 1))
    for slice_, (low, high) in enumerate(itertools.pairwise(ends)):
        own[low:high] = offset[low:high] @ to_frame[slice_].T + shifts[slice_]
    soft = np.stack([w[where] for w in warp], axis=1) / np.float32(8)
    at = [own[:, axis] + soft[:, axis] for axis in range(3)]
    painted = labels[where]
    if not fetus.bare:
        _paint_body(painted, at, fetus, random)
    own += soft * np.float32(0.35)
    shine = _paint_head(painted, own, fetus, random)
    labels[where] = painted
    signal[where] = np.maximum(signal[where], shine)


def _paint_body(painted: NDArray[np.uint8], at: list[Float], fetus: Fetus, random: Random) -> None:
    """Trunk with organs, limbs and cord; a neck only for a head alone."""
    size = fetus.length
    at = [axis / np.float32(size) for axis in at]
    neck = _ellipsoid(at, (0, -0.2, -0.62), (0.2, 0.2, 0.45))
    painted[neck > 0] = SKIN
    if fetus.alone:
        return
    free = np.isin(painted, (FLUID, PLACENTA, WALL, SKIN))
    c, s = np.float32(np.cos(fetus.flexion)), np.float32(np.sin(fetus.flexion))
    low = at[2] + np.float32(0.5)
    # The trunk's own frame hangs at the neck, bent to the front.
    trunk = [at[0], at[1] * c + low * s + np.float32(0.1), low * c - at[1] * s]
    inside = _ellipsoid(trunk, (0, 0, -0.75), (0.44, 0.4, 0.75))
    body = free & (inside > 0)
    painted[body] = SKIN
    painted[body & (inside > 0.05)] = FETAL_MIXED
    for side in (-1, 1):
        painted[body & (_ellipsoid(trunk, (0.18 * side, 0, -0.4), (0.15, 0.24, 0.25)) > 0)] = LUNG
    painted[body & (_ellipsoid(trunk, (0.08, 0.1, -0.72), (0.3, 0.22, 0.14)) > 0)] = LIVER
    painted[body & (_ellipsoid(trunk, (-0.02, 0.12, -0.45), (0.13, 0.14, 0.14)) > 0)] = VOID
    for _ in range(random.integers(1, 4)):
        centre = random.uniform((-0.22, -0.1, -1.3), (0.22, 0.2, -0.7))
        painted[body & (_ellipsoid(trunk, centre, random.uniform(0.05, 0.15, 3)) > 0)] = FETAL_WATER
    spine = np.hypot(trunk[0], trunk[1] + np.float32(0.28))
    painted[body & (spine < 0.09)] = SKULL
    painted[body & (spine < 0.035)] = FETAL_WATER
    for _ in range(random.integers(3, 7)):
        start = random.uniform((-0.6, 0.0, -1.6), (0.6, 0.9, -0.4))
        _paint_tube(painted, free, at, start, random.uniform(0.3, 0.6) * _unit(random), random.uniform(0.06, 0.14))
    start, width = random.uniform((-0.5, 0.2, -1.2), (0.5, 1.0, 0.3)), random.uniform(0.03, 0.07)
    for _ in range(random.integers(2, 8)):
        step = 0.35 * _unit(random)
        _paint_tube(painted, painted == FLUID, at, start, step, width, CORD, VOID)
        start = start + step


def _paint_tube(
    painted: NDArray[np.uint8],
    allowed: NDArray[np.bool_],
    at: Sequence[Float],
    start: NDArray[np.float64],
    step: NDArray[np.float64],
    radius: float,
    outer: int = SKIN,
    inner: int = SKULL,
) -> None:
    """A capsule with a core."""
    rel = [p - np.float32(c) for p, c in zip(at, start, strict=True)]
    along = sum(r * np.float32(d) for r, d in zip(rel, step, strict=True)) / np.float32(step @ step)
    along = np.clip(along, 0, 1)
    squared = sum((r - along * np.float32(d)) ** 2 for r, d in zip(rel, step, strict=True))
    painted[allowed & (squared < radius**2)] = outer
    painted[allowed & (squared < (0.4 * radius) ** 2)] = inner


def _paint_head(painted: NDArray[np.uint8], own: Float, fetus: Fetus, random: Random) -> Float:
    """Face, scalp, skull, liquor and brain; the brain's signal (n,)."""
    brain, size = fetus.brain, fetus.length
    voxel = (own.T / np.float32(brain.spacing * fetus.scale) + brain.centre[:, None].astype(np.float32)).astype(
        np.float32
    )
    distance = ndimage.map_coordinates(brain.distance, voxel, order=1, mode="nearest") * np.float32(fetus.scale)
    beyond = np.abs(voxel - brain.centre[:, None].astype(np.float32)).max(axis=0) > max(brain.distance.shape) / 2
    distance[beyond] = 99
    at = [own[:, axis] / np.float32(size) for axis in range(3)]
    face = np.maximum(
        _ellipsoid(at, (0, 0.3, -0.36), (0.27, 0.26, 0.32)), _ellipsoid(at, (0, 0.42, -0.5), (0.2, 0.14, 0.16))
    )
    face = np.full_like(face, -1) if fetus.bare else face
    painted[face > 0] = SKIN
    ripple = sum(np.sin(a * np.float32(random.uniform(15, 45)) + np.float32(random.uniform(0, 6))) for a in at)
    painted[(face > 0.03) & (ripple > 0.4)] = FETAL_MIXED
    painted[(face > 0.03) & (ripple < -0.9)] = SKULL
    painted[(face > 0.05) & (ripple > 1.5)] = FETAL_WATER
    # Liquor is thicker at some places, for one frequency in each direction.
    wave = sum(np.sin(a * np.float32(random.uniform(2, 7)) + np.float32(random.uniform(0, 6))) for a in at) / 3
    edge = distance - np.float32(fetus.liquor) * (1 + np.float32(random.uniform(0, 0.8)) * wave)
    if not fetus.bare:
        painted[edge < fetus.skull + fetus.scalp] = SKIN
        painted[edge < fetus.skull] = SKULL
    for side in () if fetus.bare else (-1, 1):
        eye = _ellipsoid(at, (0.17 * side, 0.4, -0.2), (0.085,) * 3)
        free = (edge > 0.5) & (eye > 0)
        painted[free] = FETAL_WATER
        painted[free & (_ellipsoid(at, (0.18 * side, 0.45, -0.2), (0.03,) * 3) > 0)] = VOID
    inside = edge < 0
    painted[inside] = LIQUOR
    tissue = ndimage.map_coordinates(brain.tissue, voxel[:, inside], order=0, mode="constant")
    painted[inside] = np.where(tissue > 0, BRAIN + tissue - 1, LIQUOR)
    shine = np.zeros(len(own), np.float32)
    shine[inside] = ndimage.map_coordinates(brain.signal, voxel[:, inside], order=1, mode="constant")
    shine[painted == LIQUOR] = 0
    return shine


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
    texture[:, LIQUOR:] *= 0.5
    own = random.uniform(0.4, 1.0) if usual else random.uniform(0, 0.8)
    return _Look(mean.astype(np.float32), texture.astype(np.float32), own, float(np.exp(random.normal(0, 0.15))))


def draw_image(stack: LabelledStack, settings: MotherSettings, random: Random) -> Float:
    """An image (nz, nx, ny) of a labelled stack."""
    look = _draw_look(settings, random)
    grid, steps = stack.labels.shape, stack.spacing[[2, 0, 1]]
    fields = [_smooth(grid, size / steps, random) for size in (random.uniform(2.5, 4), random.uniform(6, 14), 40.0)]
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
    ramp = _smooth(grid, random.uniform(90, 250) / steps, random)
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
