"""What makes no sense about the orientation of a volume is refused before any work; the way there is kept for ITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import one_voxel_result, reconstruct_args, refused, write

from slicesplat.cli import main
from slicesplat.geometry.placement import Placement
from slicesplat.geometry.rigid import Rigid
from slicesplat.io.transforms import load_transform


@pytest.fixture
def template(tmp_path: Path) -> str:
    values = np.zeros((12, 12, 12), np.float32)
    values[3:9, 3:9, 3:9] = 1.0
    return write(tmp_path / "template.nii.gz", values)


def test_settings_reach_the_reconstruction_and_the_transform_is_written(
    tmp_path: Path, stack: str, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    there = Rigid.exp([1.0, 2.0, 3.0, 0.4, -0.5, 0.6])

    def fake(stacks: Any, config: Any, progress: Any, watch: Any = None) -> Any:
        seen.update(config=config)
        made = one_voxel_result()
        made.placement, made.settings = Placement(there, "given", 0.9, 0.1), config
        return made

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", fake)
    args = [*reconstruct_args(tmp_path, stack), "--orientation", "standard", "--template", template, "--quiet"]
    assert main([*args, "--output-transform", str(tmp_path / "to-standard.tfm")]) == 0
    assert (seen["config"].orientation, seen["config"].template) == ("standard", template)
    np.testing.assert_allclose(load_transform(tmp_path / "to-standard.tfm"), there.matrix, atol=1e-9)


def test_what_makes_no_sense_is_refused(
    tmp_path: Path, stack: str, template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = reconstruct_args(tmp_path, stack)
    refused(capsys, [*args, "--template", template], "template.nii.gz", "--orientation")
    refused(capsys, [*args, "--output-transform", str(tmp_path / "t.tfm")], "t.tfm", "--orientation")
    standard = [*args, "--orientation", "standard"]
    refused(capsys, [*standard, "--template", stack], "stack.nii.gz", "template")
    refused(capsys, [*standard, "--template", str(tmp_path / "none.nii.gz")], "none.nii.gz")
    refused(capsys, [*args, "--orientation", "upside-down"], "--orientation")


def test_a_template_is_not_overwritten(
    tmp_path: Path, stack: str, template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["reconstruct", "--no-segmentation", "--input-stacks", stack, "--output-volume", template]
    refused(capsys, [*args, "--orientation", "ras", "--template", template], "is an input too")
