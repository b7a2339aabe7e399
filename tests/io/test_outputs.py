"""No output takes the place of an input or of another output, and one that fails does not stop the others."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

import pytest

from slicesplat.errors import InputError, OutputError
from slicesplat.io.folder import UNFINISHED, output_folder
from slicesplat.io.outputs import Outputs

NUMBERED = re.compile(r"\d+\.txt")
OTHERS = re.compile(r"\d+\.tfm")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """An input, in a folder of its own."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "stack.json"
    path.write_text("{}")
    return path


def test_input_is_refused_as_an_output_by_any_of_its_names(tmp_path: Path, given: Path) -> None:
    os.link(given, tmp_path / "hard.json")
    (tmp_path / "link.json").symlink_to(given)
    for name in (given, tmp_path / "in" / ".." / "in" / "stack.json", tmp_path / "hard.json", tmp_path / "link.json"):
        with pytest.raises(InputError, match="is an input too"):
            Outputs([given]).add_file(name, (".json",))


def test_input_that_is_not_there_yet_is_refused_as_an_output_too(given: Path) -> None:
    with pytest.raises(InputError, match="is an input too"):
        Outputs([given.with_name("other.json")]).add_file(given.with_name("other.json"), (".json",))


def test_folder_that_an_input_lies_in_or_comes_from_by_a_link_is_refused(tmp_path: Path, given: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "stack.json").symlink_to(given)
    for folder in (given.parent, tmp_path / "links"):
        with pytest.raises(InputError, match="holds inputs"):
            Outputs([tmp_path / "links" / "stack.json"]).add_folder(folder, NUMBERED)


def test_one_file_for_two_outputs_is_refused(tmp_path: Path) -> None:
    outputs = Outputs([])
    outputs.add_file(tmp_path / "v.nii", (".nii",))
    with pytest.raises(InputError, match="two outputs"):
        outputs.add_file(tmp_path / "." / "v.nii", (".nii",))


def test_one_folder_for_two_outputs_is_refused_unless_their_files_are_named_differently(tmp_path: Path) -> None:
    outputs = Outputs([])
    outputs.add_folder(tmp_path / "a", NUMBERED)
    outputs.add_folder(tmp_path / "a", OTHERS)
    with pytest.raises(InputError, match="two folders"):
        outputs.add_folder(tmp_path / "a", NUMBERED)


@pytest.mark.parametrize("folder_first", [True, False])
def test_output_in_a_folder_of_outputs_is_refused(tmp_path: Path, folder_first: bool) -> None:
    (tmp_path / "a").mkdir()
    outputs = Outputs([])
    steps = [
        lambda: outputs.add_folder(tmp_path / "a", NUMBERED),
        lambda: outputs.add_file(tmp_path / "a" / "v.nii", (".nii",)),
    ]
    first, second = steps if folder_first else reversed(steps)
    first()
    with pytest.raises(InputError, match=r"v\.nii: lies in .*a, which is an output too"):
        second()


def test_folder_in_a_folder_of_outputs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for names in (("a", "a/b"), ("a/b", "a")):
        outputs = Outputs([])
        outputs.add_folder(tmp_path / names[0], NUMBERED)
        with pytest.raises(InputError, match="b: lies in"):
            outputs.add_folder(tmp_path / names[1], OTHERS)


def test_input_from_a_folder_with_old_and_new_files_mixed_is_refused(given: Path) -> None:
    (given.parent / UNFINISHED).mkdir()
    with pytest.raises(InputError, match="not finished"):
        Outputs([given])


def refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as refusal:
        Outputs([]).add_file(path, (".nii",))
    assert str(refusal.value).startswith(f"{path}: ")
    assert "; " in str(refusal.value)


def test_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path) -> None:
    refused(tmp_path / ("y" * 300 + ".nii"), "too long")
    refused(tmp_path / ("y" * 300) / "v.nii", "too long")
    Outputs([]).add_file(tmp_path / ("y" * (255 - 4) + ".nii"), (".nii",))
    with pytest.raises(InputError, match="too long"):
        Outputs([]).add_folder(tmp_path / ("y" * 300), NUMBERED)


def test_link_that_leads_nowhere_or_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dangling.nii").symlink_to(tmp_path / "none" / "v.nii")
    (tmp_path / "circle.nii").symlink_to(tmp_path / "circle.nii")
    refused(tmp_path / "dangling.nii", "leads nowhere")
    refused(tmp_path / "circle.nii", "in a circle")
    with pytest.raises(InputError, match="leads nowhere"):
        Outputs([]).add_folder(tmp_path / "dangling.nii", NUMBERED)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no devices in folders")
def test_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "null.nii").symlink_to("/dev/null")
    refused(tmp_path / "null.nii", "no file")


def test_write_protected_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.nii").touch(mode=0o444)
    refused(tmp_path / "v.nii", "write-protected")
    assert list(tmp_path.iterdir()) == [tmp_path / "v.nii"]


def test_one_failing_output_does_not_stop_the_others_and_is_named(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def folder(path: Path) -> None:
        with output_folder(path, NUMBERED) as files:
            (files / "0.txt").write_text("new")

    problem = r"a\.nii \(No space left on device\), .*c\.nii .*could not be written; "
    with pytest.raises(OutputError, match=problem), Outputs([]).writing() as write:
        write(tmp_path / "a.nii", full)
        write(tmp_path / "b.nii", lambda path: path.write_text("new"))
        write(tmp_path / "c.nii", full)
        write(tmp_path / "folder", folder)
        write(None, full)
    assert (tmp_path / "b.nii").read_text() == (tmp_path / "folder" / "0.txt").read_text() == "new"


def test_missing_folders_of_an_output_are_made_when_it_is_written(tmp_path: Path) -> None:
    outputs = Outputs([])
    outputs.add_file(tmp_path / "new" / "deep" / "b.nii", (".nii",))
    assert not (tmp_path / "new").exists()
    with outputs.writing() as write:
        write(tmp_path / "new" / "deep" / "b.nii", lambda path: path.write_text("new"))
    assert (tmp_path / "new" / "deep" / "b.nii").read_text() == "new"
