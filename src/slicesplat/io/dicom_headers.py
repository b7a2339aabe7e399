"""What headers of DICOM images say of each slice: where it is and when it was acquired."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

Float = NDArray[np.float64]

_READ = (
    "SeriesInstanceUID",
    "SeriesNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TO_RAS = np.array([-1.0, -1.0, 1.0])  # DICOM's axes point left, back and up


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice of a series.

    Attributes
    ----------
    uid : str
        Of its series.
    series : int
        The series' number.
    position : (3,) mm
        Of the centre of its first pixel, RAS+.
    normal : (3,)
        Across the slice, RAS+.
    time : float or None
        When it was acquired, s since 1970.
    """

    uid: str
    series: int
    position: Float
    normal: Float
    time: float | None


def load_pydicom() -> ModuleType:
    """The library that reads and writes headers.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise InputError(
            "pydicom, which reads headers of DICOM, is not installed; pip install 'slicesplat[dicom]'"
        ) from error
    return pydicom


def read_frames(files: Sequence[Path]) -> list[Frame]:
    """The slices of DICOM files, classic or enhanced; what has no place in space is passed over.

    Raises
    ------
    InputError
        pydicom is not installed.
    """
    pydicom = load_pydicom()
    frames = []
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_READ))
            frames += _frames(header)
        except (pydicom.errors.InvalidDicomError, OSError, ValueError, TypeError, AttributeError, KeyError):
            # What dcm2niix makes of it is judged by itself.
            continue
    return frames


def _frames(header: Any) -> list[Frame]:
    series = str(header.get("SeriesInstanceUID")), int(header.get("SeriesNumber") or 0)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        return [_frame(series, header.ImagePositionPatient, header.ImageOrientationPatient, _acquired(header))]
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    out = []
    for group in groups:
        position = _group(group, shared, "PlanePositionSequence").ImagePositionPatient
        orientation = _group(group, shared, "PlaneOrientationSequence").ImageOrientationPatient
        content = _group(group, shared, "FrameContentSequence")
        when = content.get("FrameAcquisitionDateTime") or content.get("FrameReferenceDateTime")
        out.append(_frame(series, position, orientation, _seconds(str(when)) if when else None))
    return out


def _group(own: Any, shared: Any, name: str) -> Any:
    """A functional group of a frame, or else of all frames."""
    return (own.get(name) or shared[name])[0]


def _frame(
    series: tuple[str, int], position: Sequence[float], orientation: Sequence[float], time: float | None
) -> Frame:
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, column)
    return Frame(*series, _TO_RAS * np.array(position, float), _TO_RAS * normal / np.linalg.norm(normal), time)


def _acquired(header: Any) -> float | None:
    together = header.get("AcquisitionDateTime")
    if together:
        return _seconds(str(together))
    date, time = header.get("AcquisitionDate"), header.get("AcquisitionTime")
    return _seconds(f"{date or '19700101'}{time}") if time else None


def _seconds(text: str) -> float | None:
    """Seconds since 1970 of a date and time as DICOM writes it, without regard to time zones.

    Examples
    --------
    >>> _seconds("19700101000102.500000"), _seconds("1970010100"), _seconds("today")
    (62.5, 0.0, None)
    """
    whole, _, fraction = text.strip().partition(".")
    digits = fraction[: next((n for n, char in enumerate(fraction) if not char.isdecimal()), len(fraction))]
    try:
        when = datetime.datetime.strptime(whole[:14].ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return (when - datetime.datetime(1970, 1, 1)).total_seconds() + float(f"0.{digits or 0}")
