"""Masks that are drawn through tissue, another one in each stack of a brain."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from slicesplat.geometry.stack import Stack
from slicesplat.validation.motion import Motion
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

RADII = ((21.0, 18.0, 20.0), (18.0, 22.0, 19.0), (20.0, 19.0, 18.0))  # mm
CENTRES = ((3.0, -4.0, 3.0), (-4.0, 3.0, -3.0), (1.0, 4.0, 0.0))  # mm, from the middle of the stack's mask


@cache
def drawn(motion: Motion) -> Simulation:
    """Three stacks of a brain of 84 mm with its masks."""
    config = SimulationConfig(motion=motion, pixel=1.6, spacing=3.0, thickness=2.8, noise=0.03, dropout=0.0, seed=3)
    return simulate(*brain_phantom(84.0, 2.0), config)


def ellipsoid(stack: Stack, centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.bool_]:
    """An ellipsoid about a place near the middle of the stack's mask."""
    middle = stack.masked_points().mean(axis=0) + centre
    index = np.indices(stack.data.shape).reshape(3, -1).T
    at = index @ stack.affine[:3, :3].T + stack.affine[:3, 3] - middle
    return (((at / radii) ** 2).sum(axis=1) < 1).reshape(stack.data.shape)


@cache
def ellipsoids(motion: Motion) -> tuple[Stack, ...]:
    """The same stacks with ellipsoids for masks."""
    stacks = drawn(motion).stacks
    masks = [ellipsoid(*given) for given in zip(stacks, CENTRES, RADII, strict=True)]
    return tuple(replace(stack, mask=mask) for stack, mask in zip(stacks, masks, strict=True))
