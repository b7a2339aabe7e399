"""Every failure is one line and a status; help is given wherever it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import refused

import slicesplat
from slicesplat.cli import COMMANDS, load_command, main


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


@pytest.mark.parametrize(
    "args",
    [
        ["reconstruct", "--stack-masks", "--input-stacks", "never-read.nii.gz", "--output-volume", "v.nii.gz"],
        ["reconstruct", "--input-stacks", "--output-volume", "v.nii.gz"],
        ["assess", "--input-stacks", "never-read.nii.gz", "--thicknesses"],
        ["batch", "study", "out", "--participant-label", "--quiet"],
        ["bids", "study", "out", "participant", "--participant_label", "--session-label", "01"],
    ],
)
def test_a_variable_that_is_not_set_does_not_mean_all(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    refused(capsys, args, "--", "no value; give one or more")


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


def test_switches_work_before_the_command_as_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["evaluate", "--volume", "none.nii.gz", "--truth", "none.nii.gz", "--truth-mask", "none.nii.gz"]
    for args in (["--debug", *missing], [*missing, "--debug"], ["--quiet", "--debug", "--verbose", *missing]):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert "Traceback" in err and err.splitlines()[-1] == "slicesplat: none.nii.gz: no such file; check the path"


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
        [sys.executable, "-m", "slicesplat", "export-dicom", "none.nii.gz", "--anonymous", "--output", "series"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("slicesplat: none.nii.gz: ")
    assert done.stderr.count("\n") == 1
