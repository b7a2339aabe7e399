"""The files that a result's JSON belongs to: named in it, so that they can be found from it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Names = Mapping[str, str | list[str]]

FILES = "files"
"""Where they are in the JSON."""


def named_files(**files: Path | Sequence[Path] | None) -> Names:
    """How a JSON file names files, by what they are; those that are None are left out.

    By their names alone: what somebody's folders are called is nobody's business.

    Examples
    --------
    >>> named_files(volume=Path("run/v.nii.gz"), model=None, stacks=[Path("scan/s.nii.gz")])
    {'volume': 'v.nii.gz', 'stacks': ['s.nii.gz']}
    """
    out: dict[str, str | list[str]] = {}
    for kind, given in files.items():
        if isinstance(given, Path):
            out[kind] = given.name
        elif given is not None:
            out[kind] = [path.name for path in given]
    return out


def find_files(json: Path, content: Mapping[str, Any], kind: str) -> tuple[list[Path], list[str]]:
    """The files of one kind that a JSON file names and that lie beside it, and the names of those that do not."""
    files = content.get(FILES)
    given = files.get(kind) if isinstance(files, Mapping) else None
    names = [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str) and name]
    paths = [json.parent / Path(name).name for name in names]
    return [path for path in paths if path.is_file()], [path.name for path in paths if not path.is_file()]
