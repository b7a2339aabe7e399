"""DICOM becomes the same stack as the NIfTI that it was made from, and its slices know when they were acquired."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import MARK, PATIENT, Series, numbers, write_classic, write_enhanced
from nifti_files import plain_affine, refused

from slicesplat.geometry.stack import Stack
from slicesplat.prepare.load import load_stacks

INTERLEAVED = [0, 2, 4, 6, 8, 1, 3, 5, 7]
DESCENDING = [8, 7, 6, 5, 4, 3, 2, 1, 0]
SERIES = Series(numbers(), order=INTERLEAVED)


def world_of_values(data: np.ndarray, affine: np.ndarray) -> dict[float, list[float]]:
    """Where each value is, mm RAS+; no two voxels are alike, but for the zeros of slices that are missing."""
    index = np.argwhere(data)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    return dict(zip(data[data > 0].tolist(), world.tolist(), strict=True))


def assert_same_stack(found: Stack, series: Series) -> None:
    """Every value in its place, and every slice at its time."""
    assert found.thickness == series.thickness
    assert found.data.size == series.data.size
    expected, there = (world_of_values(*pair) for pair in ((series.data, series.affine), (found.data, found.affine)))
    assert there.keys() == expected.keys()
    values = sorted(expected)
    np.testing.assert_allclose([there[v] for v in values], [expected[v] for v in values], atol=0.01)
    # Slices are in either direction.
    same = found.data[:, :, 0].sum() == series.data[:, :, 0].sum()
    assert found.times is not None
    np.testing.assert_allclose(found.times[:: 1 if same else -1], series.times(), atol=1e-3)


@pytest.mark.parametrize("write", [write_classic, write_enhanced], ids=["classic", "enhanced"])
@pytest.mark.parametrize("order", [INTERLEAVED, DESCENDING], ids=["interleaved", "descending"])
def test_oblique_series_are_the_stacks_that_they_were_made_from(
    tmp_path: Path, write: Callable[..., object], order: list[int]
) -> None:
    series = replace(SERIES, order=order)
    write(tmp_path / "scan", series)
    (found,) = load_stacks([tmp_path / "scan"])
    assert_same_stack(found, series)
    assert found.name == "series-4.nii"


def test_the_same_image_as_nifti_gives_the_same_stack(tmp_path: Path) -> None:
    series = Series(numbers(), plain_affine(origin=(-11.0, -9.0, 4.0)))
    write_classic(tmp_path / "scan", series)
    nib.save(nib.Nifti1Image(series.data, series.affine), tmp_path / "scan.nii.gz")
    found, told = load_stacks([tmp_path / "scan", tmp_path / "scan.nii.gz"], thicknesses=2.5)
    assert_same_stack(found, series)
    assert world_of_values(told.data, told.affine).keys() == world_of_values(found.data, found.affine).keys()
    assert told.times is None


@pytest.mark.parametrize("gone", [[3], [1], [2, 3]])
def test_the_places_of_missing_slices_are_kept_free(
    tmp_path: Path, gone: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    left = [k for k in range(9) if k not in gone]
    write_classic(tmp_path / "scan", SERIES, left)
    with caplog.at_level(logging.INFO, logger="slicesplat"):
        (found,) = load_stacks([tmp_path / "scan"])
    assert f"series 4: {len(gone)} of its slices are missing; their places are kept free" in caplog.messages
    assert found.n_slices == 9
    kept = replace(SERIES, data=SERIES.data[:, :, left])
    expected, there = world_of_values(SERIES.data, SERIES.affine), world_of_values(found.data, found.affine)
    values = sorted(set(kept.data.flat))
    assert sorted(there) == values
    np.testing.assert_allclose([there[v] for v in values], [expected[v] for v in values], atol=0.01)
    empty = np.flatnonzero(~found.data.any(axis=(0, 1)))
    assert len(empty) == len(gone) and not found.mask[:, :, empty].any()
    assert found.times is not None
    assert np.isnan(found.times[empty]).all() and np.isfinite(np.delete(found.times, empty)).all()


def test_of_a_mixed_folder_the_stacks_are_taken_and_the_rest_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = tmp_path / "scan"
    write_classic(scan / "b", replace(SERIES, number=12, seed=1, data=numbers(seed=2)))
    write_classic(scan / "a", SERIES)
    write_classic(scan / "a", replace(SERIES, number=1, description="t2_Localizer"))
    write_classic(scan / "a", replace(SERIES, number=2, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))
    write_classic(scan / "a", replace(SERIES, number=5, image_type=("DERIVED", "SECONDARY", "MPR")))
    write_classic(scan / "a", replace(SERIES, number=6), range(2))
    write_classic(scan / "a", replace(SERIES, number=7), MRAcquisitionType="3D")
    (scan / "notes.txt").write_text("no DICOM")
    with caplog.at_level(logging.INFO, logger="slicesplat"):
        found = load_stacks([scan])
    assert [stack.name for stack in found] == ["series-4.nii", "series-12.nii"]
    assert_same_stack(found[0], SERIES)
    told = {
        int(match[1]): match[2]
        for match in (re.match(r"series (\d+): (.*)", text) for text in caplog.messages)
        if match
    }
    assert told == {
        1: "is a localiser, left out",
        2: "is a localiser, left out",
        5: "is derived, not acquired, left out",
        6: "has fewer than 3 parallel slices, left out",
        7: "is a 3-D acquisition, no slices, left out",
    }


def test_files_in_a_row_are_one_scan_and_stand_among_others(tmp_path: Path) -> None:
    files = write_classic(tmp_path / "scan", SERIES)
    write_classic(tmp_path / "scan", replace(SERIES, number=9))
    one = write_enhanced(tmp_path / "enhanced", replace(SERIES, number=2))
    beside = tmp_path / "s.nii.gz"
    nib.save(nib.Nifti1Image(SERIES.data, SERIES.affine), beside)
    found = load_stacks([*files, beside, one])
    assert [stack.name for stack in found] == ["series-4.nii", "s.nii.gz", "series-2.nii"]
    assert_same_stack(found[0], SERIES)
    assert_same_stack(found[2], replace(SERIES, number=2))


def test_two_series_of_one_number_are_told_apart(tmp_path: Path) -> None:
    again = replace(SERIES, order=DESCENDING, seed=7, data=numbers(seed=4) + 1)
    write_classic(tmp_path / "scan" / "a", SERIES)
    write_classic(tmp_path / "scan" / "b", again)
    found = load_stacks([tmp_path / "scan"])
    assert len(found) == 2
    for series in (SERIES, again):
        (own,) = [stack for stack in found if set(stack.data.flat) == set(series.data.flat) and stack.times is not None]
        assert_same_stack(own, series)


def test_slices_of_uncertain_places_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classic(tmp_path / "scan" / "a", replace(SERIES, number=9))
    for folder, seed in (("b", 0), ("c", 1)):
        write_classic(tmp_path / "scan" / folder, replace(SERIES, seed=seed), [0, 1, 2, 4, 5])
    with caplog.at_level(logging.INFO, logger="slicesplat"):
        found = load_stacks([tmp_path / "scan"])
    assert [stack.name for stack in found] == ["series-9.nii"]
    assert [text.partition(": ")[2] for text in caplog.messages if "left out" in text] == [
        "has slices whose places are not certain, left out"
    ] * 2


def test_masks_and_thicknesses_are_in_the_order_of_the_series(tmp_path: Path) -> None:
    for number in (3, 11):
        write_classic(tmp_path / "scan", replace(SERIES, number=number))
    plain = load_stacks([tmp_path / "scan"])
    masks = []
    for number, stack in enumerate(plain):
        mask = np.zeros(stack.data.shape, np.uint8)
        mask[5:15, 5:15, 2 + number : 7] = 1
        masks.append(tmp_path / f"mask-{number}.nii.gz")
        nib.save(nib.Nifti1Image(mask, stack.affine), masks[-1])
    found = load_stacks([tmp_path / "scan"], masks, [2.0, 3.0])
    assert [stack.thickness for stack in found] == [2.0, 3.0]
    assert [int(stack.mask.any(axis=(0, 1)).sum()) for stack in found] == [5, 4]


def test_slices_that_do_not_say_when_they_were_acquired_have_no_times(tmp_path: Path) -> None:
    write_classic(tmp_path / "scan", replace(SERIES, timed=False))
    (found,) = load_stacks([tmp_path / "scan"])
    assert found.times is None


def test_what_holds_no_stack_is_refused_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    write_classic(tmp_path / "scan", replace(SERIES, description="scout"))
    refused(
        lambda: load_stacks([tmp_path / "scan"]), "scan", "holds no stack of slices (series 4: is a localiser, left"
    )
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "IM1").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 300)
    refused(lambda: load_stacks([tmp_path / "broken"]), "broken", "DICOM")
    write_classic(tmp_path / "uneven", SERIES, [0, 1, 2, 3])
    write_classic(tmp_path / "uneven", replace(SERIES, affine=_shifted(SERIES.affine, 1.3)), [6, 7])
    refused(lambda: load_stacks([tmp_path / "uneven"]), "uneven", "its slices are not equally far apart")
    assert not list(temporary.iterdir())


def _shifted(affine: np.ndarray, along: float) -> np.ndarray:
    out = affine.copy()
    out[:3, 3] += along * affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    return out


def test_errors_of_a_series_name_what_was_given(tmp_path: Path) -> None:
    write_classic(tmp_path / "scan", SERIES)
    with pytest.raises(ValueError) as caught:
        load_stacks([tmp_path / "scan"], thicknesses=40.0)
    assert str(caught.value).startswith(f"{tmp_path / 'scan'}, series 4: slice thickness 40 mm")


@pytest.mark.parametrize(("module", "named"), [("dcm2niix", "dcm2niix"), ("pydicom", "pydicom")])
def test_without_the_extra_it_is_named(
    tmp_path: Path, module: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classic(tmp_path / "scan", SERIES)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("PATH", "")
    refused(lambda: load_stacks([tmp_path / "scan"]), named, "pip install 'slicesplat[dicom]'")


def test_nothing_of_the_patient_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scan = tmp_path / f"{MARK}_folder"
    write_classic(scan, SERIES)
    write_classic(scan, replace(SERIES, number=1, description=f"localizer {MARK}"))
    with caplog.at_level(logging.DEBUG, logger="slicesplat"):
        (found,) = load_stacks([scan])
    told = "\n".join(caplog.messages)
    assert "series 1" in told and MARK not in told + found.name
    assert not any(value in told for value in PATIENT.values() if len(value) > 1)
