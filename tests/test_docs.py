"""The documents hold together: what they point to is there, and they speak of nothing that is not in the project."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slicesplat.config import FitSettings
from slicesplat.pipeline import reconstruct
from slicesplat.priors import PRIORS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "slicesplat"
METHOD = ROOT / "docs" / "method.md"
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# `docs/method.md, Forward model` or "docs/method.md, Forward model and Gradients".
_NAME = r"([A-Z][A-Za-z-]*(?:\s+(?!and\b)[a-z][a-z-]*)?)"
SECTION = re.compile(rf"docs/method\.md,\s+{_NAME}(?:\s+and\s+{_NAME})?")
SECTIONS = (
    "Frames", "Field", "Point-spread function", "Forward model", "Gradients", "Pose derivatives", "Likelihood",
    "Bias fields", "Prior", "Objective", "Field strategies", "Solvers", "Motion", "Region", "Background",
    "Standard space", "Uncertainty", "Glossary", "Sources",
)  # fmt: skip
# Built from parts, so that this file does not hold what it looks for.
FOREIGN = [
    re.compile(pattern)
    for pattern in (
        "DESIGN" + r"\.md",
        "STYLE" + r"\.md",
        r"\b[Ii]ssue" + r"s?\s+(number\s+|no\.?\s*)?#?\d",
        r"[\s(]#\d+\b",
    )
]
TEXT = {".py", ".md", ".toml", ".txt", ".sh", ".cff", ""}


def files(*folders: str) -> list[Path]:
    """What git would carry of the text below some folders; all that is there where there is no git."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = done.stdout.splitlines() if done.returncode == 0 else []
    found = [ROOT / name for name in names] or [p for folder in folders for p in (ROOT / folder).rglob("*")]
    return sorted(path for path in found if path.is_file() and path.suffix in TEXT)


def pages() -> list[Path]:
    return [path for path in files(".") if path.suffix == ".md"]


def prose(path: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def headings(path: Path) -> list[str]:
    return [heading.replace("`", "") for heading in HEADING.findall(prose(path))]


def anchor(heading: str) -> str:
    """What code hosts make of a heading in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def docstrings_and_comments() -> Iterator[tuple[Path, str]]:
    """Every docstring of the package, and its comments, one text a file."""
    for path in files("src"):
        if path.suffix != ".py":
            continue
        text = path.read_text(encoding="utf-8")
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        told = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, nodes)]
        told += re.findall(r"#(.*)", text)
        yield path, "\n".join(told)


def named_sections(text: str) -> list[str]:
    """The sections of docs/method.md that a text names, lower case."""
    return [" ".join(name.lower().split()) for match in SECTION.finditer(text) for name in match.groups() if name]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("(docs/method.md, Forward model).", ["forward model"]),
        ("docs/method.md,\n    Point-spread function", ["point-spread function"]),
        ("docs/method.md, Gradients and Pose\nderivatives: ...", ["gradients", "pose derivatives"]),
        ("see docs/method.md. Pairs beyond", []),
    ],
)
def test_a_section_that_is_named_is_read_as_such(text: str, named: list[str]) -> None:
    assert named_sections(text) == named


def test_the_method_has_its_sections() -> None:
    assert headings(METHOD) == ["Method", *SECTIONS]


def test_sections_of_the_method_that_docstrings_name_exist() -> None:
    known = [name.lower() for name in headings(METHOD)]
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in docstrings_and_comments()
        for name in named_sections(text)
        # Prose may go on behind a heading of one word.
        if name not in known and name.split()[0] not in known
    ]
    assert not missing


def test_pages_that_the_source_names_exist() -> None:
    named = {page for _, text in docstrings_and_comments() for page in re.findall(r"\bdocs/[\w./-]+\.(?:md|py)", text)}
    assert METHOD.relative_to(ROOT).as_posix() in named
    assert not [page for page in sorted(named) if not (ROOT / page).is_file()]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, place = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        there = other.exists() and (not place or place in map(anchor, headings(other)))
        if not there:
            broken.append(target)
    assert not broken


def test_the_project_speaks_of_itself_only() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files("src", "tests", "docs", "benchmarks", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(pattern.search(line) for pattern in FOREIGN)
    ]
    assert not found


def paths_in(page: Path) -> set[str]:
    """Modules and folders of the package that a page names in backticks: `estimate/objective.py`, `priors/`."""
    text = page.read_text(encoding="utf-8")
    return {name for name in re.findall(r"`([\w/]+/(?:\w+\.py)?)`", text) if (SOURCE / name.split("/")[0]).is_dir()}


# The layout that these pages describe is being moved into.


@pytest.mark.parametrize("page", ["docs/method.md", "CONTRIBUTING.md"])
def test_modules_that_the_documents_name_exist(page: str) -> None:
    named = paths_in(ROOT / page)
    assert named
    assert not sorted(name for name in named if not (SOURCE / name).exists())


def first_code_below(page: Path, heading: str) -> str:
    """The first block of Python below a heading."""
    text = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def test_a_prior_is_added_as_the_contributors_page_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRIORS, "membrane", None)  # so that it is taken out again
    names: dict[str, Any] = {}
    exec(first_code_below(ROOT / "CONTRIBUTING.md", "Add a prior"), names)
    assert capsys.readouterr().out.startswith("expected error ")
    usual = reconstruct(names["stacks"], replace(names["result"].settings, fit=FitSettings()))
    volumes = [np.asarray(each.volume.dataobj) for each in (names["result"], usual)]
    assert all(np.isfinite(volume).all() and volume.max() > 0 for volume in volumes)
    assert not np.array_equal(*volumes)
