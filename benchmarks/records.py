"""What a benchmark leaves: its rows, and all that one has to know to read them, in one JSON file.

Nothing in it says whose machine it was: no host, no user, no folder.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from _machine import processor

import slicesplat

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SOURCE = ROOT / "src" / "slicesplat"
PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "torch",
    "nibabel",
    "scikit-image",
    "SimpleITK",
    "triton",
)

# Programs that are timed keep their compiled modules, as where they were installed, whatever the image is set to:
# each start takes 1.5 s more where Python compiles what it imports again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

Row = dict[str, Any]


def add_json_option(options: argparse.ArgumentParser, benchmark: str) -> None:
    """Let a benchmark write its rows, to its own file among the results where none is named."""
    options.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=RESULTS / f"{benchmark}.json",
        metavar="FILE",
        help=f"write the rows, and where they come from; without a name to benchmarks/results/{benchmark}.json",
    )


def source_digest() -> str:
    """What tells one state of the package's source from another, committed or not."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.rglob("*.py")):
        digest.update(path.relative_to(SOURCE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def commit() -> str:
    """The commit that is checked out, with a + where the source differs from it; empty outside of a repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--", "src", "benchmarks/*.py", "pyproject.toml")
    return git("rev-parse", "HEAD") + ("+" if changed else "")


def versions() -> dict[str, str]:
    """Of Python and of the packages that figures depend on, those that are installed."""
    found = {"python": platform.python_version(), "slicesplat": slicesplat.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def told(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's arguments as they go into its record: names instead of paths, nothing about where it is written."""

    def named(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [named(part) for part in value]
        return Path(value).name if isinstance(value, Path) or (isinstance(value, str) and os.sep in value) else value

    return {name: named(value) for name, value in arguments.items() if name not in ("json", "pictures")}


class Record:
    """The file of one run of a benchmark, written anew whenever there is a new row, whole or not at all.

    Parameters
    ----------
    benchmark : str
        Its name, as its file has it without arguments.
    path : Path, optional
        Where to write; nowhere when not given.
    arguments : mapping
        What it was called with.
    """

    def __init__(self, benchmark: str, path: Path | None, arguments: Mapping[str, Any]) -> None:
        self.path = path
        self._head = {
            "benchmark": benchmark,
            "arguments": told(arguments),
            "commit": commit() if path else "",
            "source": source_digest() if path else "",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "versions": versions(),
        }

    def write(self, rows: list[Row], complete: bool) -> None:
        """Write the rows that there are; `complete` when no more will come."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.part")
        partial.write_text(json.dumps({**self._head, "complete": complete, "rows": rows}, indent=1) + "\n", "utf-8")
        os.replace(partial, self.path)


def read(path: Path) -> dict[str, Any] | None:
    """What a complete run has written; None where there is no such file, or its run has not come to its end."""
    record = _record(path)
    return record if record and record["complete"] else None


def rows_of_this_source(path: Path | None) -> list[Row]:
    """What a run on the same source has written, whether it came to its end or not; none where there is no file."""
    record = _record(path) if path else None
    return record["rows"] if record and record["source"] == source_digest() else []


def _record(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text("utf-8")) if path.exists() else None
