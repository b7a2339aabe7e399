"""Runs of a data set are found with their masks and metadata, and grouped by subject and session."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
from bids_data import data_set, description
from nifti_files import refused

from slicesplat.io.bids import Run, find_examinations


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("bids") / "data", ("sub-02/ses-b", "sub-01/ses-a", "sub-02/ses-a"))


def masks(root: Path) -> Path:
    return root / "derivatives" / "masks"


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(made, tmp_path / "data"))


def test_runs_are_grouped_by_subject_and_session_in_order(made: Path) -> None:
    found = find_examinations(made)
    assert [each.prefix for each in found] == ["sub-01_ses-a", "sub-02_ses-a", "sub-02_ses-b"]
    assert [run.name for run in found[2].runs] == [
        f"sub-02/ses-b/anat/sub-02_ses-b_run-{number}_T2w.nii.gz" for number in (1, 2, 3)
    ]
    assert all(run.mask is None for run in found[0].runs)


@pytest.mark.parametrize("labels", [("02",), ("sub-02",)])
def test_subjects_and_sessions_are_named_with_or_without_their_keys(made: Path, labels: tuple[str]) -> None:
    assert [each.session for each in find_examinations(made, labels)] == ["a", "b"]
    assert [each.subject for each in find_examinations(made, sessions=("ses-a",))] == ["01", "02"]


def test_masks_are_those_of_the_same_entities(made: Path) -> None:
    for examination in find_examinations(made, masks=masks(made)):
        for run in examination.runs:
            assert run.mask is not None
            assert run.mask.name == run.path.name.replace("_T2w", "_mask")


def test_of_several_masks_that_of_the_brain_is_taken(own: Path) -> None:
    folder = masks(own) / "sub-01/ses-a/anat"
    drawn = folder / "sub-01_ses-a_run-1_mask.nii.gz"
    shutil.copy(drawn, folder / "sub-01_ses-a_run-01_desc-brain_mask.nii.gz")
    run = find_examinations(own, masks=masks(own))[0].runs[0]
    assert len(run.masks) == 2
    assert run.mask == folder / "sub-01_ses-a_run-01_desc-brain_mask.nii.gz"


def test_labels_that_are_not_there_are_named(made: Path) -> None:
    refused(lambda: find_examinations(made, ("01", "09")), str(made), "has no T2w images of sub-09")
    refused(lambda: find_examinations(made, sessions=("a", "ses-q")), str(made), "has no T2w images of ses-q")


def test_masks_that_cannot_be_told_apart_are_refused(own: Path) -> None:
    folder = masks(own) / "sub-01/ses-a/anat"
    for kind in ("head", "body"):
        shutil.copy(folder / "sub-01_ses-a_run-1_mask.nii.gz", folder / f"sub-01_ses-a_run-1_desc-{kind}_mask.nii.gz")
    run = find_examinations(own, masks=masks(own))[0].runs[0]
    refused(lambda: run.mask, run.path.name, "has 3 masks")


def test_metadata_are_inherited_from_the_nearest_file(own: Path) -> None:
    (own / "sub-02" / "sub-02_T2w.json").write_text(json.dumps({"SliceThickness": 3.0, "EchoTime": 0.1}))
    beside = own / "sub-02/ses-a/anat/sub-02_ses-a_run-2_T2w.json"
    beside.write_text(json.dumps({"SliceThickness": 2.5}))
    (own / "sub-02/ses-a/anat/sub-02_ses-a_run-3_T2w.json").write_text("{}")
    found = {each.prefix: [run.thickness for run in each.runs] for each in find_examinations(own)}
    assert found == {"sub-01_ses-a": [4.0] * 3, "sub-02_ses-a": [3.0, 2.5, 3.0], "sub-02_ses-b": [3.0] * 3}
    run = find_examinations(own, ["02"])[0].runs[1]
    assert run.metadata == (beside, own / "sub-02" / "sub-02_T2w.json", own / "T2w.json")
    assert Run(run.path, run.name).thickness is None


def test_what_the_data_set_ignores_is_left_out(own: Path) -> None:
    (own / ".bidsignore").write_text("*_run-2_*\n")
    assert [run.path.name[-16:-11] for run in find_examinations(own)[0].runs] == ["run-1", "run-3"]


class Bomb:
    """What is unpickled does what it likes."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, ("/nowhere/to/be/found",)


def test_a_pickle_in_the_data_set_is_not_opened(own: Path) -> None:
    (own / ".ancpbids-dataset.pickle").write_bytes(pickle.dumps(Bomb()))
    assert len(find_examinations(own)) == 3


def test_what_is_no_data_set_or_not_in_it_is_refused(tmp_path: Path, made: Path) -> None:
    refused(lambda: find_examinations(tmp_path / "none"), "none", "no such folder")
    refused(lambda: find_examinations(tmp_path), str(tmp_path), "no dataset_description.json")
    refused(lambda: find_examinations(made, ["07"]), str(made), "no T2w images of sub-07")
    description(tmp_path)
    refused(lambda: find_examinations(tmp_path), str(tmp_path), "no T2w images")


def test_without_ancpbids_the_extra_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ancpbids", None)
    refused(lambda: find_examinations(made), "ancpbids", "pip install 'slicesplat[bids]'")
