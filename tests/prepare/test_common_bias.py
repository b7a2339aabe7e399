"""The light that all stacks share is found from their histogram, and nothing is done where there is none."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from slicesplat.config import CommonBiasSettings, Config
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline.stages import prepare
from slicesplat.prepare.common_bias import common_bias
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

SETTINGS = CommonBiasSettings()


@cache
def even() -> tuple[Stack, ...]:
    return tuple(simulate(*brain_phantom(70.0, 1.4), SimulationConfig(motion="mild", pixel=1.5, seed=2)).stacks)


def log_light(stack: Stack, darkest: float) -> np.ndarray:
    """Logarithm of a coil's light along the world's y: full on one side, a share of it on the other."""
    y = np.tensordot(np.moveaxis(np.indices(stack.data.shape), 0, -1), stack.affine[1, :3], 1) + stack.affine[1, 3]
    return np.log(darkest + (1 - darkest) / (1 + np.exp(y / 9)))


def lit(darkest: float = 0.25) -> list[Stack]:
    return [
        replace(stack, data=(stack.data * np.exp(log_light(stack, darkest))).astype(np.float32)) for stack in even()
    ]


def test_even_stacks_have_none() -> None:
    assert common_bias(even(), SETTINGS) is None


def test_stacks_of_another_subject_in_15_percent_of_bias_have_none() -> None:
    config = SimulationConfig(motion="mild", pixel=1.5, bias_field=0.15, seed=3)
    assert common_bias(simulate(*brain_phantom(60.0, 1.4), config).stacks, SETTINGS) is None


def test_coil_on_one_side_is_found_and_divided_out() -> None:
    found = common_bias(lit(), SETTINGS)
    assert found is not None and found.ratio > 2.5 and found.sharper > 0.3
    for stack, before in zip(lit(), even(), strict=True):
        after = np.log(found.divided_out(stack).data[stack.mask] / before.data[stack.mask])
        tissue = before.data[stack.mask] > 0.3 * np.percentile(before.data[stack.mask], 99)
        assert np.std(after[tissue]) < 0.15 * np.std(log_light(stack, 0.25)[stack.mask])


def test_scale_of_the_stacks_does_not_matter() -> None:
    found = common_bias(lit(), SETTINGS)
    scaled = [replace(s, data=s.data * np.float32(10.0 ** (3 - 2 * n))) for n, s in enumerate(lit())]
    other = common_bias(scaled, SETTINGS)
    assert found is not None and other is not None
    assert other.ratio == pytest.approx(found.ratio, rel=0.01)


def test_shared_light_is_divided_out_ahead_of_everything_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "slicesplat"):
        assert prepare(even(), Config()).common_bias == 1.0 and not caplog.records
        prepared = prepare(lit(), Config())
    assert prepared.common_bias > 2.5
    assert f"{prepared.common_bias:.1f} times" in caplog.text and "--no-estimate-bias-field" in caplog.text
    kept = prepare(lit(), Config(estimate_bias_field=False))
    assert kept.common_bias == 1.0 and (kept.signals[0].data == lit()[0].data).all()


def test_n4_excludes_the_field_of_the_model_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    stacks = lit()[:1]
    with caplog.at_level(logging.INFO, "slicesplat"):
        assert prepare(stacks, Config(bias_field_correction=True)).common_bias == 1.0
    assert "no bias field is estimated" in caplog.text
