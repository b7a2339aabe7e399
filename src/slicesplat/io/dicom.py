"""Series of DICOM files as stacks: converted by dcm2niix, completed by what the headers say of each slice.

dcm2niix and pydicom are of the extra ``slicesplat[dicom]``. What dcm2niix leaves out is read from the headers: when
each slice was acquired, and, where some are missing, where the others are; dcm2niix would move them together.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.io.atomic import discard, remove_leftovers, temporary_path
from slicesplat.io.dicom_headers import Frame, read_frames
from slicesplat.io.files import load_json, save_json
from slicesplat.io.inputs import dicom_files, is_dicom

Float = NDArray[np.float64]
_Places: TypeAlias = "tuple[NDArray[np.int64], Float, Float | None]"

LEAST_SLICES = 3
"""A series of fewer is no stack."""
_LOCALISER = re.compile(
    r"locali[sz]er|scout|survey|(3|three|tri).?plane|plan.?scan|smart.?brain|(^|[^a-z])loc($|[^a-z])", re.IGNORECASE
)
"""Descriptions of series that are acquired to plan others."""
_OTHER_IMAGE = re.compile(r"_(ph|real|imaginary)([^a-z]|$)")
"""What dcm2niix appends to the name of an image that is no magnitude."""
_RESAMPLED = re.compile(r"_Eq(_|$)")
"""What it appends to a copy that it has interpolated to equal distances."""
_SAME_PLACE = 0.05
"""Part of the distance between slices by which two positions may differ: headers are rounded."""
_PARALLEL = 0.9998  # cosine of one degree
_KEPT = ("SliceThickness", "SliceTiming")
"""What is kept of dcm2niix's JSON: the rest names the hospital, the scanner and the examination."""


@dataclass(frozen=True)
class Converted:
    """Paths in which NIfTI files stand for series of DICOM files.

    Attributes
    ----------
    files : list of Path
    notes : list of str
        What to tell: which series were left out, and what is missing in one.
    """

    files: list[Path]
    notes: list[str]


