"""Files of any format: outputs are checked before the long work, and JSON is read and written."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from slicesplat.errors import InputError
from slicesplat.io.atomic import atomic_path
from slicesplat.io.json_text import read_json


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
        The name has another ending, is a folder, or its folder is missing or cannot be written.
    """
    path = Path(path)
    if suffixes and not path.name.endswith(tuple(suffixes)):
        raise InputError(f"{path}: unknown kind of output file; end its name in {' or '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{path}: {folder} is not a folder; write to another place")
    if not folder.exists():
        raise InputError(f"{path}: its folder does not exist; create {folder} first")
    _check_writable(folder, path)


def check_output_folder(folder: str | PathLike[str]) -> None:
    """Refuse a folder of outputs that could not be made or written.

    It may be missing; the one around it may not.

    Parameters
    ----------
    folder : path

    Raises
    ------
    InputError
        It is a file, or it, or the folder that it would be made in, is missing or cannot be written.
    """
    folder = Path(folder)
    if folder.is_dir():
        _check_writable(folder, folder)
    elif folder.exists():
        raise InputError(f"{folder}: is a file; name a folder")
    else:
        check_output(folder)


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


def _check_writable(folder: Path, output: Path) -> None:
    try:
        # Permission bits do not tell: administrators and read-only mounts break their rule.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or "cannot be written"
        raise InputError(f"{output}: its folder is read-only ({reason}); write to another place") from error
