"""A signal ends the program with one line, a status that names it, and no temporary file, whatever it is doing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slicesplat.interrupts import Uninterrupted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a signal")

STATUSES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
BEGIN = "import os, signal, sys, time; from slicesplat import interrupts; interrupts.catch(); interrupts.watch(); "
READY = "print('ready', flush=True); "


def ended(code: str, name: str, *shell: str) -> tuple[int, str]:
    """Status and stderr of a program that gets a signal once it has printed a line."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*shell, sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[name])
        message = process.communicate(timeout=60)[1]
        return process.returncode, message


@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_signal_ends_the_program_with_one_line_and_its_status(name: str, status: int) -> None:
    assert ended(BEGIN + READY + "time.sleep(60)", name) == (status, f"slicesplat: interrupted ({name})\n")


def test_temporary_files_go_with_the_program(tmp_path: Path) -> None:
    target = tmp_path / "volume.txt"
    target.write_text("old")
    write = f"from slicesplat.io.atomic import atomic_path\nwith atomic_path({str(target)!r}) as path:\n"
    code = BEGIN + write + "    path.write_text('half'); " + READY + "time.sleep(60)"
    assert ended(code, "SIGTERM")[0] == 143
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_native_code_does_not_hold_a_signal_up() -> None:
    # Releases the interpreter's lock, but comes back to it only after minutes.
    code = BEGIN + "import hashlib; " + READY + "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
    start = time.monotonic()
    assert ended(code, "SIGTERM") == (143, "slicesplat: interrupted (SIGTERM)\n")
    assert time.monotonic() - start < 10


def test_signal_that_the_parent_process_ignores_stays_ignored() -> None:
    code = BEGIN + READY + "time.sleep(0.3); print('finished')"
    assert ended(code, "SIGHUP", "sh", "-c", 'trap "" HUP; exec "$@"', "sh") == (0, "")


def test_signal_after_the_end_of_a_run_does_not_change_its_status() -> None:
    assert ended(BEGIN + "interrupts.release(); " + READY + "time.sleep(0.3); sys.exit(2)", "SIGTERM") == (2, "")


@pytest.mark.skipif(sys.platform != "linux", reason="looks up in /proc whether the handler is there")
@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_signal_during_the_first_imports_ends_the_program_the_same_way(name: str, status: int) -> None:
    bit = 1 << (signal.Signals[name] - 1)
    with subprocess.Popen([sys.executable, "-m", "slicesplat", "--help"], stderr=subprocess.PIPE, text=True) as process:
        # Python's own handler, of SIGINT, is there before; that of SIGHUP is the last of ours.
        last = 1 << (signal.SIGHUP - 1)
        while process.poll() is None:
            caught = re.search(r"SigCgt:\t(\w+)", Path(f"/proc/{process.pid}/status").read_text())
            if caught and int(caught[1], 16) & bit and int(caught[1], 16) & last:
                break
        process.send_signal(signal.Signals[name])
        message = process.communicate()[1]
    assert (process.returncode, message) == (status, f"slicesplat: interrupted ({name})\n")


def test_signal_waits_for_what_must_not_be_cut_off() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with Uninterrupted():
            signal.raise_signal(signal.SIGINT)
            steps.append("inside")
        steps.append("after")
    assert steps == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
