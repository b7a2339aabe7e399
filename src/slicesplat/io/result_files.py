"""The files that a result's JSON belongs to: named in it, so that they can be found from it again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

Names = Mapping[str, str | list[str]]

FILES = "files"
"""Where they are in the JSON."""


def named_files(json: Path, **files: Path | Sequence[Path] | None) -> Names:
    """How a JSON file is to name files, by what they are; those that are None are left out.

    A file in the folder of the JSON, in one below it or in one beside it is named by the way there, any other one by
    its name alone: what folders somebody has is nobody's business.

    Examples
    --------
    >>> named_files(Path("run/out/result.json"), volume=Path("run/out/v.nii.gz"), stacks=[Path("run/in/s.nii.gz")])
    {'volume': 'v.nii.gz', 'stacks': ['../in/s.nii.gz']}
    >>> named_files(Path("run/out/result.json"), volume=Path("elsewhere/v.nii.gz"), model=None)
    {'volume': 'v.nii.gz'}
    """
    out: dict[str, str | list[str]] = {}
    for kind, given in files.items():
        if isinstance(given, Path):
            out[kind] = _way(given, json)
        elif given is not None:
            out[kind] = [_way(path, json) for path in given]
    return out


def _way(path: Path, json: Path) -> str:
    try:
        way = PurePath(os.path.relpath(path.absolute(), json.absolute().parent))
    except ValueError:  # another drive
        return path.name
    return way.as_posix() if way.parts.count(os.pardir) <= 1 else path.name


def find_files(json: Path, content: Mapping[str, Any], kind: str) -> tuple[list[Path], list[str]]:
    """The files of one kind that a JSON file names and that are there, and the names of those that are not."""
    files = content.get(FILES)
    given = files.get(kind) if isinstance(files, Mapping) else None
    names = [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str) and name]
    paths = [json.parent / name for name in names]
    return [path for path in paths if path.is_file()], [path.name for path in paths if not path.is_file()]
