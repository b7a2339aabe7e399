"""The program starts without looking for garbage, and ends as any program does, only sooner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

START = "import atexit, gc, sys, threading, time; from slicesplat import __main__ as program; "


def run(code: str, *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of the program begun by a piece of code."""
    made = subprocess.run([sys.executable, "-c", START + code, *arguments], capture_output=True, text=True, check=False)
    return made.returncode, made.stdout, made.stderr


def test_garbage_is_looked_for_again_once_the_command_is_there() -> None:
    code = "before = gc.isenabled(); program.main(); print(before, gc.isenabled(), gc.get_freeze_count() > 10_000)"
    assert run(code, "--version")[1].splitlines()[1:] == ["False True True"]


@pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["assess", "--nonsense"], 2)])
def test_what_waits_for_the_end_is_done(arguments: list[str], status: int, tmp_path: Path) -> None:
    left = tmp_path / "left.txt"
    write = f"open({str(left)!r}, 'a').write"
    later = f"time.sleep(0.2); {write}('thread '); atexit.register(lambda: {write}('library'))"
    code = (
        f"threading.Thread(target=lambda: exec({later!r})).start(); "
        "print('unflushed', end=''); sys.exit(program.main())"
    )
    got, out, err = run(code, *arguments)
    assert (got, left.read_text()) == (status, "thread library")
    assert out.startswith("unflushed")
    assert bool(err) == bool(status)


def test_a_failure_of_the_program_itself_is_told_by_python() -> None:
    status, _, message = run("program.interrupts.watch = lambda: 1 / 0; sys.exit(program.main())")
    assert status == 1
    assert "ZeroDivisionError" in message
