"""What a result depends on, as one hash: if it is the same, the result is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from slicesplat.config import Config
from slicesplat.io.bids import Examination
from slicesplat.io.files import file_hash
from slicesplat.version import __version__

WITHOUT_EFFECT = ("threads", "max_memory")
"""Settings that change how a volume is computed and not one of its bytes."""


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
    # A template is meant by its content.
    digest = digest_of([*files, *([Path(config.template)] if config.template else [])])
    settings = {**asdict(config), "template": bool(config.template)}
    digest.update(json.dumps([_without(settings, WITHOUT_EFFECT), *others], sort_keys=True).encode())
    digest.update(__version__.encode())
    return digest.hexdigest()


def digest_of(files: Sequence[Path]) -> hashlib._Hash:
    """A hash of files, their names and contents, that goes on from there."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{file_hash(path)}\0".encode())
    return digest


def _without(settings: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name not in names}
