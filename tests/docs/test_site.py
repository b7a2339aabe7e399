"""The site is built without a warning, holds what the code says, and fetches nothing when it is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import slicesplat
from slicesplat.cli import COMMANDS, load_command
from slicesplat.flags import several_values

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not find_spec("material"), reason="needs the extra docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def test_every_page_is_reached_from_the_first(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages |= {"reference/command-line.html", "reference/python.html", "changelog.html", "contributing.html"}
    linked = set(re.findall(r'href="([\w/.-]+\.html)', text(site, "index.html")))
    assert not pages - linked - {"index.html"}


def test_nothing_is_fetched_when_a_page_is_read(site: Path) -> None:
    loaded = re.compile(
        r'<(?:script|img|iframe|link rel="(?:stylesheet|preconnect|icon))[^>]*(?:src|href)="(?:https?:)?//'
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert not [page.relative_to(site).as_posix() for page in pages if loaded.search(page.read_text(encoding="utf-8"))]
    assert not re.search(r"url\([\"']?(?:https?:)?//", text(site, "assets/site.css"))


def test_every_command_and_flag_is_in_the_reference(site: Path) -> None:
    page = text(site, "reference/command-line.html")
    for name in COMMANDS:
        _, _, section = page.partition(f'<h2 id="{name}">')
        assert section, name
        section = section.partition("<h2")[0]
        flags = several_values(load_command(name))
        assert all(f"<code>{flag} " in section for flag in flags), (name, flags)
    assert "--output-uncertainty PATH" in page and "(default: 0.8)" in page


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    page = text(site, "reference/python.html")
    missing = [name for name in slicesplat.__all__ if not re.search(rf'<h3 id="slicesplat[\w.]*\.{name}"', page)]
    assert missing == ["__version__"]


def test_formulas_are_drawn_without_a_script(site: Path) -> None:
    page = text(site, "method.html")
    assert page.count("<math") > 100
    assert "arithmatex" not in page and "\\frac" not in page and "ParseError" not in page
