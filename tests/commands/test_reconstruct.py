"""Reconstruct leaves what was asked for and nothing else; a failure is one line and a status."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import pytest
from command_line import one_voxel_result, reconstruct_args, refused

from slicesplat.cli import main
from slicesplat.progress import Progress
from slicesplat.records import Verdict


def test_disk_full_names_the_file_and_leaves_the_other_outputs(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(image: object, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", lambda *_, **__: one_voxel_result())
    monkeypatch.setattr("slicesplat.commands.reconstruct.save_volume", full)
    args = [*reconstruct_args(tmp_path, stack), "--quiet", "--output-json", str(tmp_path / "r.json")]
    assert main(args) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "out.nii.gz (No space left on device)" in err
    assert json.loads((tmp_path / "r.json").read_text())["slices"] == []


def test_repeated_flags_keep_all_stacks_and_name_the_value_that_does_not_count(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def fake(stacks: Any, config: Any, progress: Any, watch: Any = None) -> SimpleNamespace:
        seen.update(stacks=stacks, config=config)
        return one_voxel_result()

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", fake)
    args = [*reconstruct_args(tmp_path, stack), "--seed", "1", "--quiet", "--input-stacks", stack, "--seed", "2"]
    assert main(args) == 0
    assert len(seen["stacks"]) == 2 and seen["config"].seed == 2
    assert capsys.readouterr() == ("", "warning: --seed is given more than once: 2 is taken, not 1\n")
    # It stands ahead of what is said about the stacks; but input that is refused is refused in one line.
    args.remove("--quiet")
    assert main(args) == 0
    assert capsys.readouterr().err.startswith("warning: --seed")
    refused(capsys, [*args, "--stack-masks", str(tmp_path / "none.nii.gz")], "none.nii.gz")


def test_reconstruct_writes_volume_and_json_with_the_settings_given(
    tmp_path: Path,
    stack: str,
    mask: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: dict[str, Any] = {}

    def fake(stacks: Any, config: Any, progress: Any, watch: Any = None) -> SimpleNamespace:
        seen.update(stacks=stacks, config=config)
        for done in range(101):
            progress(Progress(step="joint fit", done=done, total=100, loss=0.5))
        return one_voxel_result()

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", fake)
    args = [*reconstruct_args(tmp_path, stack, stack), "--stack-masks", mask, mask, "--thicknesses", "2.5", "2.0"]
    args += ["--output-resolution", "1.2", "--seed", "3", "--threads", "1", "--output-json", str(tmp_path / "r.json")]
    assert main(args) == 0
    assert [s.thickness for s in seen["stacks"]] == [2.5, 2.0]
    assert (seen["config"].resolution, seen["config"].seed, seen["config"].threads) == (1.2, 3, 1)
    assert nib.load(tmp_path / "out.nii.gz").get_fdata().mean() == 7.0
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["seed"] == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "stack.nii.gz: slice thickness 2.5 mm as given" in err
    assert [line for line in err.splitlines() if "joint fit" in line] == [
        "joint fit",
        *(f"joint fit {done}/100  loss 0.5" for done in (25, 50, 75, 100)),
    ]


FAILED = Verdict("fail", ("30 of 40 slices are left out; look at the volume",))


@pytest.mark.parametrize(
    ("verdict", "flags", "status"),
    [
        (FAILED, ["--strict"], 3),
        (FAILED, [], 0),
        (Verdict("check", FAILED.reasons), ["--strict"], 0),
        (Verdict("pass"), ["--strict"], 0),
    ],
)
def test_a_failed_verdict_is_an_error_only_where_that_is_asked_for_and_all_is_written(
    tmp_path: Path,
    stack: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdict: Verdict,
    flags: list[str],
    status: int,
) -> None:
    made = one_voxel_result(verdict=verdict)
    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", lambda *_, **__: made)
    written = tmp_path / "r.json"
    args = [*reconstruct_args(tmp_path, stack), "--quiet", "--output-json", str(written), *flags]
    assert main(args) == status
    assert written.exists() and (tmp_path / "out.nii.gz").exists()
    err = capsys.readouterr().err
    told = [line.split(":")[:3] for line in err.splitlines()]
    warned = [["warning", " verdict", f" {verdict.grade}"]] if verdict.reasons else []
    assert [line for line in told if line[0] == "warning"] == warned
    assert ("slicesplat: the verdict on the volume is fail" in err) == (status == 3)


def test_quiet_says_nothing(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", lambda *_, **__: one_voxel_result())
    assert main([*reconstruct_args(tmp_path, stack), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_quiet_keeps_warnings(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(*_: object, **__: object) -> SimpleNamespace:
        logging.getLogger("slicesplat").info("reference stack: a.nii.gz")
        logging.getLogger("slicesplat").warning("b.nii.gz: 20 of 20 slices left out: 20 for no match")
        return one_voxel_result()

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", fake)
    assert main([*reconstruct_args(tmp_path, stack), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "warning: b.nii.gz: 20 of 20 slices left out: 20 for no match\n")


def test_outputs_are_written_when_messages_cannot_be(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", lambda *_, **__: one_voxel_result())
    for stream in (Full(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        assert main([*reconstruct_args(tmp_path, stack), "--verbose"]) == 0
        (tmp_path / "out.nii.gz").unlink()


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("lost\nall"), 1), (KeyboardInterrupt(), 130)])
def test_failure_is_one_line_and_a_traceback_only_when_asked_for(
    tmp_path: Path,
    stack: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", fail)
    args = [*reconstruct_args(tmp_path, stack), "--quiet"]
    assert main(args) == status
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert ("--debug shows the traceback" in err) == (status == 1)
    assert main([*args, "--debug"]) == status
    assert "Traceback" in capsys.readouterr().err
    assert not (tmp_path / "out.nii.gz").exists()
