"""The examples in docs/ run, and print what stands there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
_BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# Processors round differently, and a fit of few pixels follows.
_TOLERANCE = {"rel": 0.1, "abs": 0.25}


def blocks(page: Path) -> list[tuple[str, str]]:
    """What is run, and what it is said to print."""
    found = [(match[1], match[2]) for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))]
    following = [*found[1:], ("python", "")]
    return [
        (code, told if kind == "text" else "")
        for (language, code), (kind, told) in zip(found, following, strict=True)
        if language == "python"
    ]


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_example_runs_and_prints_what_stands_there(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, told in blocks(page):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page.name, "exec"), names)
        out = printed.getvalue()
        assert _NUMBER.sub("#", out) == _NUMBER.sub("#", told), out
        numbers = [float(number) for number in _NUMBER.findall(told)]
        assert [float(number) for number in _NUMBER.findall(out)] == pytest.approx(numbers, **_TOLERANCE), out


def test_there_are_examples_and_the_readme_leads_to_them() -> None:
    pages = {page.name for page in FOLDER.glob("*.md")}
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    assert len(pages) >= 2
    assert pages == set(re.findall(r"docs/examples/([\w-]+\.md)", readme))
