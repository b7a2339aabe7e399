"""How a simulated subject moves: a smooth drift with lasting jumps, in the order in which slices are acquired."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from slicesplat.geometry.acquisition import acquisition_order
from slicesplat.geometry.rigid import Rigid

Float = NDArray[np.float64]
Motion = Literal["none", "mild", "moderate", "severe", "independent"]

# Degrees and millimetres within a stack. Uncorrected, the mean over 12 seeds of the mean slice error of a ball of 48 mm
# radius is 1.6, 4.7 and 10.3 mm; it grows with the head, to 12.0 mm for severe motion of an infant's.
MOTION_AMPLITUDE: dict[Motion, tuple[float, float]] = {
    "none": (0.0, 0.0),
    "mild": (3.0, 1.2),
    "moderate": (8.0, 4.0),
    "severe": (20.0, 8.0),
    # Every slice by itself, uniform within: the simulation of Dannecker et al. (2026), Table 1.
    "independent": (6.0, 4.0),
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
    step = np.asarray(parameters, dtype=np.float64)
    return Rigid.exp(np.concatenate([step[..., 3:], np.deg2rad(step[..., :3])], axis=-1)).about(centre).matrix


def apply_motion(points: ArrayLike, centre: ArrayLike, parameters: ArrayLike) -> Float:
    """Where pixels at nominal world positions (n, 3) mm really lie: R (x - centre) + centre + t."""
    matrix = rigid_about(centre, parameters)
    return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]


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


def stack_motion(n_slices: int, first: bool, level: Motion, interleave: int, rng: np.random.Generator) -> Float:
    """(n_slices, 6) degrees and mm: the motion of each slice of a stack, in the order in which slices are stored.

    Parameters
    ----------
    n_slices : int
    first : bool
        The first stack: its mean position is where the others are measured from.
    level : {"none", "mild", "moderate", "severe", "independent"}
    interleave : int
        Number of passes in which the stack is acquired.
    rng : numpy Generator
    """
    amplitude = np.repeat(MOTION_AMPLITUDE[level], 3)
    if level == "independent":
        return rng.uniform(-amplitude, amplitude, (n_slices, 6))
    times = np.concatenate([_trajectory(n_slices, rng), _trajectory(n_slices, rng)], axis=1)
    offset = rng.uniform(-_STACK_DISAGREEMENT, _STACK_DISAGREEMENT, 6) * (0.0 if first else 1.0)
    motion = np.empty((n_slices, 6))
    motion[acquisition_order(n_slices, interleave)] = amplitude * (_TRAJECTORY_RMS * times + offset)
    return motion


def turned(motion: Float, turn: Rotation) -> Float:
    """Motions (n_slices, 6), degrees and mm, of a subject that had turned about the same centre before."""
    rotation = Rotation.from_rotvec(motion[:, :3], degrees=True) * turn
    return np.concatenate([rotation.as_rotvec(degrees=True), motion[:, 3:]], axis=1)


def random_turn(largest: float, rng: np.random.Generator) -> Rotation:
    """A turn by up to `largest` degrees about an axis in any direction."""
    axis = rng.standard_normal(3)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * rng.uniform(0.0, largest), degrees=True)
