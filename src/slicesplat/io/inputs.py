"""Input files of any format: what is no file that can be read is refused before it is opened."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from slicesplat.errors import InputError

DICOM_PREAMBLE = 128
"""Bytes before the four letters DICM (DICOM PS3.10, 7.1)."""
LOOKED_AT = 50
"""Entries of a folder that are looked at to tell what it holds."""


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
