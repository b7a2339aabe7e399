"""Flags that are given more than once: where a flag takes several values they are joined, where one, the last counts.

Parsers keep the last of either kind and say nothing: a stack would be left out, a seed not be the one that was meant.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_origin, get_type_hints


def several_values(command: type[Any]) -> set[str]:
    """The flags of a command's dataclass that take any number of values."""
    types = get_type_hints(command)
    return {_flag(field.name) for field in fields(command) if get_origin(types[field.name]) is tuple}


def join_repeated(args: list[str], several: set[str]) -> tuple[list[str], list[str]]:
    """The arguments with each flag but once, and a sentence about every value that does not count.

    Parameters
    ----------
    args : list of str
        Flags and their values, without the command.
    several : set of str
        The flags that take any number of values, with their dashes.

    Examples
    --------
    >>> join_repeated(["--masks", "a", "b", "--seed", "1", "--masks=c", "--seed=2"], {"--masks"})
    (['--masks', 'a', 'b', 'c', '--seed=2'], ['--seed is given more than once: 2 is taken, not 1'])
    """
    end = args.index("--") if "--" in args else len(args)
    ahead: list[str] = []
    groups: list[list[str]] = []  # a flag as it is written, and the words after it
    for arg in args[:end]:
        if arg.startswith("--"):
            groups.append([arg])
        else:
            (groups[-1] if groups else ahead).append(arg)
    kept: dict[str, list[str]] = {}
    notes = []
    for group in groups:
        name = _flag(group[0])
        if name in kept and name in several:
            kept[name] += _values(group)
            continue
        if name in kept and _values(group) != _values(kept[name]):
            taken, lost = (" ".join(_values(each)) for each in (group, kept[name]))
            notes.append(f"{name} is given more than once: {taken} is taken, not {lost}")
        kept[name] = group
    return [*ahead, *(word for group in kept.values() for word in group), *args[end:]], notes


def _flag(word: str) -> str:
    """The name of a flag, however it is written: --stack_masks=a is --stack-masks."""
    return "--" + word.removeprefix("--").partition("=")[0].replace("_", "-")


def _values(group: list[str]) -> list[str]:
    """What follows a flag, behind an equals sign or after it."""
    _, equals, value = group[0].partition("=")
    return [value] * bool(equals) + group[1:]
