"""An exported volume is read back as it was; patient and study are those that were named, or nobody's."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import dcm2niix
import nibabel as nib
import numpy as np
import pydicom
import pytest
from command_line import refused
from dicom_files import MARK, PATIENT, Series, numbers, write_classic
from scipy.spatial.transform import Rotation

from slicesplat.cli import main

SHAPE = (15, 13, 11)
PLAIN = np.diag([0.8, 0.8, 0.8, 1.0])


def turned(degrees: float) -> np.ndarray:
    affine = PLAIN.copy()
    affine[:3, :3] = Rotation.from_euler("xyz", [degrees, -degrees, 2 * degrees], degrees=True).as_matrix() * 0.8
    affine[:3, 3] = [-31.25, 12.5, 7.75]
    return affine


def values(whole: bool = False, lowest: float = 0.0) -> np.ndarray:
    data = np.random.default_rng(0).uniform(lowest, 900.0, SHAPE).astype(np.float32)
    return np.rint(data) if whole else data


@pytest.fixture
def like(tmp_path: Path) -> Path:
    write_classic(tmp_path / "scan", Series(numbers(), number=4))
    return tmp_path / "scan"


def exported(tmp_path: Path, data: np.ndarray, affine: np.ndarray, *flags: str) -> Path:
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "volume.nii.gz")
    out = tmp_path / "series"
    assert main(["export-dicom", str(tmp_path / "volume.nii.gz"), "--output", str(out), "--quiet", *flags]) == 0
    return out


def headers(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def read_back(folder: Path, tmp_path: Path) -> nib.Nifti1Image:
    """What dcm2niix makes of a series."""
    out = tmp_path / "back"
    out.mkdir()
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "v", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = out.glob("*.nii")
    image: nib.Nifti1Image = nib.load(found)
    return image


@pytest.mark.parametrize("affine", [PLAIN, turned(0), turned(14), turned(40)], ids=["0", "shifted", "tilted", "turned"])
@pytest.mark.parametrize("lowest", [0.0, -50.0])
def test_dcm2niix_reads_the_same_volume_in_the_same_place(
    tmp_path: Path, like: Path, affine: np.ndarray, lowest: float
) -> None:
    data = values(lowest=lowest)
    found = read_back(exported(tmp_path, data, affine, "--like", str(like)), tmp_path)
    to_found = np.linalg.inv(found.affine) @ affine
    index = np.indices(SHAPE).reshape(3, -1).T
    there = index @ to_found[:3, :3].T + to_found[:3, 3]
    assert np.abs(there - np.rint(there)).max() < 1e-3  # of a voxel
    seen = found.get_fdata()[tuple(np.rint(there).astype(int).T)]
    step = (data.max() - data.min()) / 65535
    assert np.abs(seen - data.reshape(-1)).max() <= 0.51 * step + 1e-4
    assert sorted(found.shape) == sorted(SHAPE)


def test_whole_numbers_stay_what_they_are(tmp_path: Path, like: Path) -> None:
    out = exported(tmp_path, values(whole=True), PLAIN, "--like", str(like))
    first = headers(out)[0]
    assert (float(first.RescaleSlope), float(first.RescaleIntercept)) == (1.0, 0.0)
    assert set(np.unique(read_back(out, tmp_path).get_fdata())) == set(np.unique(values(whole=True)))


def test_an_empty_volume_is_written_too(tmp_path: Path, like: Path) -> None:
    out = exported(tmp_path, np.zeros(SHAPE, np.float32), PLAIN, "--like", str(like))
    assert not read_back(out, tmp_path).get_fdata().any()


def test_a_viewer_gets_what_it_needs(tmp_path: Path, like: Path) -> None:
    data = values()
    out = exported(tmp_path, data, PLAIN, "--like", str(like), "--series-description", "SVR", "--series-number", "77")
    images, scanned = headers(out), pydicom.dcmread(next(like.iterdir()))
    assert len(images) == SHAPE[2]
    assert [image.InstanceNumber for image in images] == list(range(1, SHAPE[2] + 1))
    first = images[0]
    assert first.ImageType == ["DERIVED", "SECONDARY", "OTHER"]
    assert (first.SeriesDescription, first.SeriesNumber) == ("SVR", 77)
    assert first.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]  # left and back, as radiologists look at it
    positions = np.array([image.ImagePositionPatient for image in images], float)
    np.testing.assert_allclose(np.diff(positions, axis=0), np.tile([0, 0, 0.8], (SHAPE[2] - 1, 1)), atol=1e-6)
    assert [float(step) for step in first.PixelSpacing] == [0.8, 0.8] and float(first.SliceThickness) == 0.8
    low, high = np.percentile(data, [1, 99])
    assert float(first.WindowCenter) == pytest.approx((low + high) / 2, rel=1e-4)
    assert float(first.WindowWidth) == pytest.approx(high - low, rel=1e-4)
    uids = [image.SOPInstanceUID for image in images]
    assert len(set(uids)) == SHAPE[2] and all(uid.is_valid for uid in uids)
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert first.SeriesInstanceUID != scanned.SeriesInstanceUID
    assert first.FrameOfReferenceUID == scanned.FrameOfReferenceUID


def test_patient_and_study_are_those_of_the_series_and_nothing_else_is(tmp_path: Path, like: Path) -> None:
    out = exported(tmp_path, values(), PLAIN, "--like", str(like), "--no-scanner-space")
    first, scanned = headers(out)[0], pydicom.dcmread(next(like.iterdir()))
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        assert first[name].value == scanned[name].value
    assert first.FrameOfReferenceUID != scanned.FrameOfReferenceUID
    for name in ("InstitutionName", "StationName", "OperatorsName", "DeviceSerialNumber", "ProtocolName"):
        assert name not in first


def test_without_a_series_patient_and_study_are_nobodys(tmp_path: Path) -> None:
    out = exported(tmp_path, values(), PLAIN, "--anonymous")
    for path in out.glob("*.dcm"):
        content = path.read_bytes()
        assert MARK.encode() not in content and b"20240229" not in content
    first = headers(out)[0]
    assert (first.PatientName.family_name, first.PatientID, first.StudyDate) == ("Anonymous", "", "")
    assert first.PatientIdentityRemoved == "YES" and first.StudyInstanceUID.is_valid
    assert set(PATIENT) & {element.keyword for element in first if element.value} == {"PatientName"}


def test_the_same_volume_gets_the_same_bytes_and_another_one_other_uids(tmp_path: Path, like: Path) -> None:
    out = exported(tmp_path, values(), PLAIN, "--like", str(like))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {
        path.name: path.read_bytes() for path in exported(tmp_path, values(), PLAIN, "--like", str(like)).iterdir()
    } == before
    uid = headers(out)[0].SeriesInstanceUID
    assert headers(exported(tmp_path, values() + 1, PLAIN, "--like", str(like)))[0].SeriesInstanceUID != uid


def test_the_standard_is_kept(tmp_path: Path, like: Path) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy, of Debian's dicom3tools, is not installed")
    for flags in (("--like", str(like)), ("--anonymous",)):
        out = exported(tmp_path, values(), turned(14), *flags)
        told = subprocess.run([program, str(out / "0001.dcm")], capture_output=True, text=True, check=False)
        assert not [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]


def test_bad_input_is_refused(tmp_path: Path, like: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume, out = tmp_path / "volume.nii.gz", tmp_path / "series"
    nib.save(nib.Nifti1Image(values(), PLAIN), volume)
    given = ["export-dicom", str(volume), "--output", str(out)]
    refused(capsys, given, str(volume), "--like SERIES, or --anonymous")
    refused(capsys, [*given, "--anonymous", "--like", str(like)], "in one way")
    refused(capsys, [*given, "--like", str(tmp_path / "none")], "none: no such file or folder")
    refused(capsys, [*given, "--like", str(volume)], "volume.nii.gz: holds no DICOM images")
    refused(capsys, [*given, "--anonymous", "--series-description", "x" * 65], "at most 64 characters")
    refused(capsys, [*given, "--anonymous", "--series-number", "-1"], "--series-number -1")
    refused(capsys, ["export-dicom", str(like), "--output", str(out), "--anonymous"], "scan: is a folder")
    refused(capsys, ["export-dicom", str(volume), "--output", str(like), "--like", str(like)], "holds inputs")
    write_classic(like, replace(Series(numbers(), number=9)), StudyInstanceUID="1.2.3")
    refused(capsys, [*given, "--like", str(like)], "scan: holds images of 2 studies")
    write_classic(tmp_path / "ct", Series(numbers()), Modality="CT")
    refused(capsys, [*given, "--like", str(tmp_path / "ct")], "ct: is no MR study")
    assert not out.exists()


def test_images_of_somebody_else_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "series"
    out.mkdir()
    (out / "0001.dcm").write_text("somebody's")
    nib.save(nib.Nifti1Image(values(), PLAIN), tmp_path / "volume.nii.gz")
    given = ["export-dicom", str(tmp_path / "volume.nii.gz"), "--output", str(out), "--anonymous"]
    refused(capsys, given, "holds 0001.dcm, not written here by an earlier run")
    assert (out / "0001.dcm").read_text() == "somebody's"
