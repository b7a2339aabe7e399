"""A command line of NeSVoR's works once its first word is changed."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from loading import link_scan, scan, stand_in
from nesvor_command_line import FLAGS, PUBLISHED

from slicesplat.cli import COMMANDS, main
from slicesplat.commands.base import BaseCommand
from slicesplat.nesvor_flags import RENAMED, SAID_HERE, UNUSED

THERE = [name for name in FLAGS if RENAMED.get(name, name) in COMMANDS]


def ours(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The flags that the help of a command lists."""
    assert main([command, "--help"]) == 0
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", capsys.readouterr().out))


@pytest.mark.parametrize("name", THERE)
def test_every_flag_is_accepted(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[BaseCommand, Any]] = []
    monkeypatch.setattr(BaseCommand, "run", lambda command, notes: seen.append((command, notes)))
    assert main([name, *shlex.split(FLAGS[name])]) == 0, capsys.readouterr().err
    (_, notes) = seen[0]
    assert len(notes) <= 1


@pytest.mark.parametrize("name", THERE)
def test_every_flag_has_a_meaning_here_or_a_sentence_that_says_what_happens_instead(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = RENAMED.get(name, name)
    known = ours(command, capsys)
    given = {word for word in shlex.split(FLAGS[name]) if word.startswith("--")}
    said = {flag for flag, _ in SAID_HERE}
    assert not given - known - said - UNUSED[command].keys()


@pytest.mark.parametrize("name", [name for name in UNUSED if name in COMMANDS])
def test_no_flag_of_ours_is_taken_for_unused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not ours(name, capsys) & UNUSED[name].keys()


def test_every_unused_flag_of_a_fit_is_named_in_the_one_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(BaseCommand, "run", lambda command, notes: seen.append(notes))
    assert main(["reconstruct", *shlex.split(FLAGS["reconstruct"])]) == 0
    ((warning,),) = seen
    given = {word for word in shlex.split(FLAGS["reconstruct"]) if word.startswith("--")}
    silent = {"--scanner-space", "--segmentation", "--n-levels-bias", "--registration"}
    for flag in (given & UNUSED["reconstruct"].keys()) - silent:
        assert re.search(rf"{flag}(?![\w-])", warning), flag


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scan(tmp_path_factory.mktemp("published") / "case")


@pytest.mark.parametrize("line", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_published_command_line_loads_its_stacks_and_writes_what_it_names(
    scanned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    link_scan(scanned, tmp_path)
    monkeypatch.chdir(tmp_path)
    loaded = stand_in(monkeypatch)
    command, *flags = shlex.split(line)
    assert main([command, *flags]) == 0, capsys.readouterr().err
    warnings = [text for text in capsys.readouterr().err.splitlines() if "not used" in text]
    assert len(warnings) <= 1
    if command in ("reconstruct", "svr", "register"):
        assert loaded == [3]
    for flag, name in itertools.pairwise(flags):
        if flag.startswith(("--output-volume", "--output-json", "--output-slices", "--output-model")):
            assert (tmp_path / name.replace(".pt", ".safetensors")).exists()
