"""A volume as a series of DICOM images: classic MR, one file for each axial slice.

Values are whole numbers of 16 bits with a rescale slope and intercept. Patient and study are those of the series that
is named, or of nobody. UIDs are made from the content, so that the same volume gets the same ones again.
"""

from __future__ import annotations

import hashlib
import os
import re
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.io.dicom_headers import load_pydicom
from slicesplat.io.folder import output_folder
from slicesplat.io.inputs import dicom_files, is_dicom
from slicesplat.version import __version__

Float = NDArray[np.float64]

EXPORTED_FILES = re.compile(r"\d+\.dcm", re.IGNORECASE)
"""The names of a folder of exported images."""
LONGEST_DESCRIPTION = 64
"""Characters of a text of value representation LO (DICOM PS3.5, 6.2)."""
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_OPTIONAL = ("StudyDescription", "PatientAge", "PatientWeight", "MagneticFieldStrength")
_ACQUISITION = ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength", "PatientPosition")
"""Attributes that have to be there and may be empty (DICOM PS3.3, A.4), but for those that are optional."""
_WINDOW = (1.0, 99.0)
"""Percentiles of what is not zero that are shown from black to white."""
_MOST = 65535
_TO_LPS = np.array([-1.0, -1.0, 1.0])


def read_like(path: str | PathLike[str]) -> Any:
    """The header of a series that patient and study are to be taken from.

    Parameters
    ----------
    path : path
        A DICOM file, or a folder of them.

    Returns
    -------
    pydicom.Dataset
        Of its first image.

    Raises
    ------
    InputError
        There are no DICOM images, or some of several studies, or no MR; pydicom is not installed.
    """
    pydicom, source = load_pydicom(), Path(path)
    files = dicom_files(source) if os.path.isdir(source) else [source] * is_dicom(source)
    if not os.path.exists(source):
        raise InputError(f"{source}: no such file or folder; name a series of the examination")
    if not files:
        raise InputError(f"{source}: holds no DICOM images; name a series of the examination")
    try:
        headers = [pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["StudyInstanceUID"]) for file in files]
        first = pydicom.dcmread(files[0], stop_before_pixels=True)
    except (pydicom.errors.InvalidDicomError, OSError, ValueError) as error:
        raise InputError(f"{source}: cannot be read as DICOM; export it again") from error
    studies = {str(header.get("StudyInstanceUID")) for header in headers}
    if len(studies) > 1:
        raise InputError(f"{source}: holds images of {len(studies)} studies; name a series of one")
    if first.get("Modality") != "MR" or "None" in studies:
        raise InputError(f"{source}: is no MR study; name a series of the examination that was reconstructed")
    return first


def export_dicom(
    volume: nib.Nifti1Image,
    folder: str | PathLike[str],
    like: Any = None,
    description: str = "",
    number: int = 900,
    same_space: bool = True,
) -> None:
    """Write a volume as a series of axial MR images.

    Parameters
    ----------
    volume : nibabel image
        Its affine, mm RAS+, a rotation with spacings.
    folder : path
        Made if missing, written whole or not at all: ``0001.dcm, ...``.
    like : pydicom.Dataset, optional
        What `read_like` gave; without, patient and study are nobody's.
    description : str
        Of the series. Empty: what it is, and the voxel size.
    number : int
        Of the series.
    same_space : bool
        Whether the volume lies in the scanner space of `like`, so that viewers may overlay them.

    Raises
    ------
    InputError
        pydicom is not installed.
    OSError
        The files cannot be written, or the folder holds files of these names that no earlier run wrote.
    """
    pydicom = load_pydicom()
    data, affine = _axial(volume)
    stored, slope, intercept = _whole_numbers(data)
    spacing = np.linalg.norm(affine[:3, :3], axis=0).round(6)  # headers of NIfTI are rounded
    common = pydicom.Dataset()
    _set_patient_and_study(common, like)
    _set_series(common, description or f"slicesplat {spacing[2]:.3g} mm", number)
    uid = _uids(pydicom, data, affine, common)
    if like is None:
        common.StudyInstanceUID = uid("study")
    common.SeriesInstanceUID = uid("series")
    frame = like.get("FrameOfReferenceUID") if like is not None and same_space else None
    common.FrameOfReferenceUID, common.PositionReferenceIndicator = frame or uid("frame"), ""
    _set_image(common, spacing, slope, intercept, _window(data))
    with output_folder(folder, EXPORTED_FILES) as files:
        for k in range(data.shape[2]):
            image = _image(pydicom, common, stored[:, :, k], affine, k, uid(f"image {k}"))
            image.save_as(files / f"{k + 1:04d}.dcm", enforce_file_format=True)


def _axial(volume: nib.Nifti1Image) -> tuple[NDArray[np.float32], Float]:
    """The volume with its axes to the left, to the back and up, as nearly as they go, and its affine, RAS+."""
    upright = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(volume.dataobj, np.float32), volume.affine))
    data, affine = np.asarray(upright.dataobj, np.float32), upright.affine.astype(np.float64)
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = np.array(data.shape[:2]) - 1
    return data[::-1, ::-1], affine @ flip


