"""The subjects of a study as a table: CSV, TSV or JSON lines, one subject a row.

Columns: ``id``, ``stacks``, ``masks``, ``thicknesses``; any other is a flag of ``slicesplat reconstruct`` without its
dashes. In CSV and TSV several values of a cell stand apart by semicolons. Paths are relative to the table.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicesplat.errors import InputError
from slicesplat.io.inputs import check_input, image_files
from slicesplat.io.sidecar import sidecar_of

_DELIMITER = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")
KINDS = (*_DELIMITER, *_LINES)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}", re.ASCII)
_FLAG = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", re.ASCII)
_PATHS = ("stacks", "masks")
_OWN = ("threads", "quiet", "verbose", "debug", "input-stacks", "stack-masks")
"""Flags that are given by other means."""
_OUTPUTS = re.compile(r"(output|simulated)-(?!(resolution|intensity-mean)$).*")
"""Flags that name files: these are the same for all subjects."""


@dataclass(frozen=True)
class Row:
    """A subject.

    Attributes
    ----------
    name : str
    stacks, masks : tuple of str
        Files, folders or patterns.
    options : dict
        Flags of ``reconstruct``, with dashes, and their values; none for a flag that takes none.
    folder : Path
        That paths are relative to.
    """

    name: str
    stacks: tuple[str, ...]
    masks: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    folder: Path

    def files(self) -> tuple[list[Path], list[Path], list[Path]]:
        """Stacks, masks, and the JSON files beside the stacks.

        Raises
        ------
        InputError
            A folder or pattern has no files.
        """
        stacks, masks = (image_files([self.folder / each for each in given]) for given in (self.stacks, self.masks))
        return stacks, masks, [path for path in map(sidecar_of, stacks) if path.is_file()]


def read_table(path: Path) -> list[Row]:
    """The rows of a table.

    Parameters
    ----------
    path : Path
        .csv, .tsv, or .jsonl.

    Raises
    ------
    InputError
        It is no such file, a column is missing or unknown as a flag can be, or an id is missing, used twice or no name.
    """
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: is no table; give a file in {', '.join(KINDS)}, or a folder with a BIDS data set")
    check_input(path)
    rows: list[Row] = []
    names: set[str] = set()
    for number, entries in _entries(path):
        row = _row(entries, f"{path}, line {number}", path.parent)
        if row.name.casefold() in names:
            raise InputError(f"{path}, line {number}: the id {row.name} is there twice; give each subject its own")
        names.add(row.name.casefold())
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: has no rows; give one a subject, with id and stacks")
    return rows


def _entries(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); save it in UTF-8") from error
    if path.suffix.lower() in _LINES:
        yield from _lines(path, text)
        return
    try:
        reader = csv.DictReader(text.splitlines(), delimiter=_DELIMITER[path.suffix.lower()], strict=True)
        for entries in reader:
            if None in entries:
                raise InputError(f"{path}, line {reader.line_num}: has more cells than columns; check the delimiter")
            yield reader.line_num, {key: value for key, value in entries.items() if (value or "").strip()}
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); check its quotes") from error


def _lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entries = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: is no JSON ({error}); write one object a line") from error
        if not isinstance(entries, dict):
            raise InputError(f"{path}, line {number}: is no JSON object; write one a line, with id and stacks")
        yield number, {key: value for key, value in entries.items() if value is not None}


def _row(entries: Mapping[str, Any], where: str, folder: Path) -> Row:
    if not entries:
        raise InputError(f"{where}: is empty; remove it, or give id and stacks")
    known = {key.strip().lower().lstrip("-"): value for key, value in entries.items()}
    for needed in ("id", "stacks"):
        if needed not in known:
            raise InputError(f"{where}: has no {needed}; give every subject one")
    name = str(known.pop("id")).strip()
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: {name!r} is no id; use letters, digits, and . _ + - after the first of them")
    stacks, masks = (_values(known.pop(key, ()), where) for key in _PATHS)
    options = {}
    for key, value in known.items():
        flag = key.replace("_", "-")
        if not _FLAG.fullmatch(key) or flag in _OWN or _OUTPUTS.match(flag):
            raise InputError(f"{where}: {key!r} is no column that a table may have; see slicesplat reconstruct --help")
        if value is False or str(value).strip().lower() in ("false", "no"):
            continue
        is_set = value is True or str(value).strip().lower() in ("true", "yes")
        options[f"--{flag}"] = () if is_set else _values(value, where)
    return Row(name, stacks, masks, options, folder)


def _values(value: Any, where: str) -> tuple[str, ...]:
    given: Sequence[Any] = value if isinstance(value, (list, tuple)) else str(value).split(";")
    if any(isinstance(each, (dict, list)) for each in given):
        raise InputError(f"{where}: holds a value that is neither text nor number; give these, or a list of them")
    return tuple(text for each in given if (text := str(each).strip()))
