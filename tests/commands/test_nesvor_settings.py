"""What NeSVoR's users ask of a reconstruction by its flags is what is done."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from command_line import reconstruct_args, refused

from slicesplat.cli import main
from slicesplat.config import Config


def result(values: float = 7.0) -> SimpleNamespace:
    """A volume whose mask is its first half."""
    affine = np.diag([0.8, 0.8, 0.8, 1])
    data, inside = np.full((4, 4, 4), values, np.float32), np.zeros((4, 4, 4), np.uint8)
    inside[:2] = 1
    data[2:] = 100.0
    images = {"volume": nib.Nifti1Image(data, affine), "mask": nib.Nifti1Image(inside, affine)}
    return SimpleNamespace(**images, uncertainty=nib.Nifti1Image(np.ones_like(data), affine))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The settings that the pipeline is called with."""
    seen: list[Config] = []

    def fake(stacks: Any, config: Config, progress: Any, watch: Any = None) -> SimpleNamespace:
        seen.append(config)
        return result()

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", fake)
    monkeypatch.setattr("slicesplat.commands.reconstruct.summarise", lambda *_: None)
    return seen


def test_weights_and_poses_are_fixed_as_asked_for(tmp_path: Path, stack: str, asked: list[Config]) -> None:
    args = [*reconstruct_args(tmp_path, stack), "--quiet"]
    assert main(args) == 0
    assert main([*args, "--no-pixel-variance", "--no-transformation-optimization"]) == 0
    assert main([*args, "--no-slice-robust-statistics"]) == 0
    usual, pixels, slices = (config.fit for config in asked)
    assert usual == Config().fit
    assert pixels.likelihood.pixel_limit == math.inf and pixels.pose_steps == 0
    assert pixels.likelihood.slice_limit == usual.likelihood.slice_limit
    assert slices.likelihood.slice_limit == math.inf and slices.pose_steps == usual.pose_steps


def test_volume_has_the_mean_inside_its_mask_that_was_asked_for(
    tmp_path: Path, stack: str, asked: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*reconstruct_args(tmp_path, stack), "--output-uncertainty", str(tmp_path / "e.nii.gz"), "--quiet"]
    assert main([*args, "--output-intensity-mean", "700"]) == 0
    volume, error = (nib.load(tmp_path / name).get_fdata() for name in ("out.nii.gz", "e.nii.gz"))
    assert volume[:2].mean() == pytest.approx(700)
    assert error == pytest.approx(100)
    for bad in ("0", "-3", "nan"):
        refused(capsys, [*args, "--output-intensity-mean", bad], "--output-intensity-mean", "positive")


def test_messages_go_to_the_log_file_too_also_those_of_a_run_that_fails(
    tmp_path: Path, stack: str, asked: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "new" / "log.txt"
    args = [*reconstruct_args(tmp_path, stack), "--output-log", str(log)]
    assert main([*args, "--n-iter", "5000"]) == 0
    lines = log.read_text().splitlines()
    assert lines[0] == "warning: --n-iter: not used, the fit stops by itself"
    assert any("slice thickness 3 mm" in line for line in lines)
    assert main([*args, "--stack-masks", "none.nii.gz"]) == 2
    assert log.read_text().splitlines()[-1] == "error: none.nii.gz: no such file; check the path"
    capsys.readouterr()
    refused(capsys, [*args[:-1], stack], "stack.nii.gz", "unknown kind of output file")


def test_svr_is_another_name_of_reconstruct(tmp_path: Path, stack: str, asked: list[Config]) -> None:
    flags = ["--no-global-exclusion", "--n-iter", "5", "--n-iter-rec", "7", "7", "21", "--psf", "sinc"]
    assert main(["svr", *reconstruct_args(tmp_path, stack)[1:], *flags]) == 0
    assert asked[0].slice_profile == "sinc"
