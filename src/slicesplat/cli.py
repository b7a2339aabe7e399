"""The command line: a command's dataclass becomes flags, a failure becomes one line and a status.

Status 0: done; 2: bad usage or bad input; 3: the verdict on what was written is fail, and ``--strict`` was given; 1:
anything else; 130, 143, 129: ended by SIGINT, SIGTERM, SIGHUP, in `slicesplat.interrupts`. A traceback only with
``--debug``.
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import io
import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import make_dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import tyro

import slicesplat
from slicesplat.errors import InputError, OutputError, VerdictError
from slicesplat.flags import join_repeated, several_values, without_unused, without_values
from slicesplat.nesvor_flags import RENAMED
from slicesplat.terminal import Messages, open_standard_streams, printable, written_to_stdout

if TYPE_CHECKING:
    from slicesplat.commands.base import BaseCommand

PROGRAM = "slicesplat"
DESCRIPTION = """Sharp 3-D volumes from motion-corrupted stacks of thick MR slices.

slicesplat COMMAND --help lists a command's flags; slicesplat --version prints the version."""

COMMANDS = {
    "reconstruct": "Reconstruct a volume from stacks of slices.",
    "register": "Find the pose of every slice and write it, without a volume.",
    "apply": "Reconstruct other data on motion that was found before: echoes, quantitative maps, labels.",
    "sample-volume": "Sample a model again: a volume of any resolution, in any orientation.",
    "sample-slices": "Show what a model predicts for slices, through their thickness, where they lie.",
    "assess": "Show how much each stack moved, what it covers and what it lost.",
    "segment-stack": "Write a mask of every stack: of the brain, found; or from a mask that is drawn, or thresholds.",
    "correct-bias-field": "Divide stacks by their bias fields, found by N4.",
    "export-dicom": "Write a volume as a series of DICOM images, for viewers and archives.",
    "bids": "Reconstruct the examinations of a data set in BIDS.",
    "view": "Look at a volume, a result, a model or a report, and at stacks beside it, in the browser.",
    "compare": "Compare two reconstructions: side by side, their difference, and how well each predicts the slices.",
    "animate": "Make a GIF or an MP4 of the snapshots that reconstruct --snapshots has written.",
    "batch": "Reconstruct many subjects, several at a time.",
    "simulate": "Simulate moved, noisy stacks from a known volume.",
    "evaluate": "Score a reconstruction against the known truth.",
    "demo": "Make a phantom, simulate stacks, reconstruct and score them.",
    "compile": "Compile the kernels now, while an image or an installation is made, so that no run has to.",
}
"""Command and summary; the command is the class `Command` of ``slicesplat.commands.<name>``."""

_BEFORE_THE_COMMAND = ("--verbose", "--quiet", "--debug")
_UNBROKEN = 100_000  # columns: more than any message has


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    args : sequence of str, optional
        Command and flags; those of the process when not given.

    Returns
    -------
    int
        The exit status.
    """
    args = list(sys.argv[1:] if args is None else args)
    open_standard_streams()
    debug = "--debug" in args
    try:
        command, notes = _parse(args)
        _collect_garbage()
        if command is not None:
            replace(command, given=(PROGRAM, *args)).run(notes)
        return 0
    except InputError as error:
        return _fail(2, str(error), debug)
    except OutputError as error:
        return _fail(1, str(error), debug)
    except VerdictError as error:
        return _fail(3, str(error), debug)
    except KeyboardInterrupt:
        return _fail(130, "interrupted", debug)
    except Exception as error:
        hint = "" if debug else "; --debug shows the traceback"
        return _fail(1, f"{type(error).__name__}: {error}{hint}", debug)


def _collect_garbage() -> None:
    """Have Python look for garbage again where the program has started without, but not among what was imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def load_command(name: str) -> type[BaseCommand]:
    """Import a command with everything that it needs."""
    module = import_module(f"slicesplat.commands.{name.replace('-', '_')}")
    command: type[BaseCommand] = module.Command
    return command


def _refuse_empty(name: str, flags: Sequence[str]) -> None:
    """An empty argument is a script's variable that is not set; as a path it would mean the current folder."""
    flag = name
    for argument in flags:
        key, given, value = argument.partition("=")
        if not argument.strip() or (key.startswith("--") and given and not value.strip()):
            raise InputError(f"{key.strip() or flag}: is empty; name a file or give a value")
        if argument.startswith("-"):
            flag = argument


