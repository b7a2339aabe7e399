"""Settings that mean nothing are refused where they are made."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest

from slicesplat.config import Config, FitSettings


@pytest.mark.parametrize(
    "wrong",
    [{"resolution": 0.0}, {"resolution": -1.0}, {"resolution": 50.0}, {"resolution": math.nan}, {"interleave": -1},
     {"seed": -1}, {"threads": -2}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .*: give "):
        Config(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacings": ()},
        {"spacings": (1.0, 0.0)},
        {"smoothness": -0.1},
        {"smoothness": math.nan},
        {"strengths": (2.0, -0.5)},
    ],
)
def test_fit_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give "):
        FitSettings(**wrong)  # type: ignore[arg-type]


def test_fit_need_not_try_other_priors() -> None:
    assert FitSettings(strengths=(), unknown_noise=()).factors(noise_known=False) == ()


def test_settings_of_every_stage_are_values_that_nobody_changes() -> None:
    assert Config() == Config() and Config().fit is not None
    stages = [getattr(Config(), one.name) for one in fields(Config) if is_dataclass(getattr(Config(), one.name))]
    assert len(stages) == 7
    for stage in (Config(), *stages):
        with pytest.raises(FrozenInstanceError):
            setattr(stage, fields(stage)[0].name, None)
        assert hash(stage) == hash(replace(stage))
