"""Series of DICOM files as scanners write them, from arrays: classic and enhanced MR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nifti_files import oblique_affine
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSIC, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
MARK = "XSECRETX"
"""Part of every name, date and identifier in the headers, so that any text can be searched for what came from them."""
PATIENT = {
    "PatientName": f"{MARK}^Jane",
    "PatientID": f"{MARK}-4711",
    "PatientBirthDate": "19870321",
    "PatientSex": "F",
    "InstitutionName": f"{MARK} hospital",
    "StationName": f"{MARK}MR1",
    "ReferringPhysicianName": f"{MARK}^Doctor",
    "OperatorsName": f"{MARK}^Operator",
    "AccessionNumber": f"{MARK}99",
    "StudyID": f"{MARK}7",
    "StudyDescription": f"{MARK} fetal",
    "DeviceSerialNumber": f"{MARK}123",
}


@dataclass(frozen=True, eq=False)
class Series:
    """A stack as a scanner has it.

    Attributes
    ----------
    data : (nx, ny, nz) uint16
    affine : (4, 4)
        Voxel to world, mm RAS+; nx along the rows of the DICOM images.
    thickness : float
    order : sequence of int
        The slices in the order of their acquisition, a second apart.
    """

    data: np.ndarray
    affine: np.ndarray = field(default_factory=oblique_affine)
    thickness: float = 2.5
    order: Sequence[int] | None = None
    number: int = 4
    description: str = "t2_haste_tra"
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "ND")
    timed: bool = True
    seed: int = 0

    def times(self) -> np.ndarray:
        """(nz,) s since the first slice was acquired."""
        count = self.data.shape[2]
        out = np.empty(count)
        out[list(range(count) if self.order is None else self.order)] = np.arange(count)
        return out

    def plane(self, k: int) -> np.ndarray:
        """Slice k as rows and columns of a DICOM image."""
        return np.ascontiguousarray(self.data[:, :, k].T)

    def uid(self, what: str) -> str:
        return str(generate_uid(entropy_srcs=[what, str(self.number), str(self.seed)]))


def numbers(shape: tuple[int, int, int] = (20, 18, 9), seed: int = 0) -> np.ndarray:
    """Whole numbers of 12 bits, no two voxels alike."""
    values = 100 + np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return values.reshape(shape).astype(np.uint16)


def geometry(series: Series, k: int) -> tuple[list[float], list[float], list[float], float]:
    """Position, orientation, pixel spacing and distance of slices, in DICOM's terms (LPS)."""
    flip = np.diag([-1.0, -1.0, 1.0])
    step = np.linalg.norm(series.affine[:3, :3], axis=0)
    axes = flip @ (series.affine[:3, :3] / step)
    position = flip @ (series.affine[:3, :3] @ [0, 0, k] + series.affine[:3, 3])
    orientation = [*axes[:, 0], *axes[:, 1]]
    return position.tolist(), [round(float(v), 12) for v in orientation], [step[1], step[0]], float(step[2])


def clock(seconds: float) -> str:
    return f"10{int(20 + seconds // 60):02d}{seconds % 60:09.6f}"


def write_classic(folder: Path, series: Series, slices: Sequence[int] | None = None, **changed: Any) -> list[Path]:
    """One file for every slice."""
    folder.mkdir(parents=True, exist_ok=True)
    times, paths = series.times(), []
    for k in range(series.data.shape[2]) if slices is None else slices:
        out = _common(series, CLASSIC, f"image {k}")
        position, orientation, spacing, distance = geometry(series, k)
        out.ImagePositionPatient, out.ImageOrientationPatient = [f"{v:.9g}"[:16] for v in position], orientation
        out.PixelSpacing, out.SliceThickness, out.SpacingBetweenSlices = spacing, series.thickness, distance
        out.InstanceNumber, out.AcquisitionNumber = k + 1, 1
        out.SliceLocation = float(np.cross(orientation[:3], orientation[3:]) @ position)
        out.AcquisitionTime = clock(times[k] if series.timed else 0.0)
        _pixels(out, series.plane(k)[None])
        for name, value in changed.items():
            setattr(out, name, value)
        paths.append(folder / f"IM{series.number:02d}{k:03d}")
        out.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced(folder: Path, series: Series) -> Path:
    """All slices in one file."""
    folder.mkdir(parents=True, exist_ok=True)
    out = _common(series, ENHANCED, "enhanced")
    times, count = series.times(), series.data.shape[2]
    frames = []
    for k in range(count):
        position, orientation, spacing, distance = geometry(series, k)
        content = Dataset()
        content.FrameAcquisitionDateTime = f"20240229{clock(times[k])}"
        content.FrameReferenceDateTime = content.FrameAcquisitionDateTime
        content.DimensionIndexValues, content.StackID, content.InStackPositionNumber = [1, k + 1], "1", k + 1
        frames.append(
            _with(
                FrameContentSequence=content,
                PlanePositionSequence=_with(ImagePositionPatient=position),
                PlaneOrientationSequence=_with(ImageOrientationPatient=orientation),
                PixelMeasuresSequence=_with(
                    PixelSpacing=spacing, SliceThickness=series.thickness, SpacingBetweenSlices=distance
                ),
            )
        )
    out.SharedFunctionalGroupsSequence = DicomSequence(
        [_with(MRImageFrameTypeSequence=_with(FrameType=list(series.image_type), ComplexImageComponent="MAGNITUDE"))]
    )
    out.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    out.NumberOfFrames, out.InstanceNumber = count, 1
    out.AcquisitionDateTime = f"20240229{clock(0.0)}"
    _pixels(out, np.stack([series.plane(k) for k in range(count)]))
    path = folder / f"EN{series.number:02d}"
    out.save_as(path, enforce_file_format=True)
    return path


def _with(**values: Any) -> Dataset:
    out = Dataset()
    for name, value in values.items():
        setattr(out, name, DicomSequence([value]) if isinstance(value, Dataset) else value)
    return out


def _common(series: Series, kind: str, image: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = kind, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = series.uid(image)
    out = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    out.SOPClassUID, out.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    for name, value in PATIENT.items():
        setattr(out, name, value)
    out.StudyInstanceUID = str(generate_uid(entropy_srcs=["study"]))
    out.SeriesInstanceUID, out.FrameOfReferenceUID = series.uid("series"), series.uid("frame")
    out.StudyDate = out.SeriesDate = out.AcquisitionDate = out.ContentDate = "20240229"
    out.StudyTime = out.SeriesTime = out.ContentTime = clock(0.0)
    out.Modality, out.Manufacturer, out.ManufacturerModelName = "MR", "SIEMENS", "Phantom"
    out.SeriesNumber, out.SeriesDescription, out.ProtocolName = series.number, series.description, series.description
    out.ImageType, out.ScanningSequence, out.SequenceVariant = list(series.image_type), "SE", "SK"
    out.ScanOptions, out.MRAcquisitionType, out.PatientPosition = "PFP", "2D", "HFS"
    out.EchoTime, out.RepetitionTime, out.FlipAngle, out.MagneticFieldStrength = 90.0, 1400.0, 150.0, 1.5
    out.EchoTrainLength = 154
    return out


def _pixels(out: Dataset, planes: np.ndarray) -> None:
    out.SamplesPerPixel, out.PhotometricInterpretation = 1, "MONOCHROME2"
    out.Rows, out.Columns = planes.shape[1:]
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 16, 12, 11, 0
    out.WindowCenter, out.WindowWidth = 500.0, 1000.0
    out.PixelData = planes.astype("<u2").tobytes()
