"""``--input-slices``: slices at known poses are registered from there, or stay there."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, write

from slicesplat.cli import main
from slicesplat.config import Config, FitSettings
from slicesplat.geometry.rigid import Rigid
from slicesplat.io.slices import load_slices, save_slices
from slicesplat.pipeline import reconstruct, register
from slicesplat.prepare.posed import load_posed_slices
from slicesplat.records import SliceRecord
from slicesplat.result import Reconstruction
from slicesplat.validation.images import evaluate
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.pose_error import pose_error
from slicesplat.validation.simulate import Simulation, SimulationConfig, simulate

BRIEF = FitSettings(spacings=(1.05,), strengths=(), pose_rounds=3, final_rounds=1, rounds=2, iterations=8)


@cache
def scan() -> Simulation:
    config = SimulationConfig(motion="mild", pixel=1.5, spacing=3.0, thickness=3.0, dropout=0.0, noise=0.02, seed=1)
    return simulate(*brain_phantom(50.0, 1.4), config)


def true_records(error_mm: float = 0.0) -> list[SliceRecord]:
    """Every slice where it truly is, or about."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(len(scan().stacks)):
        for k, transform in enumerate(scan().truth.transforms(number)):
            off = Rigid.exp(rng.normal(0, 1, 6) * error_mm * np.array([0.6] * 3 + [0.02] * 3)).matrix
            found.append(SliceRecord(number, k, off @ transform))
    return found


def folder(tmp_path: Path, error_mm: float = 0.0) -> Path:
    save_slices(tmp_path / "given", scan().stacks, true_records(error_mm))
    return tmp_path / "given"


def made(tmp_path: Path, motion: str, error_mm: float) -> Reconstruction:
    stacks = load_posed_slices(folder(tmp_path, error_mm))
    return reconstruct(stacks, Config(resolution=1.4, threads=1, motion=motion, fit=BRIEF))  # type: ignore[arg-type]


def test_poses_as_given_stay_to_the_last_bit(tmp_path: Path) -> None:
    result = made(tmp_path, "none", 0.0)
    assert np.array_equal(result.poses.matrix, Rigid.identity(len(result.slices)).matrix)
    as_scanned = reconstruct(scan().stacks, Config(resolution=1.4, threads=1, motion="none", fit=BRIEF))
    assert psnr(result) > psnr(as_scanned) + 1


def test_slices_about_in_place_are_brought_to_their_places(tmp_path: Path) -> None:
    given, stacks = true_records(3.0), load_posed_slices(folder(tmp_path, 3.0))
    first = np.concatenate([[0], np.cumsum([stack.n_slices for stack in stacks])])
    found = [
        replace(known, world_transform=record.world_transform @ known.world_transform, weight=record.weight)
        for record in register(stacks, Config(threads=1)).slice_records()
        for known in [given[first[record.stack] + record.slice]]
    ]
    before, after = (pose_error(records, scan().truth, scan().masks) for records in (given, found))
    assert before.tre_median > 2.5 and after.tre_median < 0.6
    assert after.used > 0.9 * len(found) and after.over_2mm_used <= 2


def test_registration_of_stacks_moves_each_as_one() -> None:
    result = register(scan().stacks, Config(threads=1, motion="stack"))
    for number in range(len(scan().stacks)):
        own = result.poses[result.slices.stack == number].matrix
        assert np.array_equal(own, np.broadcast_to(own[0], own.shape))
    assert not np.array_equal(result.poses[-1:].matrix[0], result.poses[:1].matrix[0])


def psnr(result: Reconstruction) -> float:
    """Against the truth, where it lies."""
    truth, affine, mask = brain_phantom(50.0, 1.4)
    images = (nib.Nifti1Image(values, affine) for values in (truth, mask.astype(np.uint8)))
    return evaluate(result.volume, *images, register=False).psnr


def test_slices_that_were_written_can_be_read_registered_and_written_again(tmp_path: Path) -> None:
    args = ["register", "--input-slices", str(folder(tmp_path)), "--registration", "none", "--quiet"]
    args += ["--output-slices", str(tmp_path / "again"), "--output-json", str(tmp_path / "poses.json")]
    assert main(args) == 0
    records = json.loads((tmp_path / "poses.json").read_text())
    assert records["settings"]["motion"] == "none"
    given = {one.name: one for one in load_slices(tmp_path / "given")}
    again = load_slices(tmp_path / "again")
    assert len(again) == len(records["slices"]) > 10
    shown = [one for one in given.values() if one.mask.sum() >= 16]
    for one, other in zip(again, shown, strict=True):
        np.testing.assert_allclose(one.affine, other.affine, atol=1e-4)
        assert np.array_equal(one.data, other.data)


def test_flags_of_stacks_do_not_go_with_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = str(folder(tmp_path))
    args = ["reconstruct", "--output-volume", str(tmp_path / "v.nii.gz")]
    refused(capsys, args, "nothing to read", "--input-slices")
    refused(capsys, [*args, "--input-slices", given, "--thicknesses", "3"], given, "leave out --thicknesses")
    refused(capsys, [*args, "--input-slices", given, "--input-stacks", "a.nii.gz"], "leave out --input-stacks")
    refused(capsys, [*args, "--input-slices", str(tmp_path / "none")], "none: no such folder")
    refused(capsys, [*args, "--input-slices", given, "--output-slices", given], "holds inputs")
    refused(capsys, [*args, "--input-slices", given, "--registration", "some"], "--registration")
    empty = tmp_path / "empty"
    empty.mkdir()
    write(empty / "volume.nii.gz", np.ones((4, 4, 4), np.float32))
    refused(capsys, [*args, "--input-slices", str(empty)], "holds no slices")
    write(empty / "0.nii.gz", np.ones((4, 4, 4), np.float32))
    refused(capsys, [*args, "--input-slices", str(empty)], "0.nii.gz: has 4 slices")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 1), np.float32), np.eye(4)), empty / "0.nii.gz")
    write(empty / "mask_0.nii.gz", np.ones((5, 4, 1), np.uint8))
    refused(capsys, [*args, "--input-slices", str(empty)], "mask_0.nii.gz", "shape")