def _parse(args: list[str]) -> tuple[BaseCommand | None, list[str]]:
    """The command with its flags, None when help or the version was asked for and given; and what is odd about them."""
    name, flags = _split(args)
    if name == "--version" and not flags:
        with written_to_stdout():
            sys.stdout.write(f"{PROGRAM} {slicesplat.__version__}\n")
        return None, []
    wants_help = bool({"-h", "--help"} & {name, *flags})
    if name in ("help", "-h", "--help"):
        name, flags = (flags or [""])[0], []
        name, wants_help = name if name in COMMANDS else "", True
    elif name not in COMMANDS:
        raise InputError(_no_command(name))
    # Only the command asked for is imported: the list of commands must not wait for a compiler.
    commands = {each: load_command(each) if each == name else _summary(each, text) for each, text in COMMANDS.items()}
    if wants_help:
        with written_to_stdout(), contextlib.suppress(SystemExit):
            _tyro(commands, [*([name] if name else []), "--help"])
        return None, []
    _refuse_empty(name, flags)
    flags, unused = without_unused(name, flags)
    several = several_values(commands[name])
    flags, notes = join_repeated(flags, several)
    if empty := without_values(flags, several):
        # A script's variable that is not set: masks would be looked for, subjects all be done.
        raise InputError(f"{empty[0]}: no value; give one or more")
    return _parsed(commands, name, flags), notes + unused


def _split(args: list[str]) -> tuple[str, list[str]]:
    """The command, "" for none, and its flags; what every command takes may stand before it too."""
    ahead = list(itertools.takewhile(lambda arg: arg in _BEFORE_THE_COMMAND, args))
    name, *flags = args[len(ahead) :] or [""]
    known = name.replace("_", "-")
    known = RENAMED.get(known, known)
    return known if known in COMMANDS else name, ahead + flags


def _no_command(name: str) -> str:
    if not name:
        return f"no command; give one of {', '.join(COMMANDS)}; see {PROGRAM} --help"
    if name.startswith("-"):
        return f"{name}: a command comes first, one of {', '.join(COMMANDS)}; see {PROGRAM} --help"
    near = difflib.get_close_matches(name.lower(), COMMANDS, n=1)
    guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
    return f"{name}: no such command; {guess}; see {PROGRAM} --help"


def _parsed(commands: dict[str, Any], name: str, flags: list[str]) -> BaseCommand:
    try:
        with _captured() as page:
            command: BaseCommand = _tyro(commands, [name, *flags])
    except SystemExit:
        problem = _first_part(page())
    except ValueError as error:
        # A settings class refuses a value that has the right type.
        problem = str(error)
    else:
        return command
    raise InputError(f"{problem}; see {PROGRAM} {name} --help")


def _tyro(commands: dict[str, Any], args: list[str]) -> Any:
    return tyro.extras.subcommand_cli_from_dict(
        commands, prog=PROGRAM, description=DESCRIPTION, args=args, config=(tyro.conf.FlagCreatePairsOff,)
    )


def _summary(name: str, text: str) -> type:
    return make_dataclass(name.capitalize(), [], namespace={"__doc__": text})


@contextlib.contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """Lend what tyro prints inside the block: the same on every terminal, with no line broken.

    tyro gives its messages in a frame only, drawn for the width of the terminal and the encoding of standard output.
    """
    page = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(_UNBROKEN)

    def text() -> str:
        page.seek(0)
        return page.read()

    try:
        with contextlib.redirect_stdout(page), contextlib.redirect_stderr(page):
            yield text
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _first_part(frame: str) -> str:
    """The first paragraph inside a frame, with what else is wrong and what might have been meant."""
    inner = [line.strip("│ ") for line in frame.splitlines() if not line.startswith(("╭", "╰"))]
    first, *others = re.split(r"─{3,}", " ".join(inner))
    parts = [first, *(other for other in others if other.strip().startswith("Unrecognized"))]
    meant = re.search(r"Perhaps you meant: +(--[\w-]+)", " ".join(others))
    if meant:
        parts.append(f"did you mean {meant[1]}?")
    return "; ".join(part.strip(" .") for part in parts) or "bad usage"


def _fail(status: int, message: str, debug: bool) -> int:
    if debug:
        _write(traceback.format_exc().splitlines())
    _write([f"{PROGRAM}: {' '.join(message.split())}"])
    return status


def _write(lines: Iterable[str]) -> None:
    """Write lines to standard error."""
    stream = Messages(sys.stderr)
    stream.writelines(f"{printable(line)}\n" for line in lines)
    stream.flush()
