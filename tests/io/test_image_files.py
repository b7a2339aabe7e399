"""Folders and patterns stand for the files that are meant by them, in an order that does not depend on the system."""

from __future__ import annotations

from pathlib import Path

import pytest
from nifti_files import refused

from slicesplat.io.inputs import image_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ["s-10.nii.gz", "s-2.nii", "mask-2.nii.gz", "s-10_mask.nii.gz", "s-2.json", "notes.txt", "masked.nii.gz"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "deep.nii.gz").mkdir()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_folder_stands_for_its_images_numbers_by_value_without_masks(folder: Path) -> None:
    assert names(image_files([folder])) == ["masked.nii.gz", "s-2.nii", "s-10.nii.gz"]
    assert names(image_files([folder], masks=True)) == ["mask-2.nii.gz", "s-10_mask.nii.gz"]


def test_folder_of_masks_need_not_say_so_in_every_name(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii.gz"):
        (tmp_path / name).touch()
    assert names(image_files([tmp_path], masks=True)) == ["a.nii.gz", "b.nii.gz"]


def test_pattern_stands_for_what_matches_and_files_for_themselves(folder: Path) -> None:
    assert names(image_files([folder / "s-*.nii*"])) == ["s-2.nii", "s-10.nii.gz", "s-10_mask.nii.gz"]
    odd = folder / "odd[1].nii.gz"
    odd.touch()
    assert image_files([odd, folder / "none.nii.gz"]) == [odd, folder / "none.nii.gz"]
    refused(lambda: image_files([folder / "t-*.nii"]), "t-*.nii", "no file matches")


def test_folder_without_images_or_of_single_slices_is_refused(tmp_path: Path) -> None:
    refused(lambda: image_files([tmp_path]), str(tmp_path), "is a folder without images")
    (tmp_path / "mask_0.nii.gz").touch()
    refused(lambda: image_files([tmp_path]), str(tmp_path), "is a folder")
    (tmp_path / "0.nii.gz").touch()
    refused(lambda: image_files([tmp_path]), str(tmp_path), "single slices")
