"""A stack whose left and right are swapped agrees better with the others when it is mirrored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slicesplat.evidence.mirror import mirror_leads, mirrored
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.motion.agreement import PIXEL, all_but_one
from slicesplat.motion.trusted import Trusted
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


def lopsided(swapped: bool = False) -> Slices:
    """Three still stacks of a brain of which one half is darker; the second one's left and right may be swapped."""
    volume, affine, mask = brain_phantom(36.0, 1.4)
    dark = np.linspace(0.4, 1.0, len(volume))[:, None, None] * volume
    dark[: len(dark) // 3, : dark.shape[1] // 2] *= 0.5
    config = SimulationConfig(motion="none", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.01, seed=2)
    stacks = simulate(dark, affine, mask, config).stacks
    stacks = [replace(stack, data=stack.data / stack.data.max()) for stack in stacks]
    if swapped:
        stacks[1] = replace(stacks[1], affine=np.diag([-1.0, 1.0, 1.0, 1.0]) @ stacks[1].affine)
    return cut_slices(stacks)


def test_a_mirror_image_has_the_same_pixels_at_mirrored_places() -> None:
    slices, plane = lopsided(), np.diag([1.0, -1.0, 1.0, 1.0])
    plane[1, 3] = 3.0
    image = mirrored(slices, np.tile(plane, (len(slices), 1, 1)))
    for s in (0, len(slices) - 1):
        there = slices.world_points(s) * [1, -1, 1] + [0, 3.0, 0]
        shown = {
            tuple(p.round(4)): v for p, v in zip(there, slices.image(slices.pixels, s)[mask_of(slices, s)], strict=True)
        }
        found = {
            tuple(p.round(4)): v
            for p, v in zip(image.world_points(s), image.image(image.pixels, s)[mask_of(image, s)], strict=True)
        }
        assert shown == found
    np.testing.assert_allclose(np.linalg.det(image.pose.rotation), 1.0)
    np.testing.assert_allclose(image.moved(image.motion).pose.matrix, image.pose.matrix)


def mask_of(slices: Slices, s: int) -> np.ndarray:
    return slices.image(slices.mask, s)


def leads(slices: Slices) -> np.ndarray:
    others = all_but_one(Trusted(slices, np.ones(len(slices)), PIXEL))
    return mirror_leads({stack: others.amplitudes(stack) for stack in others.stacks}, others, 3)


def test_only_the_swapped_stack_fits_better_mirrored() -> None:
    assert leads(lopsided()).max() < 0.02
    found = leads(lopsided(swapped=True))
    assert found[1] > 0.03 and found[[0, 2]].max() < found[1]


def test_only_stacks_that_are_asked_for_are_told_of() -> None:
    slices = lopsided()
    others = all_but_one(Trusted(slices, np.ones(len(slices)), PIXEL))
    found = mirror_leads({1: others.amplitudes(1)}, others, 3)
    assert np.isnan(found).tolist() == [True, False, True]
    assert np.isnan(mirror_leads({}, others, 3)).all()
