"""Flags as they are given, before they are parsed.

A flag that is given more than once: where it takes several values they are joined, where one, the last counts. Parsers
keep the last of either kind and say nothing: a stack would be left out, a seed not be the one that was meant. Flags of
NeSVoR that mean nothing here are taken out, and one sentence says what happens instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import tyro

from slicesplat.nesvor_flags import MANY_VALUES, NO_VALUE, SAID_HERE, UNUSED

_SHORT = re.compile(r"-[a-z]")
"""A flag of one letter; a number may begin with a dash too."""


def several_values(command: type[Any]) -> set[str]:
    """The flags of a command's dataclass that take any number of values; a field that is no flag is not among them."""
    types, marked = get_type_hints(command), get_type_hints(command, include_extras=True)
    flags = [field.name for field in fields(command) if not is_no_flag(marked[field.name])]
    return {_flag(name) for name in flags if get_origin(types[name]) is tuple}


def is_no_flag(annotation: Any) -> bool:
    """Whether a field of this type is none: it has no name on the command line, or is not on it."""
    marks = {get_args(each)[1] for each in (tyro.conf.Suppress[bool], tyro.conf.Positional[bool])}
    return bool(marks & set(get_args(annotation)[1:]))


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
    ahead, groups, rest = _grouped(args)
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
    return [*ahead, *(word for group in kept.values() for word in group), *rest], notes


def without_values(args: list[str], several: set[str]) -> list[str]:
    """The flags that take any number of values, and are given none.

    Parameters
    ----------
    args, several
        As for `join_repeated`.

    Examples
    --------
    >>> without_values(["--masks", "--seed", "1", "--stacks", "a"], {"--masks", "--stacks"})
    ['--masks']
    """
    return [name for group in _grouped(args)[1] if (name := _flag(group[0])) in several and not _values(group)]


def without_unused(command: str, args: list[str]) -> tuple[list[str], list[str]]:
    """The arguments in our own flags, and a sentence about those that are not used, if there are any.

    Parameters
    ----------
    command : str
    args : list of str
        Flags of it and their values, as NeSVoR has them.

    Examples
    --------
    >>> without_unused("reconstruct", ["--n-iter", "5000", "--seed", "1", "--verbose", "0", "--batch-size=8"])
    (['--seed', '1', '--quiet'], ['--n-iter, --batch-size: not used, the fit stops by itself'])
    """
    ahead, groups, rest = _grouped(args)
    kept: list[str] = []
    told: dict[str, list[str]] = {}
    for group in groups:
        words, sentence = _said_here(command, group)
        kept += words
        if sentence:
            told.setdefault(sentence, [])
            told[sentence] += [_flag(group[0])] * (_flag(group[0]) not in told[sentence])
    parts = [f"{', '.join(names)}: {sentence}" for sentence, names in told.items()]
    return [*ahead, *kept, *rest], ["; ".join(parts)] * bool(parts)


def _said_here(command: str, group: list[str]) -> tuple[list[str], str]:
    """A flag and its values in our own flags, and what to tell about it."""
    name, values = _flag(group[0]), _values(group)
    known = SAID_HERE.get((name, " ".join(values)))
    if known is not None:
        return list(known[0]), f"not used, {known[1]}" if known[1] else ""
    if name in UNUSED.get(command, {}):
        taken = 0 if name in NO_VALUE else len(values) if name in MANY_VALUES else 1
        instead = UNUSED[command][name]
        # What does not belong to it is left for the parser to refuse.
        return values[taken:], f"not used, {instead}" if instead else ""
    if name in _REWRITTEN and len(values) == 1:
        return _REWRITTEN[name](name, values[0])
    return group, ""


def _device(name: str, value: str) -> tuple[list[str], str]:
    """NeSVoR numbers its GPUs, and takes the CPU for a negative number."""
    if not value.lstrip("-").isdecimal():
        return [name, value], ""
    if int(value) < 0:
        return [name, "cpu"], ""
    return [name, "auto"], "" if int(value) == 0 else "the first GPU is used; CUDA_VISIBLE_DEVICES names another"


def _model(name: str, value: str) -> tuple[list[str], str]:
    """NeSVoR's models are pickles, which run whatever is in them."""
    if not value.endswith(".pt"):
        return [name, value], ""
    return [name, _renamed(value)], f"written as {_renamed(value)}, a model of another kind, never as .pt"


def _model_read(name: str, value: str) -> tuple[list[str], str]:
    """What `_model` has called otherwise is found by the name that it was given."""
    there = value.endswith(".pt") and Path(_renamed(value)).is_file() and not Path(value).exists()
    return ([name, _renamed(value)], f"{_renamed(value)} is read") if there else ([name, value], "")


def _renamed(model: str) -> str:
    return f"{model.removesuffix('.pt')}.safetensors"


_REWRITTEN: dict[str, Callable[[str, str], tuple[list[str], str]]] = {
    "--device": _device,
    "--output-model": _model,
    "--input-model": _model_read,
}


def _grouped(args: list[str]) -> tuple[list[str], list[list[str]], list[str]]:
    """What stands before the first flag, every flag with the words after it, and what stands from a ``--`` on."""
    end = args.index("--") if "--" in args else len(args)
    ahead: list[str] = []
    groups: list[list[str]] = []
    for arg in args[:end]:
        if arg.startswith("--") or _SHORT.fullmatch(arg):
            groups.append([arg])
        else:
            (groups[-1] if groups else ahead).append(arg)
    return ahead, groups, args[end:]


def _flag(word: str) -> str:
    """The name of a flag, however it is written: --stack_masks=a is --stack-masks."""
    return "--" + word.removeprefix("--").partition("=")[0].replace("_", "-")


def _values(group: list[str]) -> list[str]:
    """What follows a flag, behind an equals sign or after it."""
    _, equals, value = group[0].partition("=")
    return [value] * bool(equals) + group[1:]
