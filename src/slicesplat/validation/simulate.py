"""Known volume to moved, noisy stacks of thick slices, with the truth.

Nothing here is shared with the Gaussian forward model, so that it can test it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.validation.acquisition import Profile, Subject
from slicesplat.validation.motion import MOTION_AMPLITUDE, Motion, random_turn, rigid_about, stack_motion, turned

Float = NDArray[np.float64]

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
_HALF_TURN = 180.0


@dataclass(frozen=True)
class SimulationConfig:
    """What the scanner and the subject do."""

    stacks: int = 3
    """Number of stacks; axial, coronal, sagittal, then the same again, slightly oblique."""
    motion: Motion = "mild"
    """How much the subject moves: about 0, 1.6, 4.7 or 10 to 12 mm of mean slice error if nothing is corrected; or
    every slice by itself, by up to 6 degrees and 4 mm on each axis."""
    turn: float = 0.0
    """How far the subject may have turned between the first stack and each other one, about any axis, in degrees."""
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
        if not 0 <= self.turn <= _HALF_TURN:
            raise ValueError(f"turn is {self.turn} degrees; it has to lie between 0 and {_HALF_TURN:g}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it cannot be negative")
        if self.motion not in MOTION_AMPLITUDE:
            raise ValueError(f"motion is {self.motion!r}; it has to be one of {', '.join(MOTION_AMPLITUDE)}")
        if self.profile not in ("gauss", "box"):
            raise ValueError(f"profile is {self.profile!r}; it has to be gauss or box")


_JSON_NAMES = {
    "seed": "seed",
    "motion": "motion",
    "turn": "turn",
    "stacks": "stacks",
    "pixel": "inplane",
    "spacing": "spacing",
    "thickness": "thickness",
    "profile": "profile",
    "noise": "noise",
    "dropout": "dropout",
    "bias_field": "bias",
    "slice_gain": "slice_scale",
    "interleave": "interleave",
}
"""What the settings are called in truth.json files."""


@dataclass(frozen=True, eq=False, repr=False)
class Truth:
    """How the subject really moved.

    A pixel at nominal world position x really lies at R (x - centre) + centre + t.

    Attributes
    ----------
    settings : SimulationConfig
    centre : (3,) mm
        The centre of rotation.
    motion : tuple of (n_slices, 6)
        For each stack and slice a rotation vector (degrees) and a translation (mm).

    Raises
    ------
    ValueError
        The centre is no finite position, or a stack's motion not six finite numbers for each slice.
    """

    settings: SimulationConfig
    centre: Float
    motion: tuple[Float, ...]

    def __post_init__(self) -> None:
        if self.centre.shape != (3,) or not np.isfinite(self.centre).all():
            raise ValueError(f"centre {self.centre.tolist()}: give three finite coordinates in mm")
        for number, values in enumerate(self.motion):
            if values.ndim != 2 or values.shape[1] != 6 or not np.isfinite(values).all():
                raise ValueError(
                    f"motion of stack {number}, of shape {values.shape}: give finite numbers (n_slices, 6)"
                )

    def __repr__(self) -> str:
        return (
            f"Truth({self.settings.motion} motion of {sum(map(len, self.motion))} slices in {len(self.motion)} stacks)"
        )

    def transforms(self, stack: int) -> Float:
        """(n_slices, 4, 4) for each slice of a stack, from its nominal to its real place in the world, mm."""
        return rigid_about(self.centre, self.motion[stack])

    def of_stacks(self, which: Sequence[int]) -> Truth:
        """The same for some of the stacks, in that order."""
        return replace(self, motion=tuple(self.motion[stack] for stack in which))

    def json(self) -> dict[str, Any]:
        """The content of a truth.json file."""
        return {
            "args": {name: getattr(self.settings, field) for field, name in _JSON_NAMES.items()},
            "centre": self.centre.tolist(),
            "poses_deg_mm": [values.tolist() for values in self.motion],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Truth:
        """What `json` gave; settings that are not there are the usual ones.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is no such content.
        """
        given = content.get("args", {})
        settings = SimulationConfig(**{field: given[name] for field, name in _JSON_NAMES.items() if name in given})
        motion = tuple(np.array(poses, dtype=np.float64) for poses in content["poses_deg_mm"])
        return cls(settings, np.array(content["centre"], dtype=np.float64), motion)


@dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """Moved stacks and what is true about them.

    Attributes
    ----------
    stacks : list of Stack
        Each with the mask that a perfect segmentation of its moved slices gives.
    truth : Truth
        How the subject moved.
    """

    stacks: list[Stack]
    truth: Truth

    def __repr__(self) -> str:
        return f"Simulation({len(self.stacks)} stacks, {self.truth.settings.motion} motion)"

    @property
    def masks(self) -> list[nib.Nifti1Image]:
        """The mask of each stack as an image."""
        return [nib.Nifti1Image(stack.mask.astype(np.uint8), stack.affine) for stack in self.stacks]


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
    moved: list[Float] = []
    # A stream for each stack, its noise drawn last: settings of the signal do not change the geometry of a seed.
    for number, rng in enumerate(np.random.default_rng(config.seed).spawn(config.stacks)):
        # A stream of its own: without a turn the bytes of a seed are what they always were.
        turn = random_turn(config.turn if number else 0.0, rng.spawn(1)[0])
        # The operator lays a stack over the subject as it lies then.
        lying = turn.inv().apply(region - centre) + centre if config.turn else region
        stack_affine, shape = _prescribe(number, lying, config, rng)
        if config.interleave > shape[2]:
            raise InputError(
                f"stack-{number + 1}: interleave {config.interleave}, but only {shape[2]} slices; give a smaller number"
            )
        motion = stack_motion(shape[2], number == 0, config.motion, config.interleave, rng)
        motion = turned(motion, turn) if config.turn else motion
        signal, stack_mask = _acquire_stack(subject, stack_affine, shape, rigid_about(centre, motion), config)
        signal *= _gains(shape[2], config, rng) * _bias_field(shape, config.bias_field, rng)
        data = _add_rician_noise(signal, sigma, rng).astype(np.float32)
        stacks.append(Stack(data, stack_mask, stack_affine, config.thickness, f"stack-{number + 1}"))
        moved.append(motion)
    return Simulation(stacks, Truth(config, centre, tuple(moved)))
