"""A digital brain-like phantom: folded cortex, ventricles, deep grey matter, cerebellum, with T2-like contrast.

Nested surfaces made by code. The sulci are the sheets where a band-limited random field on the brain's surface changes
sign, carried inwards along the radius: a labyrinth of gyri of nearly the same width, as a cortex has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

Float = NDArray[np.float32]
Triple = tuple[float, float, float]

# Half extents in mm of the head that all lengths below belong to; x to the right, y to the front, z up.
_HALF_EXTENT = np.array([41.0, 48.0, 41.0])
_REFERENCE_LENGTH = 92.0
# Relative T2-weighted signal of a fetal or neonatal brain, in which white matter is still brighter than grey.
_FLUID, _WHITE, _CORTEX, _DEEP, _STEM = 1000.0, 650.0, 410.0, 480.0, 540.0
_TEXTURE = 0.05
_TEXTURE_SCALE = 3.0
_RIBBON = 2.1
_FLUID_LAYER = 2.5
_FISSURE = 0.9
# A gyrus is half a wavelength wide: two ribbons, the white matter between them and half a sulcus on either side.
_FOLD_WAVELENGTH = 23.0
_SULCUS_HALF_WIDTH = 0.65
_SULCUS_DEPTH = (4.0, 11.0)
# Where the field is nearly flat a sheet would swell into a lake: no slope counts as less than this share of the mean.
_LEAST_SLOPE = 0.5
_FOLIA_WAVELENGTH = 4.5
_FOLIA_HALF_WIDTH = 0.45
_FOLIA_DEPTH = 5.0
_FOLIA_RIBBON = 1.0
# Knots (x, y, z, radius) of the right lateral ventricle, frontal to temporal horn, and of its occipital horn.
_VENTRICLE = np.array(
    [
        [5.0, 25, 2, 2.0],
        [5.5, 17, 6, 3.4],
        [6, 4, 9, 3.4],
        [8, -10, 9, 3.6],
        [14, -20, 5, 4.6],
        [20, -18, -4, 3.4],
        [23, -8, -11, 2.4],
        [23, 3, -14, 1.6],
    ]
)
_OCCIPITAL_HORN = np.array([[14.0, -20, 5, 4.4], [14, -26, 4, 3.6], [12, -33, 3, 1.8]])


@dataclass(frozen=True, eq=False)
class _Grid:
    """Coordinates of the voxels, broadcastable, and their spacing, in mm of the reference head."""

    x: Float
    y: Float
    z: Float
    spacing: float

    def ellipsoid(self, centre: Triple, radii: Triple, mirrored: bool = False) -> Float:
        """Depth below an ellipsoid's surface in mm, to first order; negative outside."""
        x = np.abs(self.x) if mirrored else self.x
        u, v, w = (x - centre[0]) / radii[0], (self.y - centre[1]) / radii[1], (self.z - centre[2]) / radii[2]
        level = np.sqrt(u * u + v * v + w * w)
        slope = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (w / radii[2]) ** 2)
        return ((1 - level) * level / np.maximum(slope, 1e-3)).astype(np.float32)

    def capsule(self, knots: NDArray[np.float64]) -> Float:
        """Depth in mm inside a tube along knots (n, 4) of x, y, z and radius, on both sides of the midline."""
        along = CubicSpline(np.arange(len(knots)), knots)
        depth = np.full(np.broadcast_shapes(self.x.shape, self.y.shape, self.z.shape), -np.inf, dtype=np.float32)
        side, half = np.abs(self.x).astype(np.float32), self.spacing
        for cx, cy, cz, radius in along(np.arange(0, len(knots) - 1 + 1e-9, 0.1)):
            near = [
                np.flatnonzero(np.abs(axis.ravel() - c) < radius + 2 * half)
                for axis, c in ((side, cx), (self.y, cy), (self.z, cz))
            ]
            box = np.ix_(*near)
            distance = np.sqrt(
                (side[near[0]] - cx) ** 2 + (self.y[:, near[1]] - cy) ** 2 + (self.z[:, :, near[2]] - cz) ** 2
            )
            depth[box] = np.maximum(depth[box], radius - distance)
        return np.maximum(depth, -10 * half)

    def fraction(self, depth: Float) -> Float:
        """Share of a voxel that lies inside a surface, from the depth of its centre in mm: the partial volume."""
        return np.clip(depth / self.spacing + 0.5, 0, 1).astype(np.float32)

    def distance_inside(self, depth: Float) -> Float:
        """Distance in mm from the surface where `depth` is zero, for voxels inside it."""
        distance = distance_transform_edt(depth > 0).astype(np.float32) - 0.5
        return gaussian_filter(distance, 0.6) * self.spacing


def _make_grid(spacing: float) -> _Grid:
    """Symmetric grid around the head."""
    axes = []
    for half in _HALF_EXTENT:
        count = int(np.ceil(half / spacing))
        axes.append((np.arange(-count, count + 1) * spacing).astype(np.float32))
    return _Grid(axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :], spacing)


