"""JSON as programs and people write it: also with a byte-order mark, in other encodings, with a comma too many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slicesplat.errors import InputError
from slicesplat.io.inputs import check_input

MAX_BYTES = 1 << 24
"""16 MiB: a result of 10,000 slices takes half of it, and what is parsed from it stays below 1 GB."""
MAX_COMMAS = 5
"""Trailing commas that are dropped: each one means to parse the text once more."""


def read_json(path: Path, remedy: str) -> Any:
    """Read a JSON file.

    UTF-8, UTF-16 and UTF-32 are told apart by their first bytes. Bytes that do not belong there, as of Latin-1 texts,
    become replacement characters: numbers and keys do not depend on them. A comma after the last entry is dropped.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do about a file that holds no JSON, for the message.

    Raises
    ------
    InputError
        The file is missing, cannot be read or holds no JSON. Nothing of its texts is told.
    """
    if check_input(path) > MAX_BYTES:
        raise InputError(f"{path}: is not readable JSON (more than {MAX_BYTES >> 20} MiB); {remedy}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    try:
        return _parse(content.decode(json.detect_encoding(content), errors="replace"), MAX_COMMAS)
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}: {error.msg.lower()}"
    except RecursionError:
        problem = "too deeply nested"
    except ValueError:
        problem = "an integer of thousands of digits"
    raise InputError(f"{path}: is not readable JSON ({problem}); {remedy}")


def _parse(text: str, commas: int) -> Any:
    try:
        # Control characters inside a text break no number.
        return json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        comma = _trailing_comma(text, error.pos)
        if comma is None or not commas:
            raise
    return _parse(text[:comma] + text[comma + 1 :], commas - 1)


def _trailing_comma(text: str, position: int) -> int | None:
    """Where the comma after the last entry is that the parser stopped at; None when it stopped at something else."""
    # Up to Python 3.12 it stops at the bracket after the comma, then at the comma.
    comma = text.rfind(",", 0, position + 1)
    if comma < 0 or text[comma + 1 : position].strip():
        return None
    return comma if text[comma + 1 :].lstrip()[:1] in ("}", "]") else None
