"""Reconstructions of a few slices, and how they are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicesplat.config import Config, FitSettings
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import reconstruct
from slicesplat.progress import Progress
from slicesplat.result import Reconstruction
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

# A fit of which the quality is not the point.
BRIEF = FitSettings(spacings=(1.75,), pose_rounds=3, final_rounds=1, rounds=2)

STEPS = ["load kernels", "prepare", "register", "fit", "sample", "check"]
COMPILING = "compile kernels (once per installation)"  # what the first step is called where nothing was kept


@cache
def small() -> Simulation:
    """Twenty slices in three stacks of a brain of 32 mm."""
    config = SimulationConfig(motion="mild", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.02, seed=1)
    return simulate(*brain_phantom(32.0, 1.4), config)


def brief(
    stacks: Sequence[Stack],
    progress: Callable[[Progress], None] | None = None,
    watch: Callable[..., None] | None = None,
    **settings: Any,
) -> Reconstruction:
    """A reconstruction that stops early."""
    return reconstruct(stacks, replace(Config(resolution=1.4, threads=1, fit=BRIEF), **settings), progress, watch)


@cache
def told() -> list[Progress]:
    return []


@cache
def result() -> Reconstruction:
    return brief(small().stacks, told().append)


def values(made: Reconstruction) -> NDArray:
    return np.asarray(made.volume.dataobj)


def alike(a: Reconstruction, b: Reconstruction) -> float:
    """Correlation of the volumes where both have something, in world space."""
    to_b = np.linalg.inv(b.volume.affine) @ a.volume.affine
    index = np.argwhere(values(a) > 0)
    if not len(index):
        return 0.0
    other = np.rint(index @ to_b[:3, :3].T + to_b[:3, 3]).astype(int)
    inside = ((other >= 0) & (other < values(b).shape)).all(axis=1)
    pair = values(a)[tuple(index[inside].T)], values(b)[tuple(other[inside].T)]
    if inside.mean() < 0.9:
        return 0.0
    return float(np.corrcoef(*pair)[0, 1])


def assert_sound(made: Reconstruction) -> None:
    """Finite everywhere, something in it, and every slice accounted for."""
    assert np.isfinite(values(made)).all()
    assert values(made).max() > 0
    for numbers in (made.weight, made.gain, made.ncc, made.slices.pose.matrix):
        assert np.isfinite(numbers).all()
    assert all(bool(value.isfinite().all()) for value in made.field.tensors().values())
    assert math.isfinite(made.noise)
