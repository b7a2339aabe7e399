"""A data set in, a derivative out that the validator accepts; what is done stays, what fails stops nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bids_data import data_set, description, spoil
from command_line import refused
from reconstructions import result

from slicesplat.cli import main
from slicesplat.cohort.validate import faults
from slicesplat.config import Config
from slicesplat.geometry.stack import Stack
from slicesplat.prepare.known_motion import load_motion

VALIDATOR = Path(sys.executable).parent / "bids-validator-deno"
FABIAN = Path(__file__).resolve().parents[3] / "shared" / "data" / "fabian-fetpype"
EXAMINATIONS = ("sub-01", "sub-02/ses-a", "sub-02/ses-b")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("bids") / "data", EXAMINATIONS)


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "data"))


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every reconstruction gives the same result; the names of the stacks that it was called with."""
    calls: list[list[str]] = []

    def fake(stacks: Sequence[Stack], config: Config, progress: Callable[[Any], None] | None) -> Any:
        assert [stack.thickness for stack in stacks] == [4.0] * 3
        calls.append([stack.name for stack in stacks])
        error = nib.Nifti1Image(np.ones(result().volume.shape, np.float32), result().volume.affine)
        return replace(result(), uncertainty=error if config.uncertainty else None, settings=config)

    monkeypatch.setattr("slicesplat.cohort.subject.reconstruct", fake)
    return calls


def out(root: Path) -> Path:
    return root / "derivatives" / "slicesplat"


def bids(root: Path, *flags: str) -> int:
    common = ["--masks-derivative", "masks", "--skip-bids-validation", "--quiet"]
    return main(["bids", str(root), str(out(root)), "participant", *common, *flags])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_derivative_is_what_the_validator_accepts(root: Path, done: list[list[str]]) -> None:
    assert bids(root) == 0
    assert len(done) == 3
    command = [str(VALIDATOR), str(out(root)), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
    issues = [issue["code"] for issue in json.loads(answer.stdout)["issues"]["issues"]]
    assert sorted(set(issues)) in ([], ["TOO_FEW_AUTHORS"])  # a warning, of what nobody can know


def test_volume_mask_and_errors_are_there_with_where_they_come_from(root: Path, done: list[list[str]]) -> None:
    assert bids(root, "--participant_label", "sub-02", "--session-label", "a", "-w", str(root)) == 0
    assert done == [[f"sub-02_ses-a_run-{number}_T2w.nii.gz" for number in (1, 2, 3)]]
    anat = out(root) / "sub-02/ses-a/anat"
    names = ["T2w", "desc-brain_mask", "desc-uncertainty_T2w"]
    stem = "sub-02_ses-a_rec-slicesplat"
    for name in names:
        image = nib.load(anat / f"{stem}_{name}.nii.gz")
        assert image.shape == result().volume.shape
        assert image.get_data_dtype() == (np.uint8 if name.endswith("mask") else np.float32)
    np.testing.assert_array_equal(nib.load(anat / f"{stem}_T2w.nii.gz").get_fdata(), result().volume.get_fdata())
    assert "<h1" in (anat / f"{stem}_T2w.html").read_text()
    about = json.loads((anat / f"{stem}_T2w.json").read_text())
    assert about["Sources"] == [
        *(f"bids:raw:sub-02/ses-a/anat/sub-02_ses-a_run-{number}_T2w.nii.gz" for number in (1, 2, 3)),
        *(f"bids:masks:sub-02/ses-a/anat/sub-02_ses-a_run-{number}_mask.nii.gz" for number in (1, 2, 3)),
    ]
    assert about["SpatialReference"] == about["Sources"][result().reference]
    assert about["Settings"]["resolution"] == 0.8 and about["Versions"]["slicesplat"]
    assert about["Reconstruction"]["noise"] == result().noise
    assert about["SkullStripped"] is True
    assert about["Verdict"] == result().verdict.json()
    links = json.loads((out(root) / "dataset_description.json").read_text())["DatasetLinks"]
    assert {name: (out(root) / way).resolve() for name, way in links.items()} == {
        "raw": root,
        "masks": root / "derivatives/masks",
    }


def test_transforms_are_called_after_their_runs_so_that_apply_reads_them(root: Path, done: list[list[str]]) -> None:
    assert bids(root, "--participant-label", "01", "--no-uncertainty") == 0
    assert not list(out(root).rglob("*uncertainty*"))
    stacks = [
        replace(stack, name=f"sub-01_run-{number}_T2w.nii.gz") for number, stack in enumerate(result().stacks, start=1)
    ]
    found = load_motion(out(root) / "sub-01/xfm", stacks)
    for record in result().slice_records():
        np.testing.assert_allclose(found[record.stack, record.slice], record.world_transform, atol=1e-9)
    assert len(found) == len(result().slices)
    table = json.loads((out(root) / "sub-01/xfm/sub-01_rec-slicesplat_xfm.json").read_text())
    assert len(table["slices"]) == len(found)


def test_what_is_done_is_not_done_again_and_what_changed_is(root: Path, done: list[list[str]]) -> None:
    assert bids(root) == 0
    before = contents(out(root))
    assert bids(root, "--threads", "1") == 0  # of no effect on the volume
    assert len(done) == 3 and contents(out(root)) == before
    stack = root / "sub-01/anat/sub-01_run-2_T2w.nii.gz"
    image = nib.load(stack)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 2, image.affine), stack)
    assert bids(root) == 0
    assert len(done) == 4 and done[-1][0].startswith("sub-01")
    (root / "sub-02/ses-b/anat/sub-02_ses-b_run-1_T2w.json").write_text('{"SliceThickness": 4.0}')
    assert bids(root) == 0
    assert len(done) == 5 and done[-1][0].startswith("sub-02_ses-b")
    assert bids(root, "--seed", "1", "--participant-label", "01") == 0
    assert bids(root, "--seed", "1", "--participant-label", "01", "--anatomy", "fetal") == 0
    assert len(done) == 7


