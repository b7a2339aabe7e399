"""``register`` and ``reconstruct --output-slices`` leave the poses on disk, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from command_line import refused

from slicesplat.cli import main
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.stack import Stack
from slicesplat.io.slices import load_slices
from slicesplat.io.transforms import to_itk
from slicesplat.records import SliceRecord, Verdict

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
MOTION = Rigid.exp([1.0, 2.0, 3.0, 0.1, 0.2, -0.1]).matrix


@pytest.fixture
def stack(tmp_path: Path) -> str:
    path = tmp_path / "stack.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(720, dtype=np.float32).reshape(12, 10, 6) + 1, AFFINE), path)
    return str(path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stand-ins for the pipeline were called with."""
    seen: dict[str, Any] = {}

    def records() -> list[SliceRecord]:
        return [SliceRecord(1, k, MOTION) for k in range(6)]

    def stand_in(
        stacks: list[Stack], config: Any, progress: Callable[[Any], None], watch: Any = None
    ) -> SimpleNamespace:
        seen.update(stacks=stacks, config=config)
        volume = nib.Nifti1Image(np.ones((4, 4, 4)), np.eye(4))

        def as_json() -> dict[str, Any]:
            return {"slices": [record.json() for record in records()]}

        return SimpleNamespace(
            volume=volume, stacks=stacks, slice_records=records, json=as_json, verdict=Verdict("pass")
        )

    monkeypatch.setattr("slicesplat.commands.register.register", stand_in)
    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", stand_in)
    monkeypatch.setattr("slicesplat.commands.reconstruct.summarise", lambda *_: None)
    return seen


def test_register_writes_slices_transforms_and_json(tmp_path: Path, stack: str, asked: dict[str, Any]) -> None:
    args = [
        "register",
        "--no-segmentation",
        "--input-stacks",
        stack,
        stack,
        "--thicknesses",
        "2",
        "--seed",
        "5",
        "--quiet",
    ]
    args += ["--output-slices", str(tmp_path / "slices"), "--output-transforms", str(tmp_path / "transforms")]
    assert main([*args, "--output-json", str(tmp_path / "poses.json")]) == 0
    assert asked["config"].seed == 5
    slices = load_slices(tmp_path / "slices")
    np.testing.assert_allclose(slices[4].pose(0), MOTION @ asked["stacks"][1].pose(4), atol=1e-4)
    assert slices[4].thickness == pytest.approx(2.0)
    written = [sitk.ReadTransform(str(tmp_path / "transforms" / f"{n}.tfm")).GetParameters() for n in range(6)]
    np.testing.assert_allclose(written, [to_itk(MOTION).GetParameters()] * 6, atol=1e-9)
    assert len(json.loads((tmp_path / "poses.json").read_text())["slices"]) == 6
    assert {path.name for path in tmp_path.iterdir()} == {"stack.nii.gz", "slices", "transforms", "poses.json"}


def test_reconstruct_writes_slices_when_asked(tmp_path: Path, stack: str, asked: dict[str, Any]) -> None:
    args = [
        "reconstruct",
        "--no-segmentation",
        "--input-stacks",
        stack,
        stack,
        "--output-volume",
        str(tmp_path / "v.nii.gz"),
        "--quiet",
    ]
    assert main(args) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"stack.nii.gz", "v.nii.gz"}
    assert main([*args, "--output-slices", str(tmp_path / "slices")]) == 0
    assert len(load_slices(tmp_path / "slices")) == 6


def test_register_without_an_output_is_refused(stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["register", "--input-stacks", stack], "nothing to write", "--output-slices")


@pytest.mark.parametrize("flag", ["--output-slices", "--output-transforms"])
def test_folder_that_cannot_be_used_is_refused_before_anything_is_read(
    tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    def register(output: Path | str, given: str = "never-read.nii.gz") -> list[str]:
        return ["register", "--no-segmentation", "--input-stacks", given, flag, str(output)]

    refused(capsys, register(f"{stack}/slices"), "is not a folder")
    refused(capsys, register(stack), "is a file")
    refused(capsys, register(tmp_path, stack), "holds inputs")


def test_other_images_in_the_folder_of_slices_are_left_alone(
    tmp_path: Path, stack: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "subjects"
    folder.mkdir()
    (folder / "101.nii.gz").write_text("mine")
    args = ["register", "--no-segmentation", "--input-stacks", stack, stack, "--quiet", "--output-slices", str(folder)]
    refused(capsys, args, "holds 101.nii.gz", "name another folder")
    assert not asked
    (folder / "101.nii.gz").rename(folder / "subject-101.nii.gz")
    assert main([*args, "--output-transforms", str(folder)]) == 0
    assert (folder / "subject-101.nii.gz").read_text() == "mine"
    assert (folder / "5.nii.gz").exists() and (folder / "5.tfm").exists()


def test_output_in_a_folder_of_slices_is_refused(
    tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slices").mkdir()
    args = ["reconstruct", "--no-segmentation", "--input-stacks", stack, "--output-slices", str(tmp_path / "slices")]
    refused(capsys, [*args, "--output-volume", str(tmp_path / "slices" / "900.nii.gz")], "900.nii.gz: lies in")
