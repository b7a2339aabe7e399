"""The command line: a command's dataclass becomes flags, a failure becomes one line and a status.

Status 0: done; 2: bad usage or bad input; 1: anything else; 130, 143, 129: ended by SIGINT, SIGTERM, SIGHUP, in
`slicesplat.interrupts`. A traceback only with ``--debug``.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import make_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import tyro

import slicesplat
from slicesplat.errors import InputError, OutputError

if TYPE_CHECKING:
    from slicesplat.commands.base import BaseCommand

PROGRAM = "slicesplat"
DESCRIPTION = """Sharp 3-D volumes from motion-corrupted stacks of thick MR slices.

slicesplat COMMAND --help lists a command's flags; slicesplat --version prints the version."""

COMMANDS = {
    "reconstruct": "Reconstruct a volume from stacks of slices.",
    "register": "Find the pose of every slice and write it, without a volume.",
    "assess": "Show how much each stack moved, what it covers and what it lost.",
    "correct-bias-field": "Divide stacks by their bias fields, found by N4.",
    "simulate": "Simulate moved, noisy stacks from a known volume.",
    "evaluate": "Score a reconstruction against the known truth.",
    "demo": "Make a phantom, simulate stacks, reconstruct and score them.",
}
"""Command and summary; the command is the class `Command` of ``slicesplat.commands.<name>``."""


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
    if args == ["--version"]:
        sys.stdout.write(f"{PROGRAM} {slicesplat.__version__}\n")
        return 0
    debug = "--debug" in args
    try:
        _refuse_empty(args)
        command = _parse(args)
        if command is not None:
            command.run()
        return 0
    except InputError as error:
        return _fail(2, str(error), debug)
    except OutputError as error:
        return _fail(1, str(error), debug)
    except KeyboardInterrupt:
        return _fail(130, "interrupted", debug)
    except Exception as error:
        hint = "" if debug else "; --debug shows the traceback"
        return _fail(1, f"{type(error).__name__}: {error}{hint}", debug)


def load_command(name: str) -> type[BaseCommand]:
    """Import a command with everything that it needs."""
    module = import_module(f"slicesplat.commands.{name.replace('-', '_')}")
    command: type[BaseCommand] = module.Command
    return command


def _refuse_empty(args: Sequence[str]) -> None:
    """An empty argument is a script's variable that is not set; as a path it would mean the current folder."""
    flag = "command"
    for argument in args:
        name, given, value = argument.partition("=")
        if not argument.strip() or (name.startswith("--") and given and not value.strip()):
            raise InputError(f"{name.strip() or flag}: is empty; name a file or give a value")
        if argument.startswith("-"):
            flag = argument


def _parse(args: list[str]) -> BaseCommand | None:
    """The command with its flags; None when help was asked for and given."""
    # Only the command asked for is imported: the list of commands must not wait for a compiler.
    commands: dict[str, Any] = {
        name: load_command(name) if args[:1] == [name] else _summary(name, text) for name, text in COMMANDS.items()
    }
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            parsed: BaseCommand = tyro.extras.subcommand_cli_from_dict(
                commands,
                prog=PROGRAM,
                description=DESCRIPTION,
                args=args,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        raise InputError(f"{_first_part(messages.getvalue())}; see {_help_of(args)}") from None
    except ValueError as error:
        # A settings class refuses a value that has the right type.
        raise InputError(f"{error}; see {_help_of(args)}") from error
    return parsed


def _help_of(args: list[str]) -> str:
    return " ".join([PROGRAM, *(name for name in args[:1] if name in COMMANDS), "--help"])


def _summary(name: str, text: str) -> type:
    return make_dataclass(name.capitalize(), [], namespace={"__doc__": text})


def _first_part(box: str) -> str:
    """The first paragraph inside the frame that tyro draws around a message."""
    inner = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    text = " ".join(inner)
    return re.split(r"─{3,}", text)[0].strip(" .") or "bad usage"


def _fail(status: int, message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"{PROGRAM}: {' '.join(message.split())}\n")
    return status