def test_what_is_missing_is_made_again(root: Path, done: list[list[str]]) -> None:
    assert bids(root) == 0
    (out(root) / "sub-01/anat/sub-01_rec-slicesplat_desc-brain_mask.nii.gz").unlink()
    shutil.rmtree(out(root) / "sub-02/ses-a/xfm")
    assert bids(root) == 0
    assert [names[0][:12] for names in done[3:]] == ["sub-01_run-1", "sub-02_ses-a"]


def test_a_result_that_was_changed_by_hand_stays(
    root: Path, done: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bids(root) == 0
    mask = out(root) / "sub-01/anat/sub-01_rec-slicesplat_desc-brain_mask.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), mask)
    edited = mask.read_bytes()
    assert bids(root) == 2
    assert len(done) == 3 and mask.read_bytes() == edited
    assert "sub-01: " in capsys.readouterr().err


def test_one_bad_subject_gives_its_error_and_the_others_are_done(
    root: Path, done: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = spoil(root, "sub-02/ses-a")
    assert bids(root) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert err[0].startswith("error: sub-02_ses-a: ") and bad.name in err[0] and "; " in err[0]
    assert err[1].startswith("slicesplat: sub-02_ses-a: 1 of 3 examinations failed")
    assert len(done) == 2
    assert not (out(root) / "sub-02/ses-a").exists()
    assert (out(root) / "sub-02/ses-b/anat").is_dir() and (out(root) / "sub-01/anat").is_dir()


def test_a_failure_of_the_program_is_status_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr("slicesplat.cohort.subject.reconstruct", fake)
    assert bids(root) == 1


def test_shards_do_every_examination_once(root: Path, done: list[list[str]]) -> None:
    assert bids(root, "--shard", "1/2") == 0
    assert [names[0][:12] for names in done] == ["sub-01_run-1", "sub-02_ses-b"]
    assert bids(root, "--shard", "2/2") == 0
    assert len(done) == 3


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(root: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["bids", str(root), str(out(root)), "participant", "--shard", part], f"--shard {part}")
    assert not out(root).exists()


def test_one_mask_of_a_session_is_drawn_on_its_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def fake(*given: Any, **named: Any) -> None:
        seen.append({"masks": given[1], **named})
        raise MemoryError

    monkeypatch.setattr("slicesplat.cohort.subject.load_stacks", fake)
    folder = root / "derivatives/masks/sub-01/anat"
    for number in (1, 3):
        (folder / f"sub-01_run-{number}_mask.nii.gz").unlink()
    assert bids(root, "--participant-label", "01") == 1
    told = {"segmentation": True, "anatomy": "auto"}
    assert seen == [{"masks": [folder / "sub-01_run-2_mask.nii.gz"], "mask_of": 2, **told}]
    assert (
        bids(root, "--participant-label", "02", "--session-label", "a", "--no-segmentation", "--anatomy", "fetal") == 1
    )
    assert (seen[1]["segmentation"], seen[1]["anatomy"]) == (False, "fetal")


def test_masks_are_those_of_the_data_set_whatever_lies_around(
    root: Path, done: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    (root.parent / "masks").mkdir()
    assert bids(root, "--participant-label", "01") == 0
    assert len(done) == 1
    (root / "derivatives/masks").rename(root.parent / "masks" / "drawn")
    assert bids(root, "--participant-label", "02", "--masks-derivative", "masks/drawn") == 0
    assert len(done) == 3


def test_masks_of_some_runs_are_refused(root: Path, done: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    (root / "derivatives/masks/sub-01/anat/sub-01_run-3_mask.nii.gz").unlink()
    assert bids(root, "--participant-label", "01") == 2
    assert "sub-01_run-3_T2w.nii.gz: has no mask" in capsys.readouterr().err
    assert not done


def test_a_folder_of_derivatives_gets_one_of_its_own(root: Path, done: list[list[str]]) -> None:
    flags = ["--skip-bids-validation", "--quiet", "--participant-label", "01", "--no-segmentation"]
    assert main(["bids", str(root), str(root / "derivatives"), "participant", *flags]) == 0
    assert (out(root) / "sub-01").is_dir()
    # Elsewhere no link to the data set is written: its way leads through folders that are nobody's business.
    other = root.parent / "results"
    assert main(["bids", str(root), str(other), "participant", *flags]) == 0
    assert json.loads((other / "dataset_description.json").read_text())["DatasetLinks"] == {}


def test_places_that_cannot_be_written_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(root)
    refused(capsys, ["bids", str(root), str(root), "participant"], "is a data set that is read")
    other = root.parent / "other"
    description(other, GeneratedBy=[{"Name": "fMRIPrep"}])
    refused(capsys, ["bids", str(root), str(other), "participant"], str(other), "slicesplat has not written")
    refused(capsys, ["bids", str(root), str(root / "T2w.json"), "participant"], "T2w.json", "is a file")
    refused(
        capsys, ["bids", str(root), str(other), "participant", "--masks-derivative", "none"], "none: no such folder"
    )
    refused(capsys, ["bids", str(root), str(other), "group"], "group")
    assert contents(root) == before


def test_errors_of_the_data_set_are_told_and_stop_nothing(
    root: Path, done: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults(root) == {}
    (root / "participants.csv").write_text("participant_id\n")
    flags = ["--participant-label", "01", "--quiet", "--no-segmentation"]
    assert main(["bids", str(root), str(out(root)), "participant", *flags]) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: the data set has errors for bids-validator-deno: ") and err.count("\n") == 1
    assert len(done) == 1


@pytest.mark.skipif(not FABIAN.is_dir(), reason="needs the shared data")
@pytest.mark.parametrize("masks", [("--masks-derivative", "masks"), ()], ids=["drawn", "none"])
def test_the_test_case_of_fetpype_becomes_a_valid_derivative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masks: tuple[str, ...]
) -> None:
    seen: list[Stack] = []

    def fake(stacks: Sequence[Stack], config: Config, progress: Any) -> Any:
        seen.extend(stacks)
        return replace(result(), settings=config)

    monkeypatch.setattr("slicesplat.cohort.subject.reconstruct", fake)
    flags = [*masks, "--no-uncertainty", "--quiet", "--skip-bids-validation"]
    out = tmp_path / "derivatives"
    assert main(["bids", str(FABIAN), str(out), "participant", *flags]) == 0
    assert [round(float(stack.spacing[2]), 2) for stack in seen] == [3.2] * 3
    assert all(0 < stack.mask.mean() < 0.5 for stack in seen)
    command = [str(VALIDATOR), str(out / "slicesplat"), "--ignoreWarnings"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.slow
@pytest.mark.skipif(not FABIAN.is_dir(), reason="needs the shared data")
def test_the_test_case_of_fetpype_is_reconstructed(tmp_path: Path) -> None:
    flags = ["--masks-derivative", "masks", "--no-uncertainty", "--quiet", "--output-resolution", "1.0"]
    assert main(["bids", str(FABIAN), str(tmp_path / "out"), "participant", *flags]) == 0
    anat = tmp_path / "out/sub-simu001/ses-01/anat"
    about = json.loads((anat / "sub-simu001_ses-01_rec-slicesplat_T2w.json").read_text())
    assert about["Verdict"]["grade"] in ("pass", "check")
    volume = nib.load(anat / "sub-simu001_ses-01_rec-slicesplat_T2w.nii.gz").get_fdata()
    assert np.isfinite(volume).all() and volume.max() > 0
