"""Input files of any format: what is no file that can be read is refused before it is opened."""

from __future__ import annotations

import errno
import glob
import itertools
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from slicesplat.errors import InputError

DICOM_PREAMBLE = 128
"""Bytes before the four letters DICM (DICOM PS3.10, 7.1)."""
LOOKED_AT = 50
"""Entries of a folder that are looked at to tell what it holds."""

_NIFTI = re.compile(r".*\.nii(\.gz|\.bz2)?", re.IGNORECASE | re.DOTALL)
_SLICE = re.compile(r"0\.nii(\.gz)?", re.IGNORECASE)
_MASK = re.compile(r"(^|[^a-z])mask([^a-z]|$)", re.IGNORECASE)
"""A word of the names of masks that lie beside their stacks."""


def image_files(given: Sequence[Path], masks: bool = False) -> list[Path]:
    """The files that are meant by paths, folders and patterns; a folder of DICOM files is left as it is.

    Parameters
    ----------
    given : sequence of Path
        A folder stands for the NIfTI files in it, a pattern (``*``, ``?``, ``[...]``) for what matches it, in the order
        of their names, numbers by their value.
    masks : bool
        Masks are meant: of a folder that holds files with the word mask in their names, these. Otherwise all others.

    Raises
    ------
    InputError
        A folder holds no such file, or slices of a stack, one in each file; nothing matches a pattern.

    Examples
    --------
    >>> image_files([Path("a.nii.gz"), Path("b.nii.gz")]) == [Path("a.nii.gz"), Path("b.nii.gz")]
    True
    """
    return [file for path in given for file in _meant(path, masks)]


def _meant(path: Path, masks: bool) -> list[Path]:
    if os.path.isdir(path):
        files = _in_order(path / name for name in _listed(path) if _NIFTI.fullmatch(name))
        named = [file for file in files if _MASK.search(file.name)]
        found = (named or files) if masks else [file for file in files if file not in named]
        if not found and not masks and dicom_files(path, first=True):
            return [path]
        if not files and not dicom_files(path, first=True):
            raise InputError(f"{path}: is a folder without images; name NIfTI files, or a folder of them or of DICOM")
        if not found or any(_SLICE.fullmatch(file.name) for file in files):
            # What is refused as a file says what to give instead.
            check_input(path)
        return found
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return [path]
    matches = _in_order(map(Path, glob.glob(str(path))))
    if not matches:
        raise InputError(f"{path}: no file matches; check the pattern")
    return matches


def _listed(folder: Path) -> list[str]:
    """The names of files in a folder; none where it cannot be looked into."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return []


def _in_order(paths: Iterable[Path]) -> list[Path]:
    """Paths by their names, numbers in them by their value."""

    def key(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", str(path))
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    return sorted(paths, key=key)


def check_input(path: Path) -> int:
    """Refuse an input that is no regular file.

    Opening a pipe or a device may wait for ever or never end.

    Parameters
    ----------
    path : Path

    Returns
    -------
    int
        The file's size in bytes.

    Raises
    ------
    InputError
        It is missing, a folder, a pipe or a device, or its name leads nowhere.
    """
    try:
        found = path.stat()
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise InputError(f"{path}: no such file; check the path") from error
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except ValueError as error:
        raise InputError("a name of an input holds a null character; check the path") from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path}: is a folder; {_what_to_give(path)}")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: is a pipe or a device; save its content to a file and name that")
    return found.st_size


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM; False where it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as content:
            content.seek(DICOM_PREAMBLE)
            return content.read(4) == b"DICM"
    except OSError:
        return False


def dicom_files(folder: Path, first: bool = False) -> list[Path]:
    """The DICOM files in a folder and those below it, in the order of their names; or only the first one found."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if is_dicom(Path(place) / name):
                found.append(Path(place) / name)
                if first:
                    return found
    return found


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """What to call files: their names, with as many folders before them as tell them apart.

    Examples
    --------
    >>> [Path(name).as_posix() for name in distinct_names([Path("a/run/t2.nii"), Path("b/run/t2.nii"), Path("t1.nii")])]
    ['a/run/t2.nii', 'b/run/t2.nii', 't1.nii']
    """
    return [_distinct_name(path, [other for other in paths if other != path]) for path in paths]


def _distinct_name(path: Path, others: Sequence[Path]) -> str:
    for length in range(1, len(path.parts)):
        if all(other.parts[-length:] != path.parts[-length:] for other in others):
            return str(Path(*path.parts[-length:]))
    return str(path)


def _what_to_give(folder: Path) -> str:
    """What to do about a folder in the place of a file, by what it holds."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in itertools.islice(entries, LOOKED_AT))
    except OSError:
        return "name a NIfTI file"
    if any(name in ("0.nii.gz", "0.nii") for name in names):
        return "single slices cannot be read as a stack, give the folder by --input-slices"
    if "DICOMDIR" in names or any(is_dicom(folder / name) for name in names):
        return "convert its DICOM files first, as by dcm2niix -z y FOLDER, and name the NIfTI files"
    return "name a NIfTI file"
