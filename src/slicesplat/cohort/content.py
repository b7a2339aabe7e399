"""What a result depends on, as one hash: if it is the same, the result is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from slicesplat.config import Config
from slicesplat.io.bids import Examination

WITHOUT_EFFECT = ("threads", "max_memory")
"""Settings that change how a volume is computed and not one of its bytes."""
_BLOCK = 1 << 20


def inputs_of(examination: Examination) -> list[Path]:
    """The files that an examination's result depends on.

    Raises
    ------
    InputError
        It cannot be told which mask is to be used.
    """
    runs = examination.runs
    masks = [run.mask for run in runs if run.mask is not None]
    return [*(run.path for run in runs), *masks, *(path for run in runs for path in run.metadata)]


def content_hash(files: Sequence[Path], config: Config, others: Sequence[object] = ()) -> str:
    """Hash of the contents of files with their names, of settings and others beside them, and of the version.

    Where the files lie does not count: a data set may be moved.
    """
    digest = hashlib.sha256()
    # A template is meant by its content.
    template = [Path(config.template)] if config.template else []
    for path in [*files, *template]:
        digest.update(f"{path.name}\0{file_hash(path)}\0".encode())
    settings = {**asdict(config), "template": bool(config.template)}
    digest.update(json.dumps([_without(settings, WITHOUT_EFFECT), *others], sort_keys=True).encode())
    digest.update(version("slicesplat").encode())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _without(settings: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name not in names}
