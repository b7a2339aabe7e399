"""Known volume to moved, noisy stacks of thick slices, with the truth.

A slice is the integral of the volume, interpolated by cubic B-splines, against the point-spread function, taken by
quadrature in the moved slice's frame. Nothing here is shared with the Gaussian forward model, so that it can test it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numba import prange
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates, spline_filter
from scipy.spatial.transform import Rotation

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.folder import output_folder
from slicesplat.jit import jit

Float = NDArray[np.float64]
Motion = Literal["none", "mild", "moderate", "severe"]
Profile = Literal["gauss", "box"]

# Degrees and millimetres within a stack. Uncorrected, the mean over 12 seeds of the mean slice error of a ball of 48 mm
# radius is 1.6, 4.7 and 10.3 mm; it grows with the head, to 12.0 mm for severe motion of an infant's.
MOTION_AMPLITUDE: dict[str, tuple[float, float]] = {
    "none": (0.0, 0.0),
    "mild": (3.0, 1.2),
    "moderate": (8.0, 4.0),
    "severe": (20.0, 8.0),
}
# A trajectory that swings to about its amplitude has this root mean square per component, in amplitudes.
_TRAJECTORY_RMS = 0.42
# Between stacks the subject settles anywhere within this many amplitudes of where it lay in the first.
_STACK_DISAGREEMENT = 0.5
# The drift has this correlation length, as a share of the acquisition of one stack.
_DRIFT_LENGTH = 0.08
_JUMPS_PER_STACK = 2.0
# A jump's standard deviation, in units of the drift's.
_JUMP_SIZE = 1.0
# What a spin-history or motion dropout leaves of a slice's signal.
_DROPOUT_SIGNAL = (0.1, 0.4)
# Empty border around the mask in mm, beyond what the motion needs.
_MARGIN = 3.0
# Stacks after the first three repeat the orientations, tilted by up to this much.
_OBLIQUE_DEGREES = 10.0
# First axis, second axis and normal of an axial, a coronal and a sagittal stack, as columns.
_ORIENTATIONS: tuple[Float, ...] = (
    np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
)
# Pixels, slice thicknesses and slice distances in mm: beyond what scanners have, far within what can be computed.
_LENGTHS = (0.1, 100.0)
_FWHM_TO_SIGMA = 1.0 / math.sqrt(8.0 * math.log(2.0))
_IN_PLANE_FWHM = 1.2
SIMULATION_FILES = re.compile(r"(stack|mask)-\d+\.nii\.gz|truth(-mask)?\.nii\.gz|truth\.json", re.IGNORECASE)
"""The names of a folder that holds a simulation."""


@dataclass(frozen=True)
class SimulationConfig:
    """What the scanner and the subject do."""

    stacks: int = 3
    """Number of stacks; axial, coronal, sagittal, then the same again, slightly oblique."""
    motion: Motion = "mild"
    """How much the subject moves: about 0, 1.6, 4.7 or 10 to 12 mm of mean slice error if nothing is corrected."""
    thickness: float = 3.0
    """Slice thickness in mm: full width at half maximum of the slice profile."""
    spacing: float = 3.3
    """Distance between slice centres in mm."""
    pixel: float = 1.1
    """Pixel spacing in mm; the in-plane point-spread function has a full width at half maximum of 1.2 pixels."""
    noise: float = 0.03
    """Standard deviation of the Rician noise, as a fraction of the volume's 99th percentile inside the mask."""
    dropout: float = 0.03
    """Probability that a slice is nearly lost: 10 to 40 % of its signal is left."""
    bias_field: float = 0.0
    """Largest relative change of intensity by a smooth field, fixed in space, another one for each stack."""
    slice_gain: float = 0.04
    """Standard deviation of the gain from slice to slice, relative."""
    profile: Profile = "gauss"
    """Slice profile: a Gaussian, or a box of the slice thickness."""
    interleave: int = 2
    """Number of passes in which a stack is acquired: 2 takes the even slices first, then the odd ones."""
    seed: int = 0
    """Seed of all randomness; the same seed gives the same bytes."""

    def __post_init__(self) -> None:
        """Refuse settings that no scanner has; NaN lies between no two numbers."""
        for name in ("thickness", "spacing", "pixel"):
            low, high = _LENGTHS
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)} mm; it has to lie between {low} and {high} mm")
        for name in ("stacks", "interleave"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be at least 1")
        for name in ("noise", "dropout", "bias_field", "slice_gain"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to lie between 0 and 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it cannot be negative")
        if self.motion not in MOTION_AMPLITUDE:
            raise ValueError(f"motion is {self.motion!r}; it has to be one of {', '.join(MOTION_AMPLITUDE)}")
        if self.profile not in ("gauss", "box"):
            raise ValueError(f"profile is {self.profile!r}; it has to be gauss or box")


@dataclass(frozen=True)
class Quadrature:
    """How finely the point-spread function is sampled."""

    subdivisions: int = 2
    """In-plane nodes per pixel spacing."""
    nodes: int = 13
    """Nodes through the slice."""
    reach: float = 3.5
    """Where a Gaussian is cut off, in standard deviations."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """Moved stacks and what is true about them.

    Attributes
    ----------
    stacks : list of Stack
        Each with the mask that a perfect segmentation of its moved slices gives.
    truth : dict
        "args": the settings; "centre": (3,) mm, the centre of rotation; "poses_deg_mm": for each stack and slice a
        rotation vector (degrees) and a translation (mm). A pixel at nominal world position x really lies at
        R (x - centre) + centre + t.
    """

    stacks: list[Stack]
    truth: dict[str, Any]


@jit()
def _cubic_weights(t: float) -> tuple[float, float, float, float]:
    """Cubic B-spline weights of the four knots around a point a fraction `t` past the second."""
    s = 1.0 - t
    return s * s * s / 6.0, 2.0 / 3.0 - t * t * (1.0 - 0.5 * t), 2.0 / 3.0 - s * s * (1.0 - 0.5 * s), t * t * t / 6.0


@jit()
def _evaluate_spline(coefficients: NDArray[np.float32], x: float, y: float, z: float) -> float:
    """Value at voxel position (x, y, z) of the cubic B-spline; zero outside its knots."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    nx, ny, nz = coefficients.shape
    if i < 1 or j < 1 or k < 1 or i + 2 >= nx or j + 2 >= ny or k + 2 >= nz:
        return 0.0
    wx, wy, wz = _cubic_weights(x - i), _cubic_weights(y - j), _cubic_weights(z - k)
    total = 0.0
    for a in range(4):
        for b in range(4):
            # Unsigned, so that the compiler need not look for indices that count from the end.
            p, q, r = np.uint64(i - 1 + a), np.uint64(j - 1 + b), np.uint64(k - 1)
            line = (
                wz[0] * coefficients[p, q, r]
                + wz[1] * coefficients[p, q, r + np.uint64(1)]
                + wz[2] * coefficients[p, q, r + np.uint64(2)]
                + wz[3] * coefficients[p, q, r + np.uint64(3)]
            )
            total += wx[a] * wy[b] * line
    return total


@jit(parallel=True)
def _sample_slab(
    coefficients: NDArray[np.float32],
    origin: Float,
    step_u: Float,
    step_v: Float,
    normals: Float,
    weights: Float,
    shape: tuple[int, int],
) -> Float:
    """Integrate through the plane at every point of a fine in-plane grid.

    Point (u, v) lies at voxel position ``origin + u * step_u + v * step_v``; the quadrature nodes are ``normals``
    (n, 3) away from it. Every point belongs to one thread, so the result is the same for any number of threads.
    """
    out = np.zeros(shape)
    for u in prange(shape[0]):
        for v in range(shape[1]):
            total = 0.0
            for n in range(len(weights)):
                x = origin[0] + u * step_u[0] + v * step_v[0] + normals[n, 0]
                y = origin[1] + u * step_u[1] + v * step_v[1] + normals[n, 1]
                z = origin[2] + u * step_u[2] + v * step_v[2] + normals[n, 2]
                total += weights[n] * _evaluate_spline(coefficients, x, y, z)
            out[u, v] = total
    return out


def _gaussian_nodes(sigma: float, step: float, reach: float) -> tuple[Float, Float]:
    """Nodes (n,) mm and weights, sum 1, of the trapezoidal rule, which converges exponentially for a Gaussian."""
    count = math.ceil(reach * sigma / step)
    nodes = np.arange(-count, count + 1, dtype=np.float64) * step
    weights = np.exp(-0.5 * (nodes / sigma) ** 2)
    return nodes, weights / weights.sum()


def _profile_nodes(profile: Profile, thickness: float, quadrature: Quadrature) -> tuple[Float, Float]:
    """Through-plane nodes (n,) mm and weights, sum 1."""
    if profile == "box":
        nodes, weights = np.polynomial.legendre.leggauss(quadrature.nodes)
        return nodes * thickness / 2, weights / 2
    sigma = thickness * _FWHM_TO_SIGMA
    return _gaussian_nodes(sigma, 2 * quadrature.reach * sigma / (quadrature.nodes - 1), quadrature.reach)


def _blur_first_axis(fine: Float, weights: Float, subdivisions: int) -> Float:
    """Weighted sums over the fine grid's first axis, one for each pixel.

    Added up one node after the other: a matrix product would round differently with another number of threads.
    """
    last = len(fine) - len(weights)
    out = np.zeros((last // subdivisions + 1, *fine.shape[1:]))
    for first, weight in enumerate(weights):
        out += weight * fine[first : first + last + 1 : subdivisions]
    return out


@dataclass(frozen=True, eq=False)
class Subject:
    """What is scanned: a volume as a cubic B-spline, and the region of interest in it.

    Attributes
    ----------
    coefficients : (nx, ny, nz) float32
        B-spline coefficients that interpolate the voxels.
    mask : (nx, ny, nz) float32
        1 inside the region.
    affine : (4, 4)
        Voxel index of both to world, mm RAS+.
    """

    coefficients: NDArray[np.float32]
    mask: NDArray[np.float32]
    affine: Float

    @classmethod
    def from_volume(cls, volume: ArrayLike, affine: ArrayLike, mask: ArrayLike) -> Subject:
        """Prefilter `volume`, padded so that the spline ends in zeros."""
        padded = np.pad(np.asarray(volume, dtype=np.float64), 3)
        matrix = np.array(affine, dtype=np.float64)
        matrix[:3, 3] -= matrix[:3, :3] @ [3.0, 3.0, 3.0]
        coefficients = spline_filter(padded, order=3, output=np.float64).astype(np.float32)
        return cls(coefficients, np.pad(np.asarray(mask) > 0, 3).astype(np.float32), matrix)

    def acquire(
        self,
        pose: Float,
        shape: tuple[int, int],
        pixel: float,
        thickness: float,
        profile: Profile = "gauss",
        quadrature: Quadrature | None = None,
    ) -> Float:
        """One slice: the volume integrated against the point-spread function at every pixel.

        Parameters
        ----------
        pose : (4, 4)
            Slice frame, with its origin at pixel (0, 0), to world, mm.
        shape : (rows, columns)
        pixel, thickness : float
            Pixel spacing and slice thickness, mm.
        profile : {"gauss", "box"}
        quadrature : Quadrature, optional

        Returns
        -------
        (rows, columns) float64
        """
        quadrature = quadrature or Quadrature()
        sub = quadrature.subdivisions
        plane, plane_weights = _gaussian_nodes(_IN_PLANE_FWHM * pixel * _FWHM_TO_SIGMA, pixel / sub, quadrature.reach)
        through, through_weights = _profile_nodes(profile, thickness, quadrature)
        to_voxel = np.linalg.inv(self.affine) @ pose
        axes = to_voxel[:3, :3]
        fine = _sample_slab(
            self.coefficients,
            to_voxel[:3, 3] + axes[:, :2] @ [plane[0], plane[0]],
            axes[:, 0] * pixel / sub,
            axes[:, 1] * pixel / sub,
            np.outer(through, axes[:, 2]),
            through_weights,
            (sub * (shape[0] - 1) + len(plane), sub * (shape[1] - 1) + len(plane)),
        )
        rows = _blur_first_axis(fine, plane_weights, sub)
        return _blur_first_axis(rows.T, plane_weights, sub).T

    def segment(self, pose: Float, shape: tuple[int, int], pixel: float) -> NDArray[np.bool_]:
        """The mask a perfect segmentation of the slice gives: the pixels whose centres lie in the region."""
        indices = np.indices(shape).reshape(2, -1) * pixel
        to_voxel = np.linalg.inv(self.affine) @ pose
        positions = to_voxel[:3, :2] @ indices + to_voxel[:3, 3:]
        return (map_coordinates(self.mask, positions, order=1) >= 0.5).reshape(shape)


def rigid_about(centre: ArrayLike, parameters: ArrayLike) -> Float:
    """The rigid transform x -> R (x - centre) + centre + t.

    Parameters
    ----------
    centre : (3,) mm
    parameters : (..., 6)
        Rotation vector in degrees, then translation in mm.

    Returns
    -------
    (..., 4, 4) float64
        World to world, mm.
    """
    values, middle = np.asarray(parameters, dtype=np.float64), np.asarray(centre, dtype=np.float64)
    flat = values.reshape(-1, 6)
    out = np.tile(np.eye(4), (len(flat), 1, 1))
    out[:, :3, :3] = Rotation.from_rotvec(np.deg2rad(flat[:, :3])).as_matrix()
    out[:, :3, 3] = flat[:, 3:] + middle - out[:, :3, :3] @ middle
    return out.reshape(*values.shape[:-1], 4, 4)


def apply_motion(points: ArrayLike, centre: Sequence[float], parameters: Sequence[float]) -> Float:
    """Where pixels at nominal world positions (n, 3) mm really lie: R (x - centre) + centre + t."""
    matrix = rigid_about(centre, parameters)
    return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]


def acquisition_order(n_slices: int, interleave: int) -> NDArray[np.intp]:
    """(n_slices,) the slices in the order in which they are acquired.

    Examples
    --------
    >>> acquisition_order(5, 2).tolist()
    [0, 2, 4, 1, 3]
    """
    return np.concatenate([np.arange(first, n_slices, interleave) for first in range(min(interleave, n_slices))])


def _trajectory(n_times: int, rng: np.random.Generator) -> Float:
    """(n_times, 3) a smooth drift with a few lasting jumps, mean 0 and root mean square 1 per component."""
    width = max(1.0, _DRIFT_LENGTH * n_times)
    drift = gaussian_filter1d(rng.standard_normal((n_times + 8 * math.ceil(width), 3)), width, axis=0)
    drift = drift[4 * math.ceil(width) :][:n_times]
    drift /= max(float(drift.std()), 1e-12)
    jumped = rng.random(n_times) < _JUMPS_PER_STACK / n_times
    jumps = np.where(jumped[:, None], rng.normal(0.0, _JUMP_SIZE, (n_times, 3)), 0.0)
    path = drift + np.cumsum(jumps, axis=0)
    path -= path.mean(axis=0)
    return path / max(float(np.sqrt((path**2).mean())), 1e-12)


def _stack_motion(n_slices: int, first: bool, config: SimulationConfig, rng: np.random.Generator) -> Float:
    """(n_slices, 6) degrees and mm: the motion of each slice, in the order in which slices are stored."""
    amplitude = np.repeat(MOTION_AMPLITUDE[config.motion], 3)
    times = np.concatenate([_trajectory(n_slices, rng), _trajectory(n_slices, rng)], axis=1)
    offset = rng.uniform(-_STACK_DISAGREEMENT, _STACK_DISAGREEMENT, 6) * (0.0 if first else 1.0)
    motion = np.empty((n_slices, 6))
    motion[acquisition_order(n_slices, config.interleave)] = amplitude * (_TRAJECTORY_RMS * times + offset)
    return motion


def _tilt(number: int, rng: np.random.Generator) -> Float:
    """(3, 3) orientation of stack `number`: first axis, second axis and normal as columns."""
    angles = rng.uniform(-_OBLIQUE_DEGREES, _OBLIQUE_DEGREES, 3) * (number >= len(_ORIENTATIONS))
    return Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ _ORIENTATIONS[number % len(_ORIENTATIONS)]


def _prescribe(
    number: int, region: Float, config: SimulationConfig, rng: np.random.Generator
) -> tuple[Float, tuple[int, int, int]]:
    """Lay stack `number` over the region, given by points (n, 3) mm, with room for the motion.

    Returns
    -------
    affine : (4, 4)
        Voxel index to world, mm RAS+.
    shape : (3,)
    """
    axes = _tilt(number, rng)
    spacing = np.array([config.pixel, config.pixel, config.spacing])
    low, high = (region @ axes).min(axis=0), (region @ axes).max(axis=0)
    degrees, millimetres = MOTION_AMPLITUDE[config.motion]
    radius = float((high - low).max()) / 2
    margin = _MARGIN + millimetres + 0.5 * radius * math.radians(degrees)
    shape = np.ceil((high - low + 2 * margin) / spacing).astype(int) + 1
    # No two stacks sample the subject at the same points.
    middle = (low + high) / 2 + rng.uniform(-0.5, 0.5, 3) * spacing
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = axes @ (middle - (shape - 1) / 2 * spacing)
    return affine, (int(shape[0]), int(shape[1]), int(shape[2]))


def _bias_field(shape: tuple[int, int, int], strength: float, rng: np.random.Generator) -> Float:
    """A smooth field, 1 in the mean and `strength` away from it at most: a random polynomial of degree 2."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij", sparse=True)
    terms = (x, y, z, x * y, y * z, x * z, x * x, y * y, z * z)
    field = sum(weight * term for weight, term in zip(rng.standard_normal(len(terms)), terms, strict=True))
    field = np.asarray(field) - np.mean(field)
    return 1.0 + strength * field / np.abs(field).max()


def _gains(n_slices: int, config: SimulationConfig, rng: np.random.Generator) -> Float:
    """(n_slices,) what each slice's signal is multiplied with: its own gain, and what a dropout leaves."""
    gain = np.maximum(1.0 + config.slice_gain * rng.standard_normal(n_slices), 0.0)
    left = rng.uniform(*_DROPOUT_SIGNAL, n_slices)
    return gain * np.where(rng.random(n_slices) < config.dropout, left, 1.0)


def _add_rician_noise(signal: Float, sigma: float, rng: np.random.Generator) -> Float:
    """Magnitude of a complex signal with Gaussian noise of standard deviation `sigma` in both channels."""
    if sigma == 0:
        return signal
    return np.hypot(signal + sigma * rng.standard_normal(signal.shape), sigma * rng.standard_normal(signal.shape))


def _acquire_stack(
    subject: Subject,
    affine: Float,
    shape: tuple[int, int, int],
    transforms: Float,  # (n_slices, 4, 4): nominal world position to where the pixel really lies
    config: SimulationConfig,
) -> tuple[Float, NDArray[np.bool_]]:
    """Noise-free stack and its mask, both of the given shape."""
    data, mask = np.zeros(shape), np.zeros(shape, dtype=bool)
    corner = np.eye(4)
    corner[:3, :3] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    for k, transform in enumerate(transforms):
        corner[:3, 3] = affine[:3, 3] + affine[:3, 2] * k
        pose = transform @ corner
        data[:, :, k] = subject.acquire(pose, shape[:2], config.pixel, config.thickness, config.profile)
        mask[:, :, k] = subject.segment(pose, shape[:2], config.pixel)
    return data, mask


def _arguments(config: SimulationConfig) -> dict[str, Any]:
    """The settings under the names that truth.json files carry."""
    return {
        "seed": config.seed,
        "motion": config.motion,
        "stacks": config.stacks,
        "inplane": config.pixel,
        "spacing": config.spacing,
        "thickness": config.thickness,
        "profile": config.profile,
        "noise": config.noise,
        "dropout": config.dropout,
        "bias": config.bias_field,
        "slice_scale": config.slice_gain,
        "interleave": config.interleave,
    }


def simulate(
    volume: ArrayLike, affine: ArrayLike, mask: ArrayLike, config: SimulationConfig | None = None
) -> Simulation:
    """Scan a known volume that moves.

    Parameters
    ----------
    volume : (nx, ny, nz)
        Intensities; what surrounds the region of interest moves with it.
    affine : (4, 4)
        Voxel index to world, mm RAS+.
    mask : (nx, ny, nz)
        The region of interest, where greater than 0.
    config : SimulationConfig, optional

    Returns
    -------
    Simulation

    Raises
    ------
    ValueError
        The volume is not 3-D, the mask has another shape, or it is empty.
    InputError
        A stack has fewer slices than it is to have packages.
    """
    config = config or SimulationConfig()
    values, inside, matrix = np.asarray(volume), np.asarray(mask) > 0, np.asarray(affine, dtype=np.float64)
    if values.ndim != 3 or values.shape != inside.shape:
        raise ValueError(f"volume {values.shape} and mask {inside.shape} have to be 3-D and of the same shape")
    if not inside.any():
        raise ValueError("the mask is empty: nothing to scan")
    region = np.argwhere(inside) @ matrix[:3, :3].T + matrix[:3, 3]
    centre = region.mean(axis=0)
    sigma = config.noise * float(np.percentile(values[inside], 99))
    subject = Subject.from_volume(values, matrix, inside)

    stacks: list[Stack] = []
    poses: list[list[list[float]]] = []
    # A stream for each stack, its noise drawn last: settings of the signal do not change the geometry of a seed.
    for number, rng in enumerate(np.random.default_rng(config.seed).spawn(config.stacks)):
        stack_affine, shape = _prescribe(number, region, config, rng)
        if config.interleave > shape[2]:
            raise InputError(
                f"stack-{number + 1}: interleave {config.interleave}, but only {shape[2]} slices; give a smaller number"
            )
        motion = _stack_motion(shape[2], number == 0, config, rng)
        signal, stack_mask = _acquire_stack(subject, stack_affine, shape, rigid_about(centre, motion), config)
        signal *= _gains(shape[2], config, rng) * _bias_field(shape, config.bias_field, rng)
        data = _add_rician_noise(signal, sigma, rng).astype(np.float32)
        stacks.append(Stack(data, stack_mask, stack_affine, config.thickness, f"stack-{number + 1}"))
        poses.append(motion.tolist())
    return Simulation(stacks, {"args": _arguments(config), "centre": centre.tolist(), "poses_deg_mm": poses})


def _write_image(data: NDArray[Any], affine: ArrayLike, path: Path) -> None:
    """Write a NIfTI file in mm."""
    image = nib.Nifti1Image(data, np.asarray(affine))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def save(
    simulation: Simulation, folder: str | os.PathLike[str], volume: ArrayLike, affine: ArrayLike, mask: ArrayLike
) -> None:
    """Write stacks, masks and the truth.

    Parameters
    ----------
    simulation : Simulation
    folder : path-like
        Made if missing; written whole or not at all, in place of a simulation that an earlier run wrote there. Gets
        ``stack-i.nii.gz``, ``mask-i.nii.gz`` (i from 1), ``truth.nii.gz``, ``truth-mask.nii.gz`` and ``truth.json``.
    volume, affine, mask
        What was simulated from, as given to `simulate`.

    Raises
    ------
    OSError
        The files cannot be written, or the folder holds files of these names that no earlier run wrote.
    """
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with output_folder(folder, SIMULATION_FILES) as files:
        write_files(simulation, files, volume, affine, mask)


def write_files(simulation: Simulation, target: Path, volume: ArrayLike, affine: ArrayLike, mask: ArrayLike) -> None:
    """Write what `save` writes into an existing folder."""
    for number, stack in enumerate(simulation.stacks, start=1):
        _write_image(stack.data, stack.affine, target / f"stack-{number}.nii.gz")
        _write_image(stack.mask.astype(np.uint8), stack.affine, target / f"mask-{number}.nii.gz")
    _write_image(np.asarray(volume, dtype=np.float32), affine, target / "truth.nii.gz")
    _write_image((np.asarray(mask) > 0).astype(np.uint8), affine, target / "truth-mask.nii.gz")
    (target / "truth.json").write_text(json.dumps(simulation.truth), encoding="utf-8")
