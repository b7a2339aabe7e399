"""What is asked for arrives or is said to be lost; a message that cannot be written ends no run."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slicesplat.errors import InputError
from slicesplat.terminal import Messages, printable, written_to_stdout


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("stack 1.nii.gz", "stack 1.nii.gz"),
        ("Kopf-größe-脳.nii.gz", "Kopf-größe-脳.nii.gz"),
        ("\x1b[2J\x1b[31mred", r"\x1b[2J\x1b[31mred"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x9b31m", r"\x9b31m"),
        ("gz.\u202etxt", r"gz.\u202etxt"),
        ("\u2066hidden\u2069\u200b", r"\u2066hidden\u2069\u200b"),
        ("para\u2028graph", r"para\u2028graph"),
        (os.fsdecode(b"n\xf6.nii") if os.name == "posix" else "n\udcf6.nii", r"n\xf6.nii"),
        ("\U000e0041tag", r"\U000e0041tag"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(shown) == shown
    assert str(InputError(f"{name}: no such file; check the path")) == f"{shown}: no such file; check the path"


class Broken(io.StringIO):
    """A stream that cannot be written."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


LOST = [OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError(), ValueError("I/O operation on closed file")]


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_message_that_cannot_be_written_is_lost(error: Exception) -> None:
    stream = Messages(Broken(error))
    assert stream.write("text") == 4
    stream.flush()


def test_messages_without_standard_error_are_lost() -> None:
    stream = Messages(None)
    assert stream.write("text") == 4
    stream.flush()
    assert not stream.isatty() and stream.encoding == "ascii"


def test_output_that_cannot_be_written_is_a_failure_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match=r"standard output cannot be written \(No space left on device\)"), \
            written_to_stdout():  # fmt: skip
        pass


def test_reader_that_has_seen_enough_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError()))
    with written_to_stdout():
        pass


# --- the program's own streams


def program(*args: str, before: Callable[[], None] | None = None, **streams: object) -> tuple[int, str]:
    """Exit status of the command line, and what is on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "slicesplat", *args],
        **{"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, **streams},  # type: ignore[call-overload]
        preexec_fn=before,
        text=True,
    )
    return done.returncode, done.stderr or ""


posix = pytest.mark.skipif(os.name != "posix", reason="no descriptors to close")
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


@posix
def test_closed_output_is_a_failure_in_one_line() -> None:
    status, err = program("--help", before=lambda: os.close(1))
    assert status == 1
    assert err.startswith("slicesplat: ") and "standard output cannot be written" in err and err.count("\n") == 1


@full
def test_full_disk_under_output_is_a_failure_in_one_line() -> None:
    with open("/dev/full", "w") as device:
        status, err = program("--version", stdout=device)
    assert status == 1
    assert "standard output cannot be written" in err and err.count("\n") == 1


@posix
def test_pipe_that_nobody_reads_is_no_failure() -> None:
    read, write = os.pipe()
    os.close(read)
    assert program("--help", stdout=write) == (0, "")
    os.close(write)


@posix
@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)])
def test_bad_usage_has_its_status_when_nobody_can_be_told(closed: tuple[int, ...]) -> None:
    status, err = program("nonsense", before=lambda: [os.close(number) for number in closed] and None)
    assert (status, err) == (2, "")


@full
def test_bad_usage_has_its_status_when_messages_go_to_a_full_disk() -> None:
    with open("/dev/full", "w") as device:
        assert program("nonsense", stderr=device)[0] == 2


@posix
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import os, sys; from slicesplat.terminal import open_standard_streams; open_standard_streams(); "
        "number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT); os._exit(number)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "volume.nii")],
        preexec_fn=lambda: [os.close(number) for number in (0, 1, 2)] and None,
    )
    assert done.returncode > 2


@pytest.mark.parametrize(("encoding", "columns"), [("ascii", "20"), ("cp1252", "80"), ("utf-8", "500")])
def test_usage_error_is_the_same_line_on_every_terminal(encoding: str, columns: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": columns}
    done = subprocess.run(
        [sys.executable, "-m", "slicesplat", "export-dicom", "volume.nii.gz", "--nonsense"],
        capture_output=True,
        env=env,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "slicesplat: Missing from slicesplat export-dicom: --output PATH Folder for the images, 0001.dcm and so on, "
        "axial from the feet to the head. (required); Unrecognized options: --nonsense; "
        "see slicesplat export-dicom --help\n"
    )


def test_help_is_shown_on_a_terminal_that_knows_ascii_only() -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "slicesplat", "--help"], capture_output=True, env=env, check=True)
    assert b"reconstruct" in done.stdout and done.stdout.isascii()
