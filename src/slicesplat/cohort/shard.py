"""A part of a cohort, for plain job arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from slicesplat.errors import InputError

T = TypeVar("T")
_SHARD = re.compile(r"(\d+)/(\d+)", re.ASCII)


def shard(everything: Sequence[T], which: str) -> list[T]:
    """Every n-th of all, from the i-th on.

    Parameters
    ----------
    everything : sequence
    which : str
        ``i/n``, i from 1.

    Raises
    ------
    InputError
        It is no such text.

    Examples
    --------
    >>> shard("abcde", "2/3")
    ['b', 'e']
    """
    match = _SHARD.fullmatch(which)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise InputError(f"--shard {which}: is no part of a whole; give i/n, as in 2/8, i from 1 to n")
    return list(everything[part - 1 :: parts])
