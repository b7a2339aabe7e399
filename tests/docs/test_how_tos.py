"""The how-tos can be followed from top to bottom: their commands work and print what stands there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from cohorts import batch_here

from slicesplat.cli import main

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"```(python|sh|text)\n(.*?)```", re.DOTALL)


def command_lines(text: str) -> list[list[str]]:
    """The words of each command of ours, lines that end in a backslash joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("slicesplat ")]


@pytest.mark.parametrize("name", ["bids", "clusters", "dicom"])
def test_how_to_can_be_followed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    batch_here(monkeypatch)
    names: dict[str, Any] = {}
    printed = ""
    for language, block in _BLOCK.findall((DOCS / f"{name}.md").read_text(encoding="utf-8")):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as caught:
                exec(compile(block, name, "exec"), names)
            printed = caught.getvalue()
        elif language == "sh":
            for words in command_lines(block):
                assert main([*words, "--quiet"]) == 0
        elif printed:
            assert printed == block
            printed = ""
