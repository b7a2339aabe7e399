"""A folder of outputs: its files are written all or none, and only those of an earlier run are replaced.

A manifest in the folder says which files a run wrote, and their hashes. What it does not list, or what has changed
since, is somebody's work and stays.

The files are written to a temporary folder first. If the target is missing or holds an earlier output only, the two
folders then change places, which is one step. Where that cannot be (other files are in it, it is a mount point or the
current folder, the file system does not know the step), the files are moved one by one: the temporary folder becomes
``.slicesplat-unfinished`` in the target, and as long as that is there, old and new files are mixed. What is left to be
done can be seen from it at any point, and the next run does it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from slicesplat.errors import InputError
from slicesplat.interrupts import Uninterrupted
from slicesplat.io.atomic import (
    PREFIX,
    discard,
    is_alive,
    owner,
    real_path,
    remove_leftovers,
    take_over_owner,
    temporary_path,
)
from slicesplat.io.files import file_hash, load_json, save_json

MANIFEST = "slicesplat-manifest.json"
UNFINISHED = f"{PREFIX}unfinished"
_OWNER = f"{PREFIX}owner"
_PATIENCE = 30.0
"""s to wait for another run that moves its files into the same folder: some hundred renames, slow over a network."""
_PAUSE = 0.05
"""s between two looks at it."""
_AT_FDCWD = -100  # fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h; RENAME_SWAP of the stdio.h of macOS is the same


@contextmanager
def output_folder(folder: str | os.PathLike[str], owned: re.Pattern[str]) -> Iterator[Path]:
    """Lend a temporary folder whose files take their places in `folder` when the block ends without an error.

    Parameters
    ----------
    folder : path-like
        Made if missing; the folder around it has to exist.
    owned : pattern
        The names, whole, of all files that such an output can have. Those of an earlier run that are not written again
        are removed; mixed with the new ones they would be read as one result.

    Yields
    ------
    Path
        An empty folder.

    Raises
    ------
    OSError
        The files cannot be written or moved, or `folder` holds files of these names that no run wrote.
    """
    target = real_path(folder)
    remove_leftovers(target, target.parent)
    if target.is_dir():
        remove_leftovers(target, target)
    staging = temporary_path(target, target if target.is_dir() else target.parent)
    try:
        staging.mkdir()
        yield staging
        written = {entry.name: file_hash(Path(entry.path)) for entry in os.scandir(staging)}
        _put_in_place(staging, target, owned, written)
    finally:
        discard(staging)


def check_owned(folder: str | os.PathLike[str], owned: re.Pattern[str]) -> None:
    """Refuse a folder of outputs that holds what looks like one of them, but is no earlier run's; it may be missing.

    Parameters
    ----------
    folder : path-like
    owned : pattern
        As of `output_folder`.

    Raises
    ------
    InputError
        Such a file was not written by a run of this program, or has been changed since.
    """
    target = real_path(folder)
    if not target.is_dir():
        return
    try:
        if _is_abandoned(target):
            _finish(target)
    except OSError as error:
        raise InputError(
            f"{folder}: a killed run left its files half replaced, and they cannot be moved ({error.strerror}); "
            "name another folder"
        ) from error
    foreign = _foreign(target, owned)
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise InputError(
            f"{folder}: holds {foreign[0]}{others}, not written here by an earlier run or changed since; "
            "name another folder, or empty this one"
        )


def is_intact(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds all that a run has written into it, as it was written."""
    target, listed = Path(folder), _load_manifest(Path(folder))
    if not listed or (target / UNFINISHED).exists():
        return False
    return all((target / name).is_file() and file_hash(target / name) == digest for name, digest in listed.items())


def check_finished(folder: str | os.PathLike[str]) -> None:
    """Refuse to read from a folder where a run that was killed, or is at work, left old and new files mixed.

    Raises
    ------
    InputError
        It is such a folder.
    """
    if (Path(folder) / UNFINISHED).exists():
        raise InputError(f"{folder}: a run has not finished replacing its files; run the command that wrote them again")


def _put_in_place(staging: Path, target: Path, owned: re.Pattern[str], written: Mapping[str, str]) -> None:
    """Make the finished files in `staging` the output, in one step where that is possible."""
    if not target.is_dir():
        _save_manifest(staging, written)
        try:
            staging.rename(target)
            return
        except OSError:
            # Another run may have made it in the meantime.
            if not target.is_dir():
                raise
    _await_others(target)
    foreign = _foreign(target, owned)
    if foreign:
        raise OSError(errno.EEXIST, f"{foreign[0]} in it is not an earlier run's", str(target))
    kept = {name: digest for name, digest in _load_manifest(target).items() if not owned.fullmatch(name)}
    _save_manifest(staging, {**kept, **written})
    if not _swap(staging, target, owned):
        _move_into(staging, target)


