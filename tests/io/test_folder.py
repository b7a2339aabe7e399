"""A folder of outputs is replaced whole or not at all, and nothing in it that a run of ours did not write."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import slicesplat.io.folder
from slicesplat.errors import InputError
from slicesplat.io.atomic import PREFIX
from slicesplat.io.folder import MANIFEST, UNFINISHED, check_finished, check_owned, is_intact, output_folder

OWNED = re.compile(r"\d+\.txt")


def write(folder: Path, *numbers: int, content: str = "new") -> None:
    with output_folder(folder, OWNED) as files:
        for number in numbers:
            (files / f"{number}.txt").write_text(content)


def texts(folder: Path) -> dict[str, str]:
    """The results in a folder, without what is only the program's."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != MANIFEST and path.is_file()}


def nothing_is_left(folder: Path) -> bool:
    return not list(folder.rglob(f"{PREFIX}*"))


@pytest.fixture(params=["in one step", "file by file"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an earlier output, replaced in either way."""
    if request.param == "file by file":
        monkeypatch.setattr(slicesplat.io.folder, "_exchange", lambda one, other: False)
    write(tmp_path / "out", 0, 1, 2, content="old")
    return tmp_path / "out"


def test_later_output_replaces_the_earlier_one_whole(folder: Path) -> None:
    write(folder, 1, 3)
    assert texts(folder) == {"1.txt": "new", "3.txt": "new"}
    assert nothing_is_left(folder.parent)


def test_failure_leaves_the_earlier_output_and_nothing_else(folder: Path) -> None:
    with pytest.raises(OSError, match="full"), output_folder(folder, OWNED) as files:
        (files / "0.txt").write_text("half")
        raise OSError("full")
    assert texts(folder) == dict.fromkeys(["0.txt", "1.txt", "2.txt"], "old")
    assert nothing_is_left(folder.parent)


def test_failure_leaves_no_folder_where_none_was(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), output_folder(tmp_path / "out", OWNED):
        raise OSError("full")
    assert not list(tmp_path.iterdir())


def test_other_files_and_folders_stay(folder: Path) -> None:
    (folder / "notes.md").write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / "5.txt").write_text("mine")
    write(folder, 0)
    assert (folder / "sub" / "5.txt").read_text() == "mine"
    assert texts(folder) == {"0.txt": "new", "notes.md": "mine"}
    assert nothing_is_left(folder.parent)


def added(folder: Path) -> None:
    (folder / "7.txt").write_text("mine")


def changed(folder: Path) -> None:
    (folder / "1.txt").write_text("mine")


def without_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def damaged_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def folder_in_the_way(folder: Path) -> None:
    (folder / "7.txt").mkdir()


@pytest.mark.parametrize("make", [added, changed, without_manifest, damaged_manifest, folder_in_the_way])
def test_folder_with_another_ones_file_of_such_a_name_is_left_alone(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder)
    before = sorted((path.name, path.is_file() and path.read_text()) for path in folder.iterdir())
    with pytest.raises(InputError, match=r"holds \d\.txt.*name another folder"):
        check_owned(folder, OWNED)
    with pytest.raises(OSError, match="not an earlier run's"):
        write(folder, 0)
    assert sorted((path.name, path.is_file() and path.read_text()) for path in folder.iterdir()) == before


def test_manifest_cannot_name_what_lies_outside(folder: Path) -> None:
    outside = folder.parent / "9.txt"
    outside.write_text("old")
    files = json.loads((folder / MANIFEST).read_text())["files"]
    (folder / MANIFEST).write_text(json.dumps({"files": {**files, "../9.txt": files["0.txt"]}}))
    write(folder, 0)
    assert outside.read_text() == "old"


def test_outputs_with_other_names_live_side_by_side(folder: Path) -> None:
    with output_folder(folder, re.compile(r"\d+\.tfm")) as files:
        (files / "0.tfm").write_text("new")
    write(folder, 0)
    check_owned(folder, re.compile(r".*\.(txt|tfm)"))
    assert texts(folder) == {"0.txt": "new", "0.tfm": "new"}


def test_file_that_comes_in_at_the_last_moment_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = slicesplat.io.folder._exchange

    def late(one: Path, other: Path) -> bool:
        (other / "notes.md").write_text("mine")
        return exchange(one, other)

    monkeypatch.setattr(slicesplat.io.folder, "_exchange", late)
    write(folder, 0)
    assert texts(folder) == {"0.txt": "new", "notes.md": "mine"}


def test_link_to_a_folder_is_followed(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    write(folder.parent / "link", 0)
    assert (folder.parent / "link").is_symlink()
    assert texts(folder) == {"0.txt": "new"}


def test_folder_keeps_its_permissions(folder: Path) -> None:
    folder.chmod(0o750)
    write(folder, 0)
    assert folder.stat().st_mode & 0o777 == 0o750


def test_current_folder_stays_the_current_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    write(Path("."), 0)
    assert texts(Path(os.curdir)) == {"0.txt": "new"}


# --- killed while the files are moved one by one

KILLED_AT = """
import os, sys
from pathlib import Path
import slicesplat.io.folder as folder
from slicesplat.io.folder import output_folder
import re
steps = 0
def killed(function):
    def step(*args, **kwargs):
        global steps
        steps += 1
        if steps > int(sys.argv[2]):
            os._exit(9)
        return function(*args, **kwargs)
    return step
folder._exchange = lambda one, other: False
with output_folder(sys.argv[1], re.compile(r"\\d+\\.txt")) as files:
    for number in (1, 3, 4):
        (files / f"{number}.txt").write_text("new")
    for name in ("unlink", "rename", "rmdir"):
        setattr(Path, name, killed(getattr(Path, name)))
    os.replace = killed(os.replace)
"""


@pytest.mark.parametrize("steps", range(10))
def test_mixture_that_a_killed_run_left_is_not_read_and_is_resolved_by_the_next(tmp_path: Path, steps: int) -> None:
    folder = tmp_path / "out"
    write(folder, 0, 1, 2, content="old")
    (folder / "notes.md").write_text("mine")
    old, new = dict.fromkeys(["0.txt", "1.txt", "2.txt"], "old"), dict.fromkeys(["1.txt", "3.txt", "4.txt"], "new")
    arguments = [sys.executable, "-c", KILLED_AT, str(folder), str(steps)]
    killed = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert killed.returncode in (0, 9), killed.stderr
    left = {name: text for name, text in texts(folder).items() if name != "notes.md"}
    if left not in (old, new):
        with pytest.raises(InputError, match="not finished"):
            check_finished(folder)
    check_owned(folder, OWNED)
    assert not (folder / UNFINISHED).exists()
    check_finished(folder)
    assert texts(folder) in ({**old, "notes.md": "mine"}, {**new, "notes.md": "mine"})
    write(folder, 5)
    assert texts(folder) == {"5.txt": "new", "notes.md": "mine"}
    assert nothing_is_left(tmp_path)


def test_a_folder_is_intact_while_all_is_there_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert not is_intact(folder)
    write(folder, 0, 1)
    (folder / "notes.md").write_text("somebody's")
    assert is_intact(folder)
    (folder / "1.txt").write_text("edited")
    assert not is_intact(folder)
    (folder / "1.txt").unlink()
    assert not is_intact(folder)
    write(folder, 0, 1)
    (folder / UNFINISHED).mkdir()
    assert not is_intact(folder)
