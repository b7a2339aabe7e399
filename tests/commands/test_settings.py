"""Flags of the field are settings of the fit."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from command_line import reconstruct_args, refused

from slicesplat.commands.settings import Settings
from slicesplat.config import Config, FitSettings


def test_field_and_number_are_those_of_the_fit() -> None:
    settings = Settings(strategy="primitives", gaussians=900)
    assert (settings.fit.strategy, settings.fit.gaussians) == ("primitives", 900)
    # What a command changes afterwards keeps them, and they are as a script has them.
    assert replace(settings, uncertainty=True).fit == settings.fit
    assert settings.plain() == Config(fit=FitSettings(strategy="primitives", gaussians=900))
    assert asdict(Settings().plain()) == asdict(Config())
    assert Settings().fit.strategy == "lattice"


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--field", "cloud"], ["cloud", "primitives"]), (["--gaussians", "20"], ["20 Gaussians", "give 500 or more"])],
)
def test_what_there_is_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: list[str]
) -> None:
    refused(capsys, [*reconstruct_args(tmp_path, "never-read.nii.gz"), *flags], *words)
