"""Figures and names are shown as they are."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import SHAPE, refused, write

from slicesplat.cli import main
from slicesplat.terminal import printable


@pytest.mark.parametrize("name", ["[red]x.nii.gz", "a:brain:.nii.gz", "\x1b[31mx.nii.gz", "x\n\u202ey.nii.gz"])
def test_file_name_is_shown_as_it_is_and_obeyed_by_no_terminal(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.name != "posix":
        pytest.skip("names that other systems do not allow")
    shown = printable(name)
    refused(capsys, ["assess", "--input-stacks", name], f"{shown}: ")
    # Lines of a message are joined before it is shown.
    refused(capsys, ["demo", name], printable(name.replace("\n", " ")))
    path = write(tmp_path / name, np.random.default_rng(0).uniform(1, 2, SHAPE).astype(np.float32))
    assert main(["assess", "--no-segmentation", "--input-stacks", path]) == 0
    out, err = capsys.readouterr()
    # The table folds long names.
    assert shown in "".join(line.split(" ")[1] for line in out.splitlines() if line.startswith(" "))
    assert f"{shown}: " in err
    assert "\x1b" not in out + err and "\u202e" not in out + err


def test_figures_are_written_when_the_table_cannot_be(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert (
        main(
            [
                "assess",
                "--no-segmentation",
                "--input-stacks",
                stack,
                "--output-json",
                str(tmp_path / "a.json"),
                "--quiet",
            ]
        )
        == 1
    )
    assert (tmp_path / "a.json").exists()
    err = capsys.readouterr().err
    assert err.startswith("slicesplat: OSError: standard output cannot be written") and err.count("\n") == 1
