"""An environment such as pip makes for users, of links: nothing is fetched, and nothing more is there."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

_PURELIB = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def build(folder: Path, root: Path) -> tuple[Path, Path]:
    """Make the sdist of a project and, from that, its wheel, by what is installed here; returns wheel and sdist."""
    pytest.importorskip("build")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def install(wheel: Path, folder: Path) -> Path:
    """A virtual environment with a wheel, and links to what its metadata require; returns the folder of its programs.

    Distributions that nobody requires are not there, though they are installed where the tests run.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = folder / _PURELIB
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--quiet",
         "install", "--no-deps", "--no-index", str(wheel)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (info,) = packages.glob("slicesplat-*.dist-info")
    for needed in _closure(Distribution.at(info).requires or []):
        for name in top_level(needed):
            (packages / name).symlink_to(Path(str(needed.locate_file(name))))
    return folder / "bin"


def _closure(requirements: list[str]) -> Iterator[Distribution]:
    """Every distribution that requirements ask for, directly or through others, once; extras are not followed."""
    seen, todo = set(), list(requirements)
    while todo:
        wanted = Requirement(todo.pop())
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            pytest.fail(f"{wanted} is required and not installed here")
        assert wanted.specifier.contains(found.version, prereleases=True), f"{wanted}: {found.version} is installed"
        yield found
        todo += found.requires or []


def top_level(found: Distribution) -> set[str]:
    """Files and folders of a distribution beside each other in site-packages; its programs lie elsewhere."""
    names = {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}
    assert names, f"{found.name} does not say what it installed in {sysconfig.get_path('purelib')}"
    return names
