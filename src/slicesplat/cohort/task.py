"""One subject of a cohort as a command line, run in a process of its own, and the record of what it made.

A record says what a subject's files were made of, and what they are. Where both are still so, nothing is left to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from slicesplat.cohort.content import digest_of
from slicesplat.cohort.figures import Figures, figures_of
from slicesplat.cohort.lock import Locked, locked
from slicesplat.errors import InputError
from slicesplat.io.files import file_hash, load_json, save_json
from slicesplat.io.inputs import check_input
from slicesplat.version import __version__

JOURNAL = ".slicesplat-batch"
"""Folder of records and locks in the folder of outputs; those who read data sets pass over what begins with a dot."""
State = Literal["written", "there", "failed", "elsewhere"]


@dataclass(frozen=True)
class Made:
    """Where the files of a subject are, below the folder of outputs.

    Attributes
    ----------
    volume : str
    about : str
        JSON with verdict, slices and steps.
    report : str
        The report; it need not be there.
    patterns : tuple of str
        Of all that is made.
    """

    volume: str
    about: str
    report: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A subject of a cohort.

    Attributes
    ----------
    name : str
        What it is called, a plain file name.
    arguments : tuple of str
        Of the program, without the number of threads.
    inputs : tuple of Path
        What is read.
    options : str
        What else the result depends on, as text.
    root : Path
        The folder of outputs.
    made : Made
    stacks, masks : tuple of Path
        Those of the inputs that the memory follows from.
    memory : float
        Bytes that it is expected to take; 0 where that is not known.
    problem : str
        Why it cannot even be tried.
    """

    name: str
    arguments: tuple[str, ...]
    inputs: tuple[Path, ...]
    options: str
    root: Path
    made: Made
    stacks: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()
    memory: float = 0.0
    problem: str = ""

    @property
    def record(self) -> Path:
        """Where the record is."""
        return self.root / JOURNAL / f"{self.name}.json"


@dataclass(frozen=True)
class Record:
    """What is known of a subject that is done.

    Attributes
    ----------
    content : str
        Hash of what it was made of: inputs, options, version.
    files : dict
        Hash of every file that was made, by its name below the folder of outputs.
    seconds : float
        That it took, start of the process included.
    figures : Figures
    """

    content: str
    files: dict[str, str]
    seconds: float
    figures: Figures

    @classmethod
    def load(cls, path: Path) -> Record | None:
        """What a file says; None where there is none, or it is no record."""
        try:
            found = load_json(path)
            known = {each.name for each in fields(Figures)}
            figures = Figures(**{key: value for key, value in found["figures"].items() if key in known})
            return cls(str(found["content"]), dict(found["files"]), float(found["seconds"]), figures)
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def holds(self, root: Path) -> bool:
        """Whether all files are still as they were made."""
        try:
            return all(file_hash(root / name) == digest for name, digest in self.files.items())
        except OSError:
            return False


@dataclass(frozen=True)
class Outcome:
    """What became of a subject.

    Attributes
    ----------
    name : str
    state : {"written", "there", "failed", "elsewhere"}
        there: it was done already; elsewhere: another run is at it.
    error : str
        What it failed of, in one line.
    record : Record or None
    """

    name: str
    state: State
    error: str = ""
    record: Record | None = field(default=None, compare=False)


def run(task: Task, threads: int, environment: dict[str, str] | None = None) -> Outcome:
    """Do a subject, unless it is done: in a process of its own, that ends when this one does.

    Nothing is raised for a subject that fails: its outcome says why.
    """
    try:
        with locked(task.record.with_suffix(".lock")):
            return _done(task, threads, environment)
    except Locked:
        return Outcome(task.name, "elsewhere", "another run is at it")
    except (InputError, OSError) as error:
        return Outcome(task.name, "failed", _without_folders(str(error), task))


def found(task: Task) -> Record | None:
    """The record of a subject whose files are there; whether they are of the same inputs is not looked at."""
    record = Record.load(task.record)
    return record if record is not None and all((task.root / name).is_file() for name in record.files) else None


def content_of(task: Task) -> str:
    """Hash of what a subject's result depends on. Where the files lie does not count: a study may be moved.

    Raises
    ------
    InputError
        An input is not there.
    """
    for path in task.inputs:
        check_input(path)
    digest = digest_of(task.inputs)
    digest.update(f"{task.options}\0{__version__}".encode())
    return digest.hexdigest()


def _done(task: Task, threads: int, environment: dict[str, str] | None) -> Outcome:
    if task.problem:
        return Outcome(task.name, "failed", _without_folders(task.problem, task))
    content = content_of(task)
    record = Record.load(task.record)
    if record is not None and record.content == content and record.holds(task.root):
        return Outcome(task.name, "there", record=record)
    start = time.monotonic()
    problem = _started([*task.arguments, "--threads", str(threads)], environment)
    if problem:
        return Outcome(task.name, "failed", _without_folders(problem, task))
    made = _made(task.root, task.made.patterns)
    figures = figures_of(task.root / task.made.about, task.root / task.made.volume)
    record = Record(content, made, round(time.monotonic() - start, 2), figures)
    save_json(asdict(record), task.record)
    return Outcome(task.name, "written", record=record)


def _started(arguments: list[str], environment: dict[str, str] | None) -> str:
    """Run the program; "" or what it failed of."""
    # The pipe to its input tells it that this process is gone; nothing is ever written to it.
    child = subprocess.Popen(
        [sys.executable, "-m", "slicesplat.cohort.child", *arguments, "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert child.stderr is not None and child.stdin is not None
    told = child.stderr.read().decode(errors="replace").splitlines()
    status = child.wait()
    with suppress(OSError):
        child.stdin.close()
    if status == 0:
        return ""
    said = [line.removeprefix("slicesplat: ") for line in told if line.startswith("slicesplat: ")]
    if said:
        return said[-1]
    if status < 0:
        return f"its process was ended by signal {-status}; if memory ran out, let fewer run at once by --memory"
    return f"its process ended with status {status}"


def _without_folders(text: str, task: Task) -> str:
    """A message in one line, files by their names alone: the overview may leave this machine."""
    for path in task.inputs:
        text = text.replace(str(path), path.name)
    return " ".join(text.replace(f"{task.root}{os.sep}", "").split())


def _made(root: Path, patterns: Iterable[str]) -> dict[str, str]:
    """The hashes of what is there."""
    files = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
    return {path.relative_to(root).as_posix(): file_hash(path) for path in files}


def options_text(options: dict[str, Any]) -> str:
    """Options as text that does not depend on their order."""
    return json.dumps(options, sort_keys=True, default=str)