def _band_noise(shape: tuple[int, ...], wavelength: float, rng: np.random.Generator) -> Float:
    """Random field of about one wavelength (in voxels), standard deviation 1."""
    noise = rng.standard_normal(shape).astype(np.float32)
    # The difference of two Gaussians passes a band around this wavelength.
    sigma = wavelength / 5.5
    field = gaussian_filter(noise, sigma, mode="wrap") - gaussian_filter(noise, 1.3 * sigma, mode="wrap")
    return field / field.std()


def _smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Float:
    """Random field smoothed over `sigma` voxels, standard deviation 1."""
    field = gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma, mode="wrap")
    return field / field.std()


def _sheet_distance(field: Float, spacing: float) -> Float:
    """Distance in mm to the nearest zero of a field, to first order."""
    slope = np.sqrt(sum(np.square(d) for d in np.gradient(field, spacing)))
    return (np.abs(field) / np.maximum(slope, _LEAST_SLOPE * slope.mean())).astype(np.float32)


def _hemispheres(grid: _Grid) -> Float:
    """Depth in mm below the smooth outer surface of both hemispheres, the fissure between them included."""
    side = np.abs(grid.x)
    cerebrum = np.minimum(grid.ellipsoid((12, 0, 7), (25.5, 43, 30), mirrored=True), grid.z + 13 + 0.004 * grid.y**2)
    temporal = grid.ellipsoid((23, 3, -13), (13.5, 25, 12), mirrored=True)
    lobes = np.maximum(cerebrum, temporal)
    sylvian = np.abs(grid.z + 6 + 0.28 * grid.y) - 0.6 - 0.04 * np.maximum(side - 24, 0)
    sylvian = np.maximum(sylvian, np.maximum(23 - side, -16 - grid.y))
    return np.minimum(np.minimum(lobes, sylvian), side - _FISSURE).astype(np.float32)


def _folded(grid: _Grid, smooth: Float, rng: np.random.Generator) -> Float:
    """Depth in mm below the folded surface: the smooth one with sulci cut into it."""
    step = 2.0
    shape = (64, 64, 64)
    fold, depth = _band_noise(shape, _FOLD_WAVELENGTH / step, rng), _smooth_noise(shape, 6 / step, rng)
    # Positions on a sphere-like shell around each hemisphere's centre: sulci then run along the radius.
    u, v, w = (np.abs(grid.x) - 12) / 26, grid.y / 43, (grid.z - 3) / 31
    level = np.maximum(np.sqrt(u * u + v * v + w * w), 0.2)
    # The right hemisphere looks into another part of the noise than the left: they are alike, not mirrored.
    shell = np.stack(
        [
            np.broadcast_to(offset + radius * c / level / step, level.shape)
            for offset, radius, c in ((np.where(grid.x > 0, 16, 48), 26, u), (32, 43, v), (32, 31, w))
        ]
    )
    folds = map_coordinates(fold, shell, order=3, mode="grid-wrap", prefilter=False)
    ratio = np.clip(0.5 + 0.3 * map_coordinates(depth, shell, order=1, mode="grid-wrap"), 0, 1)
    reach = _SULCUS_DEPTH[0] + (_SULCUS_DEPTH[1] - _SULCUS_DEPTH[0]) * ratio
    sulcus = _sheet_distance(folds, grid.spacing) - _SULCUS_HALF_WIDTH
    return np.minimum(smooth, np.maximum(sulcus, smooth - reach)).astype(np.float32)


def _cerebellum(grid: _Grid) -> tuple[Float, Float]:
    """Depth in mm below the cerebellum's smooth surface, and below the one with folia cut into it."""
    smooth = np.maximum(
        grid.ellipsoid((9, -27, -23), (15, 13.5, 11.5), mirrored=True), grid.ellipsoid((0, -27, -22), (8, 14, 12))
    )
    angle = np.arctan2(grid.z + 20, grid.y + 17 + 0.15 * np.abs(grid.x))
    folia = np.sin(2 * np.pi * 13 * angle / _FOLIA_WAVELENGTH)
    sheet = np.arcsin(np.abs(folia)) * _FOLIA_WAVELENGTH / (2 * np.pi) - _FOLIA_HALF_WIDTH
    folded = np.minimum(smooth, np.maximum(sheet, smooth - _FOLIA_DEPTH))
    return smooth, folded.astype(np.float32)


def _brain_stem(grid: _Grid) -> Float:
    """Depth in mm inside midbrain, pons and medulla."""
    axis = -12 + 0.22 * (grid.z + 10)
    radius = 6.0 + 1.8 * np.exp(-(((grid.z + 21) / 6) ** 2))
    tube = radius - np.sqrt(grid.x**2 + (grid.y - axis) ** 2)
    return np.minimum(tube, np.minimum(-4 - grid.z, grid.z + 37)).astype(np.float32)