def _whole_numbers(data: NDArray[np.float32]) -> tuple[NDArray[np.uint16], float, float]:
    """Values in 16 bits, and the slope and intercept that lead back; they are the values themselves where they can."""
    low, high = float(data.min()), float(data.max())
    if low >= 0 and high <= _MOST and (data == np.rint(data)).all():
        return data.astype(np.uint16), 1.0, 0.0
    # As it is written: a decimal of 16 characters.
    slope = float(f"{max(high - low, 1e-30) / _MOST:.9e}")
    intercept = float(f"{low:.8e}")
    stored = np.rint((data.astype(np.float64) - intercept) / slope)
    return np.clip(stored, 0, _MOST).astype(np.uint16), slope, intercept


def _window(data: NDArray[np.float32]) -> tuple[float, float]:
    """Centre and width of what is shown from black to white."""
    shown = data[data != 0]
    low, high = np.percentile(shown, _WINDOW) if len(shown) else (0.0, 1.0)
    return float(low + high) / 2, max(float(high - low), 1.0)


def _uids(pydicom: Any, data: NDArray[np.float32], affine: Float, common: Any) -> Any:
    """What makes the UID of each part of the series: of its content, place, study and description."""
    content = hashlib.sha256(np.ascontiguousarray(data).tobytes())
    content.update(np.ascontiguousarray(affine).tobytes())
    content.update(f"{common.get('StudyInstanceUID')} {common.SeriesNumber} {common.SeriesDescription}".encode())
    return lambda part: pydicom.uid.generate_uid(entropy_srcs=[content.hexdigest(), part])


def _set_patient_and_study(out: Any, like: Any) -> None:
    if like is None:
        for name in (*_PATIENT, *_STUDY[1:], *_ACQUISITION):
            setattr(out, name, None)
        out.PatientName, out.PatientIdentityRemoved, out.DeidentificationMethod = "Anonymous^", "YES", "never known"
        out.ScanningSequence, out.SequenceVariant = "RM", "NONE"
        return
    if "SpecificCharacterSet" in like:
        out.SpecificCharacterSet = like.SpecificCharacterSet
    for name in (*_PATIENT, *_STUDY, *_ACQUISITION):
        setattr(out, name, like.get(name))
    for name in _OPTIONAL:
        if name in like:
            setattr(out, name, like.get(name))
    out.ScanningSequence = like.get("ScanningSequence") or "RM"
    out.SequenceVariant = like.get("SequenceVariant") or "NONE"


def _set_series(out: Any, description: str, number: int) -> None:
    out.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"  # MR Image Storage
    out.Modality, out.SeriesNumber, out.SeriesDescription = "MR", number, description
    out.Manufacturer, out.ManufacturerModelName = "slicesplat", "slicesplat"
    out.SoftwareVersions = __version__
    out.Laterality = ""  # of what is there twice; has to be there where the body part is not told
    out.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    out.DerivationDescription = "Slice-to-volume reconstruction of stacks of slices, corrected for motion"


def _set_image(out: Any, spacing: Float, slope: float, intercept: float, window: tuple[float, float]) -> None:
    out.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    out.SliceThickness = out.SpacingBetweenSlices = _decimal(spacing[2])
    out.SamplesPerPixel, out.PhotometricInterpretation = 1, "MONOCHROME2"
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 16, 16, 15, 0
    out.RescaleSlope, out.RescaleIntercept, out.RescaleType = _decimal(slope), _decimal(intercept), "US"
    out.WindowCenter, out.WindowWidth = _decimal(window[0]), _decimal(window[1])


def _image(pydicom: Any, common: Any, plane: NDArray[np.uint16], affine: Float, k: int, uid: str) -> Any:
    """Slice k as a file."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = common.SOPClassUID, uid
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    out = pydicom.dataset.FileDataset("", common, file_meta=meta, preamble=b"\0" * 128)
    axes = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    position = affine[:3, 2] * k + affine[:3, 3]
    out.SOPInstanceUID, out.InstanceNumber, out.AcquisitionNumber = uid, k + 1, None
    out.ImageOrientationPatient = [_decimal(value) for axis in axes.T for value in _TO_LPS * axis]
    out.ImagePositionPatient = [_decimal(value) for value in _TO_LPS * position]
    out.Rows, out.Columns = plane.shape[::-1]
    out.PixelData = np.ascontiguousarray(plane.T).astype("<u2").tobytes()
    return out


def _decimal(value: float) -> str:
    """A number as DICOM writes it, in 16 characters at most.

    Examples
    --------
    >>> _decimal(0.1 + 0.2), _decimal(-1 / 3e7), _decimal(-0.0)
    ('0.3', '-3.333333333e-08', '0')
    """
    for digits in range(12, 5, -1):
        text = f"{value + 0.0:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value}: has no decimal of 16 characters")


def check_description(text: str) -> None:
    """Refuse a description that a header cannot hold.

    Raises
    ------
    InputError
    """
    if len(text) > LONGEST_DESCRIPTION or "\\" in text or not text.isprintable():
        raise InputError(
            f"series description {text!r}: is no text of at most {LONGEST_DESCRIPTION} characters without backslash; "
            "give another"
        )
