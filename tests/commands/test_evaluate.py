"""A simulation on disk is scored against itself and others, and nothing is written over."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import ball, refused, text, write
from scipy import ndimage

from slicesplat.cli import main


def test_simulated_truth_scores_as_perfect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume, region = ball(tmp_path)
    folder = tmp_path / "case"
    args = ["--volume", volume, "--mask", region, "--output", str(folder), "--stacks", "2", "--motion", "none"]
    assert main(["simulate", *args, "--quiet"]) == 0
    written = {path.name for path in folder.iterdir()}
    assert {"stack-1.nii.gz", "mask-2.nii.gz", "truth.nii.gz", "truth-mask.nii.gz", "truth.json"} <= written
    slices = [
        {"stack": i, "slice": k, "world_transform": np.eye(4).tolist(), "weight": 1.0}
        for i in range(2)
        for k in range(nib.load(folder / f"stack-{i + 1}.nii.gz").shape[2])
    ]
    result = text(tmp_path / "r.json", json.dumps({"slices": slices}))
    capsys.readouterr()
    args = ["--volume", volume, "--simulation", str(folder), "--result-json", result, "--no-register"]
    assert main(["evaluate", *args, "--output-json", str(tmp_path / "score.json")]) == 0
    assert "PSNR" in capsys.readouterr().out
    figures = json.loads((tmp_path / "score.json").read_text())
    assert figures["score"]["ncc"] == pytest.approx(1.0)
    assert figures["pose_error"]["tre_mean"] == pytest.approx(0.0, abs=1e-6)


def test_a_published_protocol_takes_the_place_of_settings_but_for_the_seed(tmp_path: Path) -> None:
    volume, region = ball(tmp_path)
    args = ["simulate", "--volume", volume, "--mask", region, "--output", str(tmp_path / "case"), "--quiet"]
    assert main([*args, "--protocol", "gsvr", "--seed", "5", "--pixel", "4"]) == 0
    settings = json.loads((tmp_path / "case" / "truth.json").read_text())["args"]
    assert settings["motion"] == "independent" and settings["seed"] == 5
    for number in (1, 2, 3):
        spacing = nib.load(tmp_path / "case" / f"stack-{number}.nii.gz").header.get_zooms()
        assert spacing == pytest.approx((0.5, 0.5, 3.0))


def test_simulation_with_fewer_stacks_leaves_none_of_the_last_one(tmp_path: Path) -> None:
    volume, region = ball(tmp_path)
    args = ["simulate", "--volume", volume, "--mask", region, "--output", str(tmp_path / "case"), "--pixel", "4"]
    assert main([*args, "--quiet", "--stacks", "3"]) == 0
    assert main([*args, "--quiet", "--stacks", "1"]) == 0
    left = {path.name for path in (tmp_path / "case").glob("*.nii.gz")}
    assert left == {"stack-1.nii.gz", "mask-1.nii.gz", "truth.nii.gz", "truth-mask.nii.gz"}


def test_evaluate_never_writes_over_what_it_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume, region = ball(tmp_path)
    (tmp_path / "case").mkdir()
    truth, result = text(tmp_path / "case" / "truth.json", "{}"), text(tmp_path / "r.json", "{}")
    args = ["evaluate", "--volume", volume, "--truth", volume, "--truth-mask", region]
    args += ["--simulation", str(tmp_path / "case"), "--result-json", result]
    for path in (truth, result):
        refused(capsys, [*args, "--output-json", path], Path(path).name, "would be overwritten")


def test_result_of_another_case_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume, region = ball(tmp_path)
    known = ["evaluate", "--volume", volume, "--truth", volume, "--truth-mask", region]
    result = text(tmp_path / "r.json", '{"slices": []}')
    refused(capsys, [*known, "--result-json", result], "r.json", "--simulation")
    refused(capsys, [*known, "--result-json", result, "--simulation", str(tmp_path)], "truth.json", "no such file")
    text(tmp_path / "truth.json", '{"poses_deg_mm": []}')
    refused(capsys, [*known, "--result-json", result, "--simulation", str(tmp_path)], "r.json", "does not belong")


def test_soft_truth_mask_is_cut_and_told_once_all_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, region = ball(tmp_path)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    rim = ndimage.uniform_filter(nib.load(region).get_fdata(), 3)
    soft, cut = (
        write(tmp_path / f"{name}.nii.gz", values.astype(np.float32), affine)
        for name, values in (("soft", rim), ("cut", rim >= 0.5))
    )
    known = ["evaluate", "--volume", volume, "--truth", volume, "--no-register", "--truth-mask"]
    assert main([*known, cut]) == 0
    expected = capsys.readouterr()
    assert main([*known, soft]) == 0
    assert capsys.readouterr() == (expected.out, "soft.nii.gz: soft mask, values up to 1, cut at 0.5\n")
    refused(capsys, [*known, soft, "--result-json", "none.json"], "none.json", "--simulation")
    args = ["simulate", "--volume", volume, "--mask", soft, "--output", str(tmp_path / "case"), "--stacks", "1"]
    assert main(args) == 0
    assert "soft.nii.gz: soft mask, values up to 1, cut at 0.5" in capsys.readouterr().err
    np.testing.assert_array_equal(nib.load(tmp_path / "case/truth-mask.nii.gz").get_fdata() > 0, rim >= 0.5)