def _swap(staging: Path, target: Path, owned: re.Pattern[str]) -> bool:
    """Let the two folders change places; False where that is not possible, or something else is in the target."""
    others = {name for name in os.listdir(target) if not owned.fullmatch(name)} - {MANIFEST, staging.name}
    if others or _is_current(target):
        return False
    beside = temporary_path(target, target.parent)
    try:
        try:
            staging.rename(beside)
        except OSError:
            # A mount point, or no right to write around the folder.
            return False
        if _made_alike(beside, target) and _exchange(beside, target):
            # What has come into the old folder since it was looked at, as another run's temporary one.
            for name in set(os.listdir(beside)) - _load_manifest(beside).keys() - {MANIFEST}:
                (beside / name).rename(target / name)
            return True
        beside.rename(staging)
        return False
    finally:
        discard(beside)


def _move_into(staging: Path, target: Path) -> None:
    """Move the files one by one; what is left undone can be seen and done by the next run."""
    unfinished = target / UNFINISHED
    (staging / _OWNER).write_text(owner(), encoding="ascii")
    while True:
        _await_others(target)
        with Uninterrupted():
            try:
                staging.rename(unfinished)
            except OSError:
                # Another run was faster?
                if not unfinished.is_dir():
                    raise
            else:
                _finish(target)
                return


def _finish(target: Path) -> None:
    """Do what is left of moving new files into a folder; may be called again whenever it was interrupted."""
    unfinished = target / UNFINISHED
    if (unfinished / MANIFEST).exists():
        before, after = _load_manifest(target), _load_manifest(unfinished)
        for name in before.keys() - after.keys():
            if (target / name).is_file() and file_hash(target / name) == before[name]:
                (target / name).unlink()
        for name in set(os.listdir(unfinished)) - {MANIFEST, _OWNER}:
            os.replace(unfinished / name, target / name)
        os.replace(unfinished / MANIFEST, target / MANIFEST)
    with contextlib.suppress(FileNotFoundError):
        (unfinished / _OWNER).unlink(missing_ok=True)
        unfinished.rmdir()


def _await_others(target: Path) -> None:
    """Let another run that moves files into the folder finish, or do it for one that was killed."""
    deadline = time.monotonic() + _PATIENCE
    while (target / UNFINISHED).exists():
        if _is_abandoned(target):
            _finish(target)
        elif time.monotonic() > deadline:
            raise OSError(errno.EBUSY, "another run is writing into it", str(target))
        else:
            time.sleep(_PAUSE)


def _is_abandoned(target: Path) -> bool:
    """Whether the folder has files of a killed run that are still to be moved."""
    try:
        changed = (target / UNFINISHED).stat().st_mtime
    except FileNotFoundError:
        return False
    process = _owner_of(target)
    return process is None or not is_alive(process, changed)


def _owner_of(target: Path) -> str | None:
    """The process that moves files into the folder; None where there is none, or all that it had to do is done."""
    try:
        return (target / UNFINISHED / _OWNER).read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def _foreign(target: Path, owned: re.Pattern[str]) -> list[str]:
    """What is called like an output in the folder, but is not as an earlier run left it."""
    listed = _load_manifest(target)
    return sorted(
        entry.name
        for entry in os.scandir(target)
        if owned.fullmatch(entry.name)
        and not (
            entry.name in listed
            and entry.is_file(follow_symlinks=False)
            and file_hash(Path(entry.path)) == listed[entry.name]
        )
    )


def _load_manifest(folder: Path) -> dict[str, str]:
    """Names and hashes; empty where there is no manifest, or none of ours."""
    try:
        files = load_json(folder / MANIFEST).get("files")
    except InputError:
        return {}
    if not isinstance(files, dict):
        return {}
    # A name is never a path: nothing outside the folder is touched, whatever the file says.
    return {name: str(digest) for name, digest in files.items() if Path(name).name == name}


def _save_manifest(folder: Path, files: Mapping[str, str]) -> None:
    save_json({"files": dict(sorted(files.items()))}, folder / MANIFEST)


def _is_current(folder: Path) -> bool:
    """Whether this process is in the folder: a shell there would find itself in the old one, removed."""
    here = Path(os.path.realpath(os.curdir))
    return folder in (here, *here.parents)


def _made_alike(new: Path, old: Path) -> bool:
    """Give a folder the owner, permissions and attributes of the one that it is to replace; False if that fails."""
    wanted = old.stat()
    try:
        shutil.copystat(old, new)
        os.utime(new)
        new.chmod(take_over_owner(new, wanted))
    except OSError:
        return False
    made = new.stat()
    return (made.st_mode, made.st_uid, made.st_gid) == (wanted.st_mode, wanted.st_uid, wanted.st_gid)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system or the file system cannot."""
    try:
        # Not every build of Python has it.
        import ctypes

        if sys.platform == "darwin":
            library = ctypes.CDLL(None)
            return bool(library.renamex_np(os.fsencode(one), os.fsencode(other), _RENAME_EXCHANGE) == 0)
        if sys.platform == "linux":
            library = ctypes.CDLL(None)
            paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
            return bool(library.renameat2(*paths, _RENAME_EXCHANGE) == 0)
    except (AttributeError, ImportError, OSError):
        # An older C library.
        pass
    return False