@contextlib.contextmanager
def converted(paths: Sequence[Path]) -> Iterator[Converted]:
    """Convert the DICOM folders and files among paths; the NIfTI files are there for the block.

    A folder stands for all series in it and in the folders below, in the order of their numbers; files that follow each
    other are taken together. Errors raised in the block name what was given, not the converted files.

    Parameters
    ----------
    paths : sequence of Path

    Raises
    ------
    InputError
        dcm2niix or pydicom is not installed, cannot read the files, or finds no stack of slices in them.
    """
    batches = _batches(paths)
    if all(not files for _, files in batches):
        yield Converted(list(paths), [])
        return
    with _temporary_folder() as temporary:
        out, notes, names = [], [], {}
        for number, (given, files) in enumerate(batches, start=1):
            if not files:
                out.append(given)
                continue
            folder = temporary / str(number)
            series, told = _series(given, files, folder)
            out += [path for path, _ in series]
            notes += told
            names.update({str(path): f"{given}, {name}" for path, name in series})
        try:
            yield Converted(out, notes)
        except InputError as error:
            message = str(error)
            for path, name in names.items():
                message = message.replace(path, name).replace(path.removesuffix(".nii") + ".json", name)
            raise InputError(message) from error


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for the block that only this user can read; what killed runs left of theirs is removed."""
    target = Path(tempfile.gettempdir()) / "dicom"
    remove_leftovers(target, target.parent)
    temporary = temporary_path(target, target.parent)
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
    finally:
        discard(temporary)


def _batches(paths: Sequence[Path]) -> list[tuple[Path, list[Path]]]:
    """What was given, each with its DICOM files; none for another file. Single files in a row become one."""
    out: list[tuple[Path, list[Path]]] = []
    single = False
    for path in paths:
        files = dicom_files(path) if os.path.isdir(path) else [path] * is_dicom(path)
        if files and single and not os.path.isdir(path):
            out[-1][1].append(path)
            continue
        single = bool(files) and not os.path.isdir(path)
        out.append((path, files))
    return out


def _series(given: Path, files: Sequence[Path], folder: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """The NIfTI files of the stacks among DICOM files, each with what to call it, and what to tell."""
    _convert(given, files, folder / "in", folder)
    frames = read_frames(files)
    stacks, notes = [], []
    found = [path for path in folder.glob("*.nii") if not _RESAMPLED.search(path.stem)]
    for path in sorted(found, key=_in_order):
        name = path.stem.replace("-", " ", 1)
        about = load_json(path.with_suffix(".json"))
        reason, missing = _left_out(path, about), 0
        if not reason:
            reason, missing = _completed(path, about, frames)
        if reason:
            notes.append(f"{name}: {reason}, left out")
            continue
        stacks.append((path, name))
        if missing:
            notes.append(f"{name}: {missing} of its slices are missing; their places are kept free")
    if not stacks:
        told = "; ".join(notes) or "dcm2niix finds no images"
        raise InputError(f"{given}: holds no stack of slices ({told}); name the folder of one, or convert it to NIfTI")
    return stacks, notes


def _in_order(path: Path) -> tuple[int, str]:
    number = re.search(r"\d+", path.stem)
    return (int(number[0]) if number else 0, path.stem)


def _convert(given: Path, files: Sequence[Path], inputs: Path, folder: Path) -> None:
    """Run dcm2niix."""
    inputs.mkdir(parents=True)
    source = given if os.path.isdir(given) else _gathered(files, inputs)
    command = [
        _program(),
        *("-b", "y", "-ba", "y", "-z", "n", "-x", "i", "-g", "i", "-p", "y", "-i", "n", "-v", "0"),
        *("-d", "9", "-f", "series-%s", "-o", str(folder), str(source)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise InputError(
            f"{given}: dcm2niix cannot be run ({error.strerror}); convert to NIfTI by other means"
        ) from error
    # 1: nothing could be converted; other numbers tell that some series could not, which is seen from what is there.
    if done.returncode and not any(folder.glob("*.nii")):
        raise InputError(f"{given}: dcm2niix cannot read its DICOM files; export them again, or convert them to NIfTI")


def _gathered(files: Sequence[Path], folder: Path) -> Path:
    """A folder with these files and no others."""
    for number, path in enumerate(files):
        try:
            os.link(path.resolve(), folder / f"{number:06d}")
        except OSError:  # another file system, or no right to
            shutil.copyfile(path, folder / f"{number:06d}")
    return folder


def _program() -> str:
    try:
        import dcm2niix
    except ImportError as error:
        found = shutil.which("dcm2niix")
        if found is None:
            raise InputError(
                "dcm2niix, which reads DICOM, is not installed; pip install 'slicesplat[dicom]', or name NIfTI files"
            ) from error
        return found
    return str(dcm2niix.bin)


def _left_out(path: Path, about: dict[str, object]) -> str:
    """Why a converted series is no stack to reconstruct from; empty for one that is."""
    kind = about.get("ImageType")
    kinds = [str(each).upper() for each in kind] if isinstance(kind, list) else []
    described = f"{about.get('SeriesDescription', '')} {about.get('ProtocolName', '')}"
    shape = nib.Nifti1Image.from_filename(path).shape
    if about.get("Modality", "MR") != "MR":
        return "is no MR"
    if "LOCALIZER" in kinds or _LOCALISER.search(described):
        return "is a localiser"
    if "DERIVED" in kinds:
        return "is derived, not acquired"
    if _OTHER_IMAGE.search(path.stem) or {"PHASE", "P"} & set(kinds):
        return "is no magnitude image"
    if about.get("MRAcquisitionType") == "3D":
        return "is a 3-D acquisition, no slices"
    if len(shape) < 3 or shape[2] < LEAST_SLICES:
        return f"has fewer than {LEAST_SLICES} parallel slices"
    return ""


def _completed(path: Path, about: dict[str, object], frames: Sequence[Frame]) -> tuple[str, int]:
    """Put the slices of a series where their headers say, and write when they were acquired.

    Returns why that cannot be, or nothing, and how many slices are missing.
    """
    missing = 0
    image = nib.Nifti1Image.from_filename(path)
    kept = {name: about[name] for name in _KEPT if name in about}
    own = [frame for frame in frames if frame.series == about.get("SeriesNumber")]
    placed = _placed(image.affine, image.shape[2], own)
    if isinstance(placed, str):
        return placed, 0
    if placed is None and any(path.parent.glob(f"{path.stem}_Eq*")):
        # dcm2niix has seen that the distances differ, and has moved the slices together.
        return "has slices whose places are not certain", 0
    if placed is not None and image.ndim == 3:
        index, affine, times = placed
        missing = int(index[-1]) + 1 - len(index)
        if missing:
            data = np.zeros((*image.shape[:2], index[-1] + 1), image.get_data_dtype())
            data[:, :, index] = np.asanyarray(image.dataobj)
            kept.pop("SliceTiming", None)
            nib.save(nib.Nifti1Image(data, affine), path)
        if times is not None:
            # NaN, null in the file, for those that are missing.
            acquired = np.full(index[-1] + 1, np.nan)
            acquired[index] = times
            kept["SliceTiming"] = acquired.tolist()
    save_json(kept, path.with_suffix(".json"))
    return "", missing


def _placed(affine: Float, count: int, frames: Sequence[Frame]) -> _Places | str | None:
    """As `_places`, of the one series among those of a number that has as many slices; None where there are several."""
    groups = {frame.uid: [other for other in frames if other.uid == frame.uid] for frame in frames}
    found = [_places(affine, count, group) for group in groups.values()]
    told = [places for places in found if places is not None]
    return told[0] if len(told) == 1 else None


def _places(affine: Float, count: int, frames: Sequence[Frame]) -> _Places | str | None:
    """Which slice of a stack without gaps each of `count` images is, the affine of that, and their times (count), s.

    None where the headers do not tell; a reason where they tell that the series is no stack.
    """
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal *= np.sign(normal @ affine[:3, 2]) / np.linalg.norm(normal)
    own = [frame for frame in frames if abs(frame.normal @ normal) > _PARALLEL]
    depth = np.array([normal @ frame.position for frame in own])
    if len(own) < count:
        return None
    order = np.argsort(depth, kind="stable")
    steps = np.diff(depth[order])
    distinct = steps[steps > _SAME_PLACE * steps.max(initial=0.0)]
    # Slices may be missing, but hardly every other one.
    step = float(np.median(distinct)) if len(distinct) else 0.0
    first = np.concatenate([[True], steps > _SAME_PLACE * step])
    if not step or first.sum() != count:
        return None  # several echoes or repetitions, or parallel stacks beside each other
    at = own[order[0]].position
    along = (depth[order][first] - depth[order[0]]) / step
    index = np.rint(along).astype(np.int64)
    if np.abs(along - index).max() > _SAME_PLACE * max(1, index[-1] / 2):
        return "its slices are not equally far apart"
    filled = affine.copy()
    filled[:3, 2] = (own[order[-1]].position - at) / index[-1]
    group = np.cumsum(first) - 1
    return index, filled, _times([own[n] for n in order], group)


def _times(frames: Sequence[Frame], group: NDArray[np.int64]) -> Float | None:
    """(count,) s since the first slice, of the earliest image of each; None where that is not told, or all are one."""
    known = [frame.time for frame in frames]
    if any(time is None for time in known):
        return None
    out = np.full(group[-1] + 1, np.inf)
    np.minimum.at(out, group, np.array(known, dtype=np.float64))
    return out - out.min() if len(np.unique(out)) > 1 else None
