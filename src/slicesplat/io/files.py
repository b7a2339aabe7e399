"""Files of any format: outputs are checked before the long work, and JSON is read and written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from slicesplat.errors import InputError
from slicesplat.io.atomic import atomic_path, check_room, real_path
from slicesplat.io.json_text import read_json

_BLOCK = 1 << 20  # bytes that are read at a time
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def check_output(path: str | PathLike[str], suffixes: Sequence[str] = ()) -> None:
    """Refuse an output that could not be written at the end.

    Parameters
    ----------
    path : path
        The file to be written.
    suffixes : sequence of str, optional
        The endings that its name may have; any when empty.

    Raises
    ------
    InputError
        The name has another ending or is too long; something else than a file is there, or a file that is
        write-protected; its folder cannot be written or, where it is missing, cannot be made.
    """
    path = Path(path)
    if suffixes and not path.name.endswith(tuple(suffixes)):
        raise InputError(f"{path}: unknown kind of output file; end its name in {' or '.join(suffixes)}")
    status = _status(path)
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: is a folder; name a file in it")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: is no file but a device or the like; name a file")
        if not status.st_mode & _WRITABLE:
            raise InputError(f"{path}: is write-protected; allow writing, or name another file")
    _check_place(path)


def check_output_folder(folder: str | PathLike[str]) -> None:
    """Refuse a folder of outputs that could not be made or written; it and those around it may be missing.

    Parameters
    ----------
    folder : path

    Raises
    ------
    InputError
        It is a file, its name is too long, or it, or a folder that it would be made in, cannot be made or written.
    """
    folder = Path(folder)
    status = _status(folder)
    if status is None:
        _check_place(folder)
    elif stat.S_ISDIR(status.st_mode):
        _check_writable(real_path(folder), real_path(folder), folder)
    else:
        raise InputError(f"{folder}: is a file; name a folder")


def load_json(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    path : path

    Raises
    ------
    InputError
        The file is missing, cannot be read, or holds no JSON object.
    """
    path = Path(path)
    content = read_json(path, "write it again")
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object; check that it is the right file")
    return content


def save_json(data: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write a JSON object, whole or not at all.

    Parameters
    ----------
    data : mapping
        Numbers, texts, arrays and containers of them. JSON knows no NaN and no infinity: they become null.
    path : path
    """
    text = json.dumps(_plain(data), indent=2, allow_nan=False)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(text + "\n", encoding="utf-8")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """The same in what JSON has words for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, PathLike):
        return str(value)
    return value


def _status(output: Path) -> os.stat_result | None:
    """What is at an output's path, links followed; None where nothing is."""
    try:
        return output.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if output.is_symlink():
            raise InputError(f"{output}: is a link that leads nowhere; remove it, or write elsewhere") from error
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{output}: is a link that leads in a circle; remove it, or write elsewhere") from error
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{output}: its name is too long; choose a shorter one") from error
        raise InputError(f"{output}: cannot be written ({error.strerror}); write to another place") from error


def _check_place(output: Path) -> None:
    """Refuse an output whose folder cannot be written, or made."""
    folder = output.parent
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise InputError(f"{output}: {there} is not a folder; write to another place")
    if there == folder:
        # Where a link leads is where the output goes.
        target = real_path(output)
        _check_writable(target, target.parent, output)
        return
    try:
        with _made(folder):
            _check_writable(output, folder, output)
    except OSError as error:
        reason = error.strerror or "its folder is not to be made"
        raise InputError(f"{output}: its folder {folder} cannot be made ({reason}); write to another place") from error


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A missing folder, and those around it, for the time of the block: only making it shows that it can be made."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for each in missing:
            # One that is not empty has got another owner in the meantime.
            with contextlib.suppress(OSError):
                each.rmdir()


def _check_writable(target: Path, folder: Path, output: Path) -> None:
    try:
        check_room(target, folder)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{output}: its path is too long; choose a shorter one") from error
        reason = error.strerror or "cannot be written"
        raise InputError(f"{output}: its folder is read-only ({reason}); write to another place") from error