def _callosum(grid: _Grid) -> Float:
    """Depth in mm inside the corpus callosum, an arch over the lateral ventricles."""
    y, z = (grid.y - 2) / 24, (grid.z + 0.5) / 14.5
    radius = np.sqrt(y * y + z * z)
    arch = 2.2 - np.abs(radius - 1) * np.where(np.abs(y) > np.abs(z), 24, 14.5) * 0.9
    return np.minimum(arch, np.minimum(12 - np.abs(grid.x), grid.z + 3)).astype(np.float32)


def _ventricles(grid: _Grid) -> Float:
    """Depth in mm inside the lateral, third and fourth ventricles."""
    lateral = np.maximum(grid.capsule(_VENTRICLE), grid.capsule(_OCCIPITAL_HORN))
    third = grid.ellipsoid((0, -1, -3), (1.3, 11, 7))
    fourth = grid.ellipsoid((0, -20, -21), (4, 2.6, 6))
    return np.maximum(lateral, np.maximum(third, fourth))


def _deep_grey(grid: _Grid) -> Float:
    """Depth in mm inside thalamus, putamen with pallidum, and caudate."""
    thalamus = grid.ellipsoid((7.5, -6, 0), (5.8, 10.5, 6), mirrored=True)
    putamen = grid.ellipsoid((17.5, 5, 0), (4.2, 12.5, 7.5), mirrored=True)
    caudate = grid.ellipsoid((10, 14, 5), (3.2, 8, 5), mirrored=True)
    return np.maximum(thalamus, np.maximum(putamen, caudate))


def _paint(volume: Float, signal: float, fraction: Float) -> None:
    """Lay a tissue over what is there, in place, as far as it fills each voxel."""
    volume += fraction * (np.float32(signal) - volume)


def brain_phantom(
    size_mm: float = 92.0, spacing: float = 0.8, seed: int = 0
) -> tuple[Float, NDArray[np.float64], NDArray[np.bool_]]:
    """Make a folded, brain-like volume.

    Parameters
    ----------
    size_mm : float
        Length of the brain from front to back, mm; everything scales with it.
    spacing : float
        Isotropic voxel size, mm.
    seed : int
        Seed of the folding and the texture.

    Returns
    -------
    volume : (nx, ny, nz) float32
        Intensities, fluid near 1000; zero outside the mask.
    affine : (4, 4) float64
        Voxel index to world, mm RAS+; the origin lies in the middle of the brain.
    mask : (nx, ny, nz) bool
        The brain with the fluid around it.

    Raises
    ------
    ValueError
        A length is not positive.

    Examples
    --------
    >>> volume, affine, mask = brain_phantom(spacing=3.0)
    >>> volume.shape == mask.shape
    True
    """
    if size_mm <= 0 or spacing <= 0:
        raise ValueError(f"size_mm is {size_mm}, spacing is {spacing}; both have to be greater than 0")
    rng = np.random.default_rng(seed)
    grid = _make_grid(spacing * _REFERENCE_LENGTH / size_mm)
    cerebellum, folia = _cerebellum(grid)
    stem, callosum = _brain_stem(grid), _callosum(grid)
    # Fluid parts the cerebellum from the lobes above it.
    smooth = np.minimum(_hemispheres(grid), -1.5 - cerebellum)
    core = grid.ellipsoid((0, -2, 0), (13, 21, 11.5))
    cortex = np.maximum(_folded(grid, smooth, rng), core)
    envelope = np.maximum(np.maximum(smooth, cerebellum), np.maximum(stem, core))
    hull = gaussian_filter(np.maximum(envelope, -8), 2.0 / grid.spacing) + _FLUID_LAYER

    volume = np.zeros(hull.shape, dtype=np.float32)
    _paint(volume, _FLUID, grid.fraction(hull))
    _paint(volume, _CORTEX, grid.fraction(cortex))
    _paint(volume, _WHITE, grid.fraction(np.minimum(cortex, grid.distance_inside(cortex) - _RIBBON)))
    _paint(volume, _WHITE, grid.fraction(core))
    _paint(volume, _WHITE, grid.fraction(callosum))
    _paint(volume, _CORTEX, grid.fraction(folia))
    _paint(volume, _WHITE, grid.fraction(np.minimum(folia, grid.distance_inside(folia) - _FOLIA_RIBBON)))
    _paint(volume, _STEM, grid.fraction(stem))
    _paint(volume, _DEEP, grid.fraction(_deep_grey(grid)))
    _paint(volume, _FLUID, grid.fraction(_ventricles(grid)))
    volume *= 1 + _TEXTURE * _smooth_noise(hull.shape, _TEXTURE_SCALE / grid.spacing, rng)

    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -(np.array(hull.shape) - 1) / 2 * spacing
    mask = hull > 0
    return np.where(mask, volume, np.float32(0)), affine, mask
