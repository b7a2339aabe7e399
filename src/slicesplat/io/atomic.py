"""Outputs are written to a temporary name in the same folder, then renamed: they are whole or not there at all.

A temporary name is ``.slicesplat-TARGET-HOST-PROCESS-NUMBER-END``: hashes of what it is to become and of the machine,
the process, a random number, and how the target's name ends. It is short however long the target's name is, and the
next run on the same target sees from it whether the run that left it behind is still there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

PREFIX = ".slicesplat-"
"""What every name begins with that is ours and no result."""
ABANDONED_AFTER = 24 * 3600.0
"""s. Whether a process of another machine still runs cannot be told; no output takes this long to write."""
_TEMPORARY = re.compile(
    re.escape(PREFIX) + r"(?P<target>[0-9a-f]{8})-(?P<owner>[0-9a-f]{8}-\d+)-[0-9a-f]{8}-.*", re.DOTALL
)
# Writers choose the format by the suffix; people recognise the file. File systems allow 255 bytes, some of them 143.
_KEPT_END = 20
# s since 1970: the time of last change of a temporary file that nobody has written to.
_UNTOUCHED = 0.0

_present: set[Path] = set()
"""Temporary files and folders of this process that may exist."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a temporary path that takes the place of `path` when the block ends without an error.

    What killed runs left of earlier attempts at the same file is removed.

    Parameters
    ----------
    path : path-like
        Where the file belongs; an older file there stays whole until the new one is complete. Its permissions pass to
        the new one, which otherwise has those of any new file. A symbolic link is followed.

    Yields
    ------
    Path
        A name in the same folder that ends like `path`, since writers choose the format by the suffix.

    Raises
    ------
    OSError
        The block wrote nothing to the temporary path, or `path` cannot be replaced.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "poses.json"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("{}")
    >>> target.read_text()
    '{}'
    """
    target = real_path(path)
    remove_leftovers(target, target.parent)
    temporary = temporary_path(target, target.parent)
    try:
        replaced = target.stat() if target.exists() else None
        mode = _create(temporary, private=replaced is not None)
        yield temporary
        if temporary.stat().st_mtime == _UNTOUCHED:
            raise FileNotFoundError(errno.ENOENT, "nothing was written", str(path))
        if replaced is not None:
            mode = take_over_owner(temporary, replaced)
        # A writer may have put a file of its own there, which other users cannot read.
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)
        os.replace(temporary, target)
    finally:
        discard(temporary)


def real_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path that links lead to; OSError where they lead in a circle."""
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return real


def temporary_path(target: Path, folder: Path) -> Path:
    """A new name in `folder` for what is to become `target`; `discard` it whatever happens."""
    name = f"{PREFIX}{_target_key(target)}-{owner()}-{secrets.token_hex(4)}-{target.name[-_KEPT_END:]}"
    _present.add(folder / name)
    return folder / name


def discard(temporary: Path) -> None:
    """Remove a temporary file or folder, if it is there; what cannot be removed is left to the next run."""
    with contextlib.suppress(OSError):
        _remove(temporary)
    _present.discard(temporary)


def discard_all() -> None:
    """Remove every temporary of this process: for a run that is being ended."""
    for temporary in list(_present):
        discard(temporary)


def remove_leftovers(target: Path, folder: Path) -> None:
    """Remove from `folder` what killed runs left of earlier attempts to write `target`; errors are ignored."""
    key = _target_key(target)
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match["target"] == key and Path(entry.path) not in _present:
                with contextlib.suppress(OSError):
                    if not is_alive(match["owner"], entry.stat(follow_symlinks=False).st_mtime):
                        _remove(Path(entry.path))


def check_room(target: Path, folder: Path) -> None:
    """Make a temporary file for `target` in `folder` and remove it; OSError where that is not possible.

    Permission bits do not tell: administrators and read-only mounts break their rule.
    """
    temporary = temporary_path(target, folder)
    try:
        _create(temporary, private=True)
    finally:
        discard(temporary)


def take_over_owner(temporary: Path, replaced: os.stat_result) -> int:
    """Give a new file or folder the owner of the one that it replaces, and tell which mode it is to have.

    Where the group cannot be kept, it has no rights: they were given to another group.
    """
    mode, now = stat.S_IMODE(replaced.st_mode), temporary.stat()
    if hasattr(os, "chown") and hasattr(os, "geteuid"):
        administrator = os.geteuid() == 0
        if (now.st_gid, administrator and now.st_uid) != (replaced.st_gid, administrator and replaced.st_uid):
            try:
                os.chown(temporary, replaced.st_uid if administrator else -1, replaced.st_gid)
            except OSError:
                mode &= ~stat.S_IRWXG
    return mode


def owner() -> str:
    """Which machine and process this is, as temporary names say it."""
    return f"{_host()}-{os.getpid()}"


def is_alive(name: str, last_change: float) -> bool:
    """Whether the process that `owner` named so may still be at work on what changed at `last_change`, in s."""
    host, process = name.split("-")
    if not same_host(host):
        return time.time() - last_change < ABANDONED_AFTER
    # This process knows what it has: the same number was another one's, as often in containers.
    return int(process) != os.getpid() and is_process(int(process))


def same_host(host: str) -> bool:
    """Whether the machine that `owner` named so is this one."""
    return host == _host()


def _target_key(target: Path) -> str:
    return _short_hash(target.name.casefold())


@cache
def _host() -> str:
    """Process numbers mean something only on one machine, and there in one namespace of them."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return _short_hash(f"{platform.node()} {namespace}")


def _short_hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def is_process(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    if sys.platform == "win32":
        import ctypes

        # There os.kill would end it. 0x100000: the right to wait for the process, the least that one can ask for.
        handle = ctypes.windll.kernel32.OpenProcess(0x100000, False, process)
        ended = not handle or ctypes.windll.kernel32.WaitForSingleObject(handle, 0) == 0
        ctypes.windll.kernel32.CloseHandle(handle)
        return not ended
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _create(temporary: Path, private: bool) -> int:
    """Make an empty file and return its mode: the writer opens it, so that nobody else can read it meanwhile."""
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    os.utime(temporary, (_UNTOUCHED, _UNTOUCHED))
    return mode


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
