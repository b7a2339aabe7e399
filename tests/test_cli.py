"""Every failure is one line and a status; a success leaves what was asked for and nothing else."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console
from scipy import ndimage

import slicesplat
from slicesplat.cli import COMMANDS, load_command, main
from slicesplat.commands.base import ProgressDisplay
from slicesplat.progress import Progress
from slicesplat.terminal import printable

SHAPE = (12, 10, 6)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nib.save(nib.Nifti1Image(data, affine), path)
    return str(path)


@pytest.fixture
def stack(tmp_path: Path) -> str:
    return write(tmp_path / "stack.nii.gz", np.ones(SHAPE, np.float32))


@pytest.fixture
def mask(tmp_path: Path) -> str:
    return write(tmp_path / "mask.nii.gz", np.ones(SHAPE, np.uint8))


def with_corner(value: float) -> np.ndarray:
    data = np.ones(SHAPE, np.float32)
    data[0, 0, 0] = value
    return data


def shifted(distance: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] = distance
    return affine


def sheared() -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 1] = 0.2
    return affine


def set_sform(path: Path, affine: np.ndarray) -> str:
    image = nib.Nifti1Image(np.ones(SHAPE, np.float32), None)
    image.header["sform_code"] = 1
    for name, row in zip(("srow_x", "srow_y", "srow_z"), affine, strict=False):
        image.header[name] = row
    image.to_filename(path)
    return str(path)


def text(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


def truncated(path: Path) -> str:
    write(path, np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    path.write_bytes(path.read_bytes()[:700])
    return str(path)


def nowhere(path: Path) -> str:
    image = nib.Nifti1Image(np.ones(SHAPE, np.float32), None)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    image.to_filename(path)
    return str(path)


def claiming(path: Path, voxels: int) -> str:
    """A file of a few kB whose header claims so many voxels along each axis."""
    write(path, np.ones(SHAPE, np.float32))
    header = bytearray(path.read_bytes())
    header[42:48] = np.full(3, voxels, "<i2").tobytes()
    path.write_bytes(header)
    return str(path)


def folder(path: Path, *files: str) -> str:
    path.mkdir()
    for name in files:
        write(path / name, np.ones(SHAPE, np.float32))
    return str(path)


BAD_STACKS: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda d: str(d / "bad.nii.gz"), "no such file"),
    "not NIfTI": (lambda d: text(d / "bad.nii", "hello"), "NIfTI"),
    "truncated gzip": (lambda d: truncated(d / "bad.nii.gz"), "truncated gzip"),
    "4-D": (lambda d: write(d / "bad.nii.gz", np.ones((*SHAPE, 2), np.float32)), "4 dimensions"),
    "two slices": (lambda d: write(d / "bad.nii.gz", np.ones((12, 10, 2), np.float32)), "only 2 slices"),
    "NaN": (lambda d: write(d / "bad.nii.gz", with_corner(np.nan)), "NaN or infinite"),
    "infinity": (lambda d: write(d / "bad.nii.gz", with_corner(np.inf)), "NaN or infinite"),
    "no overlap": (lambda d: write(d / "bad.nii.gz", np.ones(SHAPE, np.float32), shifted(900)), "does not overlap"),
    "sheared": (lambda d: set_sform(d / "bad.nii.gz", sheared()), "sheared"),
    "singular": (lambda d: set_sform(d / "bad.nii.gz", np.diag([1.0, 1, 0, 1])), "singular"),
    "no orientation": (lambda d: nowhere(d / "bad.nii.gz"), "does not say how the image lies"),
    "sizes in metres": (
        lambda d: write(d / "bad.nii.gz", np.ones(SHAPE, np.float32), np.diag([0.001, 0.001, 0.003, 1.0])),
        "are they in metres?",
    ),
    "pixels of 30 mm": (
        lambda d: write(d / "bad.nii.gz", np.ones(SHAPE, np.float32), np.diag([30.0, 30.0, 30.0, 1.0])),
        "mm",
    ),
    "more claimed than there is": (lambda d: claiming(d / "bad.nii", 400), "cannot be read whole"),
    "no memory has what is claimed": (lambda d: claiming(d / "bad.nii", 30000), "voxels"),
    "one slice": (lambda d: write(d / "bad.nii.gz", np.ones((12, 10, 1), np.float32)), "a single slice"),
    "MINC": (lambda d: text(d / "bad.nii.mnc", "CDF"), "is not NIfTI"),
    "folder of slices": (lambda d: folder(d / "bad.nii", "0.nii.gz", "1.nii.gz"), "single slices cannot be read"),
    "name of 300 letters": (lambda d: str(d / f"bad.nii{300 * 'x'}.gz"), "; "),
}

BAD_MASKS: dict[str, tuple[Callable[[Path], str], str]] = {
    "another shape": (lambda d: write(d / "bad.nii.gz", np.ones((9, 9, 9), np.uint8)), "its shape"),
    "another affine": (lambda d: write(d / "bad.nii.gz", np.ones(SHAPE, np.uint8), shifted(5)), "its affine"),
    "empty": (lambda d: write(d / "bad.nii.gz", np.zeros(SHAPE, np.uint8)), "empty"),
}


def refused(capsys: pytest.CaptureFixture[str], args: list[str], *words: str) -> None:
    """Status 2, one line on stderr, nothing on stdout."""
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert "; " in err, "no remedy"
    for word in words:
        assert word in err


def reconstruct_args(tmp_path: Path, *stacks: str) -> list[str]:
    return ["reconstruct", "--input-stacks", *stacks, "--output-volume", str(tmp_path / "out.nii.gz")]


@pytest.mark.parametrize(("make", "problem"), BAD_STACKS.values(), ids=BAD_STACKS.keys())
def test_bad_stack_is_refused_in_one_line(
    tmp_path: Path,
    stack: str,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], str],
    problem: str,
) -> None:
    refused(capsys, reconstruct_args(tmp_path, stack, stack, make(tmp_path)), "bad.nii", problem)
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize(("make", "problem"), BAD_MASKS.values(), ids=BAD_MASKS.keys())
def test_bad_mask_is_refused_in_one_line(
    tmp_path: Path,
    stack: str,
    mask: str,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], str],
    problem: str,
) -> None:
    args = [*reconstruct_args(tmp_path, stack, stack), "--stack-masks", mask, make(tmp_path)]
    refused(capsys, args, "bad.nii.gz", problem)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--thicknesses", "3", "3", "3"], "wrong number of thicknesses"),
        (["--thicknesses", "0"], "not positive"),
        (["--thicknesses", "-3", "3"], "not positive"),
        (["--thicknesses", "0.003"], "is it in metres?"),
        (["--thicknesses", "30"], "mm"),
        (["--thicknesses", "nan"], "mm"),
    ],
)
def test_bad_thickness_is_refused_in_one_line(
    tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str], flags: list[str], problem: str
) -> None:
    refused(capsys, [*reconstruct_args(tmp_path, stack, stack), *flags], "stack.nii.gz", problem)


def test_wrong_number_of_masks_is_refused_in_one_line(
    tmp_path: Path, stack: str, mask: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*reconstruct_args(tmp_path, stack), "--stack-masks", mask, mask]
    refused(capsys, args, "mask.nii.gz", "wrong number of masks")


def test_output_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_output(*flags: str) -> list[str]:
        return ["reconstruct", "--input-stacks", "never-read.nii.gz", *flags]

    volume = str(tmp_path / "out.nii.gz")
    refused(capsys, with_output("--output-volume", str(tmp_path / "none" / "o.nii.gz")), "o.nii.gz", "does not exist")
    refused(capsys, with_output("--output-volume", f"{stack}/o.nii.gz"), "o.nii.gz", "is not a folder")
    refused(capsys, with_output("--output-volume", str(tmp_path / "o.mgz")), "o.mgz", "unknown kind")
    refused(
        capsys, with_output("--output-volume", volume, "--output-json", str(tmp_path / "none" / "r.json")), "r.json"
    )
    refused(capsys, with_output("--output-volume", volume, "--output-model", str(tmp_path / "m.pt")), "m.pt", "unknown")
    both = ["--output-slices", str(tmp_path / "s"), "--simulated-slices", str(tmp_path / "s")]
    refused(capsys, with_output("--output-volume", volume, *both), "two folders")
    if sys.platform == "linux":
        refused(capsys, with_output("--output-volume", "/proc/o.nii.gz"), "/proc/o.nii.gz", "read-only")


def test_output_never_takes_the_place_of_an_input(
    tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["reconstruct", "--input-stacks", stack, "--output-volume", stack]
    refused(capsys, args, "stack.nii.gz", "would be overwritten")
    # Its sidecar is read as well, or would be by the next run.
    sidecar = ["--output-json", str(tmp_path / "stack.json")]
    refused(capsys, [*reconstruct_args(tmp_path, stack), *sidecar], "stack.json", "would be overwritten")
    refused(capsys, ["assess", "--input-stacks", stack, *sidecar], "stack.json", "would be overwritten")
    refused(capsys, ["simulate", "--volume", stack, "--mask", stack, "--output", str(tmp_path)], "holds inputs")


def test_evaluate_never_writes_over_what_it_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume, region = ball(tmp_path)
    (tmp_path / "case").mkdir()
    truth, result = text(tmp_path / "case" / "truth.json", "{}"), text(tmp_path / "r.json", "{}")
    args = ["evaluate", "--volume", volume, "--truth", volume, "--truth-mask", region]
    args += ["--simulation", str(tmp_path / "case"), "--result-json", result]
    for path in (truth, result):
        refused(capsys, [*args, "--output-json", path], Path(path).name, "would be overwritten")


@pytest.mark.parametrize(
    "args",
    [
        ["reconstruct", "--input-stacks", "never-read.nii.gz", "--output-volume", ""],
        ["reconstruct", "--input-stacks", "never-read.nii.gz", "--output-volume", "v.nii.gz", "--output-json="],
        ["register", "--input-stacks", "never-read.nii.gz", "--output-slices", " "],
        ["demo", "--output", ""],
        ["simulate", "--volume", "", "--mask", "m.nii.gz", "--output", "case"],
    ],
)
def test_empty_path_does_not_mean_the_current_folder(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    refused(capsys, args, "--", "is empty")


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


def test_simulation_with_fewer_stacks_leaves_none_of_the_last_one(tmp_path: Path) -> None:
    volume, region = ball(tmp_path)
    args = ["simulate", "--volume", volume, "--mask", region, "--output", str(tmp_path / "case"), "--pixel", "4"]
    assert main([*args, "--quiet", "--stacks", "3"]) == 0
    assert main([*args, "--quiet", "--stacks", "1"]) == 0
    left = {path.name for path in (tmp_path / "case").glob("*.nii.gz")}
    assert left == {"stack-1.nii.gz", "mask-1.nii.gz", "truth.nii.gz", "truth-mask.nii.gz"}


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ([], "reconstruct"),
        (["reconstrct"], "reconstrct: no such command; did you mean reconstruct?"),
        (["Reconstruct"], "did you mean reconstruct?"),
        (["tables"], "no such command; there are reconstruct, register"),
        ([""], "no command; give one of reconstruct"),
        (["-v"], "a command comes first"),
        (["--", "reconstruct"], "a command comes first"),
        (["--quiet"], "no command"),
        (["--quiet", "--nonsense"], "--nonsense"),
        (["--version", "x"], "--version"),
        (["demo", "extra"], "extra"),
        (
            ["reconstruct", "--input-stack", "a.nii.gz", "--output-volume", "b.nii.gz"],
            "Unrecognized options: --input-stack",
        ),
        (["demo", "--sed", "1"], "did you mean --seed?"),
        (["reconstruct", "--input-stacks", "a.nii.gz", "--output-volume"], "--output-volume"),
        (["reconstruct", "--input-stacks", "a.nii.gz", "--output-volume", "b.nii.gz", "--device", "tpu"], "tpu"),
        (["reconstruct", "--input-stacks", "a.nii.gz", "--output-volume", "b.nii.gz", "--verbose", "x"], "x"),
        (["simulate", "--volume", "v", "--mask", "m", "--output", "o", "--noise", "nan"], "noise"),
        (["simulate", "--volume", "v", "--mask", "m", "--output", "o", "--bias-field", "2"], "bias_field"),
        (["reconstruct"], "--output-volume"),
        (["reconstruct", "--input-stacks", "a.nii.gz", "--output-volume", "b.nii.gz", "--seed", "x"], "--seed"),
        (["reconstruct", "--input-stacks", "a.nii.gz", "--output-volume", "b.nii.gz", "--sed", "1"], "--sed"),
        (["simulate", "--volume", "v", "--mask", "m", "--output", "o", "--motion", "wild"], "wild"),
        (["simulate", "--volume", "v", "--mask", "m", "--output", "o", "--spacing", "-1"], "spacing"),
        (["evaluate", "--volume", "v.nii.gz"], "--truth"),
    ],
)
def test_bad_usage_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], args: list[str], problem: str) -> None:
    refused(capsys, args, problem)


def test_mask_of_names_the_stack_that_the_single_mask_is_drawn_on(
    stack: str, mask: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["assess", "--input-stacks", stack, stack, "--stack-masks", mask, "--thicknesses", "3"]
    assert main(args) == 0
    assert "mask.nii.gz: fits stack.nii.gz, stack.nii.gz, taken as drawn on the first" in capsys.readouterr().err
    assert main([*args, "--mask-of", "2"]) == 0
    assert "taken as drawn" not in capsys.readouterr().err
    refused(capsys, [*args, "--mask-of", "3"], "mask.nii.gz", "name one from 1 to 2")


def test_switches_work_before_the_command_as_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["evaluate", "--volume", "none.nii.gz", "--truth", "none.nii.gz", "--truth-mask", "none.nii.gz"]
    for args in (["--debug", *missing], [*missing, "--debug"], ["--quiet", "--debug", "--verbose", *missing]):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert "Traceback" in err and err.splitlines()[-1] == "slicesplat: none.nii.gz: no such file; check the path"


def test_repeated_flags_keep_all_stacks_and_name_the_value_that_does_not_count(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def fake(stacks: Any, config: Any, progress: Any) -> SimpleNamespace:
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
    assert main(["assess", "--input-stacks", path]) == 0
    out, err = capsys.readouterr()
    # The table folds long names.
    assert shown in "".join(line.split(" ")[1] for line in out.splitlines() if line.startswith(" "))
    assert f"{shown}: " in err
    assert "\x1b" not in out + err and "\u202e" not in out + err


# --- what a reconstruction leaves


def one_voxel_result(progress: Callable[[Any], None] | None = None) -> SimpleNamespace:
    volume = nib.Nifti1Image(np.full((4, 4, 4), 7.0), np.diag([0.8, 0.8, 0.8, 1]))
    return SimpleNamespace(volume=volume, json=lambda: {"settings": {"seed": 3}, "slices": []})


def test_reconstruct_writes_volume_and_json_with_the_settings_given(
    tmp_path: Path,
    stack: str,
    mask: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: dict[str, Any] = {}

    def fake(stacks: Any, config: Any, progress: Any) -> SimpleNamespace:
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


def test_figures_are_written_when_the_table_cannot_be(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["assess", "--input-stacks", stack, "--output-json", str(tmp_path / "a.json"), "--quiet"]) == 1
    assert (tmp_path / "a.json").exists()
    err = capsys.readouterr().err
    assert err.startswith("slicesplat: OSError: standard output cannot be written") and err.count("\n") == 1


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


# --- known truth


def ball(tmp_path: Path) -> tuple[str, str]:
    grid = np.indices((32, 32, 32)) - 15.5
    radius = np.sqrt((grid**2).sum(axis=0))
    inside = radius < 12
    values = np.where(inside, 500 + 200 * np.sin(grid[0]) * np.cos(0.7 * grid[1]) + 10 * grid[2], 0)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return (
        write(tmp_path / "v.nii.gz", values.astype(np.float32), affine),
        write(tmp_path / "m.nii.gz", inside.astype(np.uint8), affine),
    )


def test_simulated_truth_scores_as_perfect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume, region = ball(tmp_path)
    folder = tmp_path / "case"
    args = ["--volume", volume, "--mask", region, "--output", str(folder), "--stacks", "2", "--motion", "none"]
    assert main(["simulate", *args, "--quiet"]) == 0
    written = {path.name for path in folder.iterdir()}
    assert {"stack-1.nii.gz", "mask-2.nii.gz", "truth.nii.gz", "truth-mask.nii.gz", "truth.json"} <= written
    slices = [
        {"stack": i, "slice": k, "world_transform": np.eye(4).tolist(), "weight": 1.0}
        for i in range(2)
        for k in range(nib.load(folder / f"stack-{i + 1}.nii.gz").shape[2])
    ]
    result = text(tmp_path / "r.json", json.dumps({"slices": slices}))
    capsys.readouterr()
    args = ["--volume", volume, "--simulation", str(folder), "--result-json", result, "--no-register"]
    assert main(["evaluate", *args, "--output-json", str(tmp_path / "score.json")]) == 0
    assert "PSNR" in capsys.readouterr().out
    figures = json.loads((tmp_path / "score.json").read_text())
    assert figures["score"]["ncc"] == pytest.approx(1.0)
    assert figures["pose_error"]["tre_mean"] == pytest.approx(0.0, abs=1e-6)


def test_result_of_another_case_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume, region = ball(tmp_path)
    known = ["evaluate", "--volume", volume, "--truth", volume, "--truth-mask", region]
    result = text(tmp_path / "r.json", '{"slices": []}')
    refused(capsys, [*known, "--result-json", result], "r.json", "--simulation")
    refused(capsys, [*known, "--result-json", result, "--simulation", str(tmp_path)], "truth.json", "no such file")
    text(tmp_path / "truth.json", '{"poses_deg_mm": []}')
    refused(capsys, [*known, "--result-json", result, "--simulation", str(tmp_path)], "r.json", "does not belong")


def test_soft_truth_mask_is_cut_and_told_once_all_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, region = ball(tmp_path)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    rim = ndimage.uniform_filter(nib.load(region).get_fdata(), 3)
    soft, cut = (
        write(tmp_path / f"{name}.nii.gz", values.astype(np.float32), affine)
        for name, values in (("soft", rim), ("cut", rim >= 0.5))
    )
    known = ["evaluate", "--volume", volume, "--truth", volume, "--no-register", "--truth-mask"]
    assert main([*known, cut]) == 0
    expected = capsys.readouterr()
    assert main([*known, soft]) == 0
    assert capsys.readouterr() == (expected.out, "soft.nii.gz: soft mask, values up to 1, cut at 0.5\n")
    refused(capsys, [*known, soft, "--result-json", "none.json"], "none.json", "--simulation")
    args = ["simulate", "--volume", volume, "--mask", soft, "--output", str(tmp_path / "case"), "--stacks", "1"]
    assert main(args) == 0
    assert "soft.nii.gz: soft mask, values up to 1, cut at 0.5" in capsys.readouterr().err
    np.testing.assert_array_equal(nib.load(tmp_path / "case/truth-mask.nii.gz").get_fdata() > 0, rim >= 0.5)


# --- help


@pytest.mark.parametrize("name", COMMANDS)
def test_list_of_commands_says_what_each_command_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (load_command(name).__doc__ or "").splitlines()[0] == COMMANDS[name]
    assert main([name, "--help"]) == 0
    assert COMMANDS[name].split()[0] in capsys.readouterr().out


@pytest.mark.parametrize("args", ["--help", "-h", "help", "help nonsense", "--quiet --help"])
def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str], args: str) -> None:
    assert main(args.split()) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


def test_help_of_a_command_is_given_wherever_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    given = []
    for args in ("demo --help", "help demo", "demo -h extra", "demo --nonsense -h", "--debug demo --device tpu --help"):
        assert main(args.split()) == 0
        given.append(capsys.readouterr())
    assert "--output" in given[0].out
    assert given == given[:1] * len(given)


def test_help_of_reconstruct_lists_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", "--help"]) == 0
    out = capsys.readouterr().out
    for flag in (
        *("--input-stacks", "--stack-masks", "--thicknesses", "--output-volume", "--output-resolution"),
        *("--output-json", "--seed", "--threads", "--device", "--verbose", "--quiet", "--debug"),
    ):
        assert flag in out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"slicesplat {slicesplat.__version__}\n"


def test_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slicesplat", "evaluate", "--volume", "none.nii.gz"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("slicesplat: none.nii.gz: ")
    assert done.stderr.count("\n") == 1


# --- progress


def test_terminal_shows_step_and_loss_in_a_bar() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with ProgressDisplay(console) as progress:
        progress(Progress(step="registration", done=1, total=1, loss=None))
        progress(Progress(step="joint fit", done=7, total=10, loss=0.0123))
    assert "registration" in screen.getvalue()
    assert "joint fit" in screen.getvalue()
    assert "7/10" in screen.getvalue()
    assert "loss 0.0123" in screen.getvalue()
