"""What a run reads and what it is to write: no output takes the place of an input or of another output."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from slicesplat.errors import InputError, OutputError
from slicesplat.io.files import check_output, check_output_folder
from slicesplat.io.folder import check_finished, check_owned

Write: TypeAlias = "Callable[[Path | None, Callable[[Path], object]], None]"


class Outputs:
    """The outputs of a run, checked one by one before its work, then written.

    Parameters
    ----------
    inputs : iterable of paths
        Every file that is read, and every one that would be if it were there.

    Raises
    ------
    InputError
        An input lies in a folder where a run has left old and new files mixed.
    """

    def __init__(self, inputs: Iterable[Path]) -> None:
        self._inputs = list(inputs)
        self._files: list[Path] = []
        self._folders: list[tuple[Path, re.Pattern[str]]] = []
        for folder in dict.fromkeys(path.parent for path in self._inputs):
            check_finished(folder)

    def reading(self, path: Path) -> Outputs:
        """The same, with one more file that is read."""
        check_finished(path.parent)
        self._inputs.append(path)
        return self

    def add_file(self, path: Path | None, suffixes: Sequence[str]) -> None:
        """Check a file that is to be written; None passes.

        Raises
        ------
        InputError
            It could not be written, it is an input or another output, or it lies in a folder of outputs.
        """
        if path is None:
            return
        check_output(path, suffixes)
        if any(_is_same(path, given) for given in self._inputs):
            raise InputError(f"{path}: is an input too and would be overwritten; name another output")
        if any(_is_same(path, other) for other in self._files):
            raise InputError(f"{path}: is named for two outputs; name another file for one of them")
        for folder, _ in self._folders:
            _refuse_nested(path, folder)
        self._files.append(path)

    def add_folder(self, path: Path | None, owned: re.Pattern[str]) -> None:
        """Check a folder whose files, named as `owned` says, are to be written; None passes.

        Raises
        ------
        InputError
            It could not be written, an input lies in it, it lies in another output or the other way round, it is to
            hold the same kind of output twice, or it holds files of these names that no earlier run wrote.
        """
        if path is None:
            return
        check_output_folder(path)
        if any(_is_same(path, folder) for given in self._inputs for folder in (given.parent, _real(given).parent)):
            raise InputError(f"{path}: holds inputs, which could be overwritten; name another folder")
        for other, owned_there in self._folders:
            if not _is_same(path, other):
                _refuse_nested(path, other)
                _refuse_nested(other, path)
            elif owned == owned_there:
                raise InputError(f"{path}: is named for two outputs with the same file names; name two folders")
        for file in self._files:
            _refuse_nested(file, path)
        check_owned(path, owned)
        self._folders.append((path, owned))

    @contextmanager
    def writing(self) -> Iterator[Write]:
        """Lend a function that writes one output by calling a writer with its path, if it is asked for.

        Folders around an output that are missing are made. One that fails does not keep the others from being written.

        Raises
        ------
        OutputError
            At the end: some could not be written.
        """
        failures: list[str] = []
        causes: list[Exception] = []

        def write(path: Path | None, writer: Callable[[Path], object]) -> None:
            if path is None:
                return
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer(path)
            except Exception as error:
                reason = error.strerror if isinstance(error, OSError) else None
                failures.append(f"{path} ({reason or f'{type(error).__name__}: {error}'})")
                causes.append(error)

        yield write
        if failures:
            raise OutputError(
                f"{', '.join(failures)}: could not be written; free space or name another place, and run again"
            ) from causes[0]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths are one file or folder, by name or, as with hard links, by what is there."""
    if os.path.normcase(_real(one)) == os.path.normcase(_real(other)):
        return True
    try:
        return one.samefile(other)
    except OSError:
        return False


def _refuse_nested(inner: Path, outer: Path) -> None:
    if any(_is_same(outer, folder) for folder in _real(inner).parents):
        raise InputError(f"{inner}: lies in {outer}, which is an output too; write it to another place")
