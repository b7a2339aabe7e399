"""`reconstruct --output-report` writes the page, with what was warned of and how to have it again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from command_line import reconstruct_args, refused
from reconstructions import result

from slicesplat.cli import main


def test_the_page_has_warnings_and_the_command_line_without_folders(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*_: object, **__: object) -> object:
        logging.getLogger("slicesplat").warning("stack.nii.gz: is in a sorry state; look at it")
        return result()

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", told)
    target = tmp_path / "out" / "page.html"
    assert main([*reconstruct_args(tmp_path, stack), "--output-report", str(target), "--quiet"]) == 0
    text = target.read_text(encoding="utf-8")
    assert "stack.nii.gz: is in a sorry state; look at it" in text
    assert "slicesplat reconstruct --no-segmentation --input-stacks stack.nii.gz --output-volume out.nii.gz" in text
    assert str(tmp_path) not in text
    assert {path.name for path in target.parent.iterdir()} == {"page.html"}


def test_a_page_is_html(tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = [*reconstruct_args(tmp_path, stack), "--output-report", str(tmp_path / "page.pdf")]
    refused(capsys, args, "page.pdf", ".html")
