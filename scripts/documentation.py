"""What mkdocs asks for while it builds the site: pages made from the code, formulas, and pages that came later.

Named in `mkdocs.yml`; `make docs` builds the site.
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

import slicesplat
from slicesplat.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
GUIDES = "How to"
# `[PATH [PATH ...]]` is `PATH ...` to who reads a table; what has no default has none to say.
_SEVERAL, _REPEATED = re.compile(r"\[(\S+) \[\1 \.\.\.\]\]"), r"\1 ..."
_NO_DEFAULT = re.compile(r" \(default: (None)?\)$")
_FETCHED, _KEPT = "https://unpkg.com/iframe-worker/shim", "assets/iframe-worker/shim.js"
_NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
_COMMON = ("--help", "--verbose", "--quiet", "--debug", "--output-log")
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\s*(?:\\\(|\\\[)(?P<latex>.*?)(?:\\\)|\\\])\s*</(?P=tag)>', re.DOTALL
)
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation does not name after the last of the guides."""
    named = set(_pages(config.nav))
    folder = Path(config.docs_dir)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))
    guides = next(section[GUIDES] for section in config.nav if isinstance(section, dict) and GUIDES in section)
    guides += [page for page in found if page not in named]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code and from the project's own pages."""
    made = {
        "reference/command-line.md": command_line(),
        "reference/python.md": python(),
        "changelog.md": _of_project("CHANGELOG.md"),
        "contributing.md": _of_project("CONTRIBUTING.md"),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Formulas become MathML, which browsers draw by themselves."""

    def drawn(match: re.Match[str]) -> str:
        block = match["tag"] == "div"
        formula = _formula(html.unescape(match["latex"]).strip(), "block" if block else "inline")
        return f'<div class="math-block">{formula}</div>' if block else formula

    return _FORMULA.sub(drawn, content)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """What lets the search work from a folder on a disk comes with the site."""
    return output.replace(_FETCHED, get_relative_url(_KEPT, page.url))


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for the page of what is not there."""
    return output_content.replace(_FETCHED, _KEPT)


def _formula(latex: str, display: str) -> str:
    """MathML of a formula; a prime stands beside its letter, since fonts have it raised and small already."""
    # The converter knows the one and not the other; in HTML the name of the element says what it is.
    latex = latex.replace("{aligned}", "{align}")
    tree = ElementTree.fromstring(convert(latex, display=display).replace(_NAMESPACE, ""))
    for node in list(tree.iter()):
        if node.tag not in ("msup", "msubsup") or node[-1].text != "\u2032":
            continue
        *script, prime = list(node)
        prime.tag = "mo"
        prime.set("lspace", "0")
        prime.set("rspace", "0")
        node.clear()
        node.tag = "mrow"
        base = ElementTree.SubElement(node, "msub") if len(script) > 1 else node
        base.extend(script)
        node.append(prime)
    return ElementTree.tostring(tree, encoding="unicode")


def command_line() -> str:
    """Every command with its flags, from what ``--help`` prints."""
    parts = [
        "# Command line\n",
        "Made from what `slicesplat COMMAND --help` prints. A flag that takes several values takes them after "
        "one flag, or again and again. Every command has `--verbose` and `--quiet`, `--debug` for the traceback of an "
        "error, and `--output-log F`, which keeps the messages.\n",
        "Exit status: 0 done; 1 something failed; 2 bad usage or input, in one line; 3 a verdict of fail with "
        "`--strict`; 130, 143 and 129 ended by a signal.\n",
    ]
    for name, summary in COMMANDS.items():
        parts.append(f"## {name}\n\n{summary}\n\n| flag | meaning |\n|---|---|")
        parts += [f"| {shown} | {meaning} |" for shown, meaning in _flags(name)]
        parts.append("")
    return "\n".join(parts)


def _flags(command: str) -> Iterator[tuple[str, str]]:
    """Flags of a command and what they mean, as cells of a table."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"  # no line is broken
    page = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(page):
            main([command, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    flag = ""
    page.seek(0)
    for line in page.read().splitlines():
        text = line.strip("│ ")
        if not line.startswith("│") or not text:
            continue
        if text.startswith("-"):
            flag, _, text = (part.strip() for part in re.split(r"( {2,}|$)", text, maxsplit=1))
        if text and not flag.endswith(_COMMON) and not flag.startswith(_COMMON):
            yield (
                _cell(f"`{_SEVERAL.sub(_REPEATED, flag)}`"),
                _cell(html.escape(_NO_DEFAULT.sub("", text), quote=False)),
            )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def python() -> str:
    """Every public name, from its docstring."""
    names = sorted(name for name in slicesplat.__all__ if name in slicesplat._HOME)
    functions, classes = [name for name in names if name.islower()], [name for name in names if not name.islower()]
    parts = [
        "# Python\n\nAll of these are names of `slicesplat`: `import slicesplat`, then `slicesplat.reconstruct`.\n"
    ]
    for title, listed in (("Functions", functions), ("Classes", classes)):
        parts += [f"## {title}\n", *(f"::: {slicesplat._HOME[name]}.{name}\n" for name in listed)]
    parts.append("## Results\n\n::: slicesplat.result.Registration\n\n::: slicesplat.result.Reconstruction\n")
    return "\n".join(parts)


def _of_project(name: str) -> str:
    """A page that lies above the folder of the documents; what is not part of the site is no link there."""

    def moved(match: re.Match[str]) -> str:
        target = match["target"]
        if target.startswith("docs/"):
            return f"[{match['text']}]({target.removeprefix('docs/')})"
        return match[0] if ":" in target or target.startswith("#") else match["text"]

    return _LINK.sub(moved, (ROOT / name).read_text(encoding="utf-8"))


def _pages(nav: Any) -> Iterator[str]:
    """The files that a navigation names."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _pages(part)
