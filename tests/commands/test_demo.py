"""``demo``: how large the phantom is; the whole way is gone in tests/test_release.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import refused

from slicesplat.cli import main
from slicesplat.commands import demo


def test_phantom_is_as_large_as_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def fake(output: Path, *_: Any, size_mm: float, **__: Any) -> SimpleNamespace:
        seen.append(size_mm)
        return SimpleNamespace(rows=[], folder=output)

    monkeypatch.setattr(demo, "demo", fake)
    assert main(["demo", "--output", str(tmp_path / "a")]) == main(["demo", "--size", "50"]) == 0
    assert seen == [92.0, 50.0]


@pytest.mark.parametrize("size", ["10", "1000", "nan"])
def test_size_of_no_brain_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["demo", "--size", size], "--size")
