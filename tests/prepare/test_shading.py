"""Uneven light of a coil is measured, anatomy and air are not taken for it, and it is told where it matters."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from slicesplat.config import Config
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import register
from slicesplat.prepare.assess import assess, warn_of_shading
from slicesplat.prepare.bias import correct_bias_field
from slicesplat.prepare.shading import SHADING_LIMIT, shading
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


@cache
def even() -> tuple[Stack, ...]:
    return tuple(simulate(*brain_phantom(70.0, 1.8), SimulationConfig(motion="mild", pixel=2.0, seed=2)).stacks)


def lit(stack: Stack, darkest: float = 0.25) -> Stack:
    """The stack under a coil on one side, whose signal falls to a share over the mask, along the world's y."""
    y = np.tensordot(np.moveaxis(np.indices(stack.data.shape), 0, -1), stack.affine[1, :3], 1)
    near, far = np.percentile(y[stack.mask], [2, 98])
    return replace(stack, data=(stack.data * darkest ** ((y - near) / (far - near))).astype(np.float32))


@pytest.mark.parametrize("number", range(3))
def test_even_light_measures_little(number: int) -> None:
    assert 1.0 <= shading(even()[number]) < 1.5


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("darkest", [0.6, 0.25])
def test_coil_is_measured_as_what_it_does(number: int, darkest: float) -> None:
    # Up to the anatomy's share.
    assert shading(lit(even()[number], darkest)) == pytest.approx(1 / darkest, rel=0.25)


@pytest.mark.parametrize("number", range(3))
def test_air_in_the_mask_is_not_shading(number: int) -> None:
    stack = even()[number]
    assert shading(replace(stack, mask=stack.data > 0)) < 1.6


@pytest.mark.parametrize("number", range(3))
def test_margin_of_a_found_mask_is_not_shading(number: int) -> None:
    stack = even()[number]
    wide = np.stack([binary_dilation(stack.mask[:, :, k]) for k in range(stack.n_slices)], axis=2)
    rim = wide & ~stack.mask
    # What lies around a brain: skull on one side, fluid on the other.
    side = np.indices(wide.shape)[0] > np.flatnonzero(wide.any(axis=(1, 2))).mean()
    level = np.percentile(stack.data[stack.mask], 90)
    data = np.where(rim, np.where(side, 2.0, 0.6) * level, stack.data).astype(np.float32)
    drawn = replace(stack, data=data, mask=wide)
    found = replace(drawn, found=np.where(wide.any(axis=(0, 1)), 1.0, np.nan))
    assert shading(drawn) > 1.05 * shading(stack)
    assert shading(found) == pytest.approx(shading(stack), rel=0.01)


def test_a_found_mask_that_is_all_margin_is_looked_at_whole() -> None:
    stack = even()[0]
    thin = stack.mask & (np.indices(stack.mask.shape)[0] % 3 == 0)
    found = replace(stack, mask=thin, found=np.where(thin.any(axis=(0, 1)), 1.0, np.nan))
    assert shading(found) == shading(replace(stack, mask=thin))


def test_bias_of_15_percent_is_below_the_warning() -> None:
    config = SimulationConfig(motion="mild", pixel=2.0, bias_field=0.15, seed=2)
    assert max(map(shading, simulate(*brain_phantom(70.0, 1.8), config).stacks)) < SHADING_LIMIT


def test_scale_does_not_matter() -> None:
    stack = lit(even()[0])
    assert shading(replace(stack, data=stack.data * np.float32(1e-3))) == pytest.approx(shading(stack), rel=1e-4)


def test_corrected_stack_is_less_shaded() -> None:
    stack = lit(even()[0])
    assert shading(correct_bias_field(stack)) < 0.6 * shading(stack)


def test_stack_without_signal_has_none() -> None:
    assert math.isnan(shading(replace(even()[0], data=np.zeros_like(even()[0].data))))


def test_warning_names_stacks_measure_and_remedy(caplog: pytest.LogCaptureFixture) -> None:
    stacks = [replace(even()[0], name="even.nii.gz"), replace(lit(even()[1]), name="dark.nii.gz")]
    assessments = assess(stacks)
    with caplog.at_level(logging.WARNING, "slicesplat"):
        warn_of_shading(assessments[:1])
        assert not caplog.records
        warn_of_shading(assessments)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert message.startswith("dark.nii.gz: ")
    assert f"{assessments[1].shading:.1f}" in message
    assert "--bias-field-correction" in message


@pytest.mark.parametrize(
    ("settings", "warned"),
    [({"estimate_bias_field": False}, True), ({"bias_field_correction": True}, False), ({}, False)],
)
def test_registration_warns_of_shading_unless_it_is_corrected(
    settings: dict[str, bool], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = SimulationConfig(motion="none", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, seed=1)
    stacks = [lit(stack) for stack in simulate(*brain_phantom(32.0, 1.4), config).stacks]
    with caplog.at_level(logging.WARNING, "slicesplat"):
        register(stacks, Config(threads=1, **settings))
    assert ("--bias-field-correction" in caplog.text) == warned
