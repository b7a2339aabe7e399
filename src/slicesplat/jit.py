"""Kernels compiled by numba, and where their machine code is kept between runs.

numba's cache holds pickles, and whoever can write to it runs code as us. So a kernel is read only from folders that
nobody else can change, and it is kept in the first of these that is such a folder and can be written:

    NUMBA_CACHE_DIR     when it is set, in this and no other
    __pycache__         beside this file: in a container it is filled while the image is built, and read ever after
    the user's caches   of the platform, in a folder of mode 0700

Where there is none, as in a read-only container without a home, or where the disk is full, kernels are compiled in
memory: that takes some seconds of every run, and a line of the log says so.

They are compiled for the processor that they run on, or for the one that `slicesplat.processor` chooses.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba as nb
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _Cache, _CacheLocator
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.sigutils import normalize_signature
from numba.misc.appdirs import AppDirs

from slicesplat.errors import OutputError
from slicesplat.processor import VARIABLE, chosen_processor

log = logging.getLogger("slicesplat")

_PACKAGE = Path(__file__).parent
_REMEDY = "to keep them, set NUMBA_CACHE_DIR to a folder that only you can write to"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with these options, the machine code kept between runs where that can be.

    Examples
    --------
    >>> @jit(nogil=True)
    ... def double(x):
    ...     return 2 * x
    >>> double.py_func(4)
    8
    """
    _choose_processor()

    def decorate(function: Callable[..., Any]) -> Any:
        # Vectors of lanes have no meaning in plain Python: NUMBA_DISABLE_JIT is for other people's kernels.
        asked, nb.config.DISABLE_JIT = nb.config.DISABLE_JIT, 0
        try:
            kernel = nb.njit(**options)(function)
        finally:
            nb.config.DISABLE_JIT = asked
        kernel._cache = _KernelCache(function)
        return kernel

    return decorate


def keeps_kernels() -> bool:
    """Whether what is compiled now will be there in the next run."""
    return _shelf().writable is not None


def folder_of_kernels() -> Path:
    """Where kernels are kept.

    Raises
    ------
    OutputError
        They cannot be kept.
    """
    shelf = _shelf()
    if shelf.writable is None:
        raise OutputError(f"kernels cannot be kept ({shelf.reason}); {_REMEDY}")
    return shelf.writable


def target_processor() -> str:
    """LLVM's name of the processor that kernels are compiled for."""
    return nb.config.CPU_NAME or get_host_cpu_name()


@cache
def _choose_processor() -> str | None:
    """Have kernels compiled for the processor that is named, where that can be; returns why it cannot.

    numba asks for the processor once, when the first kernel of the process is made, whoever makes it.
    """
    if "_toplevel_target_context" in vars(cpu_target):
        return None
    name, reason = chosen_processor(os.environ.get(VARIABLE), get_host_cpu_features())
    if name:
        nb.config.CPU_NAME, nb.config.CPU_FEATURES = name, ""  # the features are those of the name
    return reason


@contextmanager
def when_compiling(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` once if inside the block anything is compiled, rather than loaded, as soon as that begins."""
    listener = _Once(act)
    with event.install_listener("numba:compile", listener):
        yield


class _Once(event.Listener):
    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def on_start(self, compilation: Any) -> None:
        act, self._act = self._act, None
        if act:
            act()

    def on_end(self, compilation: Any) -> None:
        pass


class _Shelf:
    """The folders that kernels are read from and the one that they are written to.

    Attributes
    ----------
    readable : list of Path
        In the order in which they are looked into.
    writable : Path or None
        One of them; None when kernels cannot be kept.
    reason : str
        Why they cannot, or not in the first one.
    """

    def __init__(self) -> None:
        beside, given = _PACKAGE / "__pycache__", nb.config.CACHE_DIR
        self._told = False
        self.writable: Path | None = None
        refused = []
        for folder in [_own(Path(given))] if given else [beside, *_user_folder()]:
            try:
                _prepare(folder, shared=folder == beside)
            except OSError as error:
                refused.append(f"{folder}: {error.strerror or error}")
            else:
                self.writable = folder
                break
        self.reason = ", ".join(refused)
        self.readable = [folder for folder in (self.writable, beside) if folder and _is_safe(folder)]
        # The same folder twice would be read twice.
        self.readable = list(dict.fromkeys(self.readable))
        if given and not self.writable:
            self._told = True
            log.warning("NUMBA_CACHE_DIR: kernels cannot be kept there (%s); %s", self.reason, _REMEDY)

    def give_up(self, reason: str) -> None:
        """Keep nothing more in this run."""
        self.reason, self.writable = f"{self.writable}: {reason}", None

    def tell(self) -> None:
        """Say, once, that a kernel has been compiled in memory."""
        if not self._told:
            self._told = True
            if _choose_processor():
                log.info("%s is not followed: %s", VARIABLE, _choose_processor())
            log.info("kernels are compiled in memory, in every run anew (%s); %s", self.reason, _REMEDY)


@cache
def _shelf() -> _Shelf:
    """Decided when the first kernel is needed: who asks for help makes no folders."""
    return _Shelf()


def _own(folder: Path) -> Path:
    """A folder in `folder` for the kernels of this installation alone."""
    return folder.absolute() / f"slicesplat-{hashlib.sha256(os.fsencode(_PACKAGE)).hexdigest()[:16]}"


def _user_folder() -> list[Path]:
    """The one in the user's caches; none where the user has no home."""
    caches = Path(AppDirs("slicesplat", appauthor=False).user_cache_dir)
    return [_own(caches)] if caches.is_absolute() else []


def _prepare(folder: Path, shared: bool) -> None:
    """Make the folder, for everyone to read or for nobody else, and see that it is safe and can be written.

    Raises
    ------
    OSError
        It cannot be made or written, or others could change what is in it.
    """
    folder.mkdir(mode=0o777 if shared else 0o700, parents=True, exist_ok=True)
    if not _is_safe(folder, private=not shared):
        raise PermissionError("others can write to it, or it is theirs")
    # Permission bits do not tell: administrators and read-only mounts break their rule.
    with tempfile.TemporaryFile(dir=folder):
        pass


def _is_safe(folder: Path, private: bool = False) -> bool:
    """Whether nobody can change what is in a folder but its owner, who is us or, unless private, whoever could anyway.

    Who could anyway is the administrator, and who has installed this package.
    """
    if not hasattr(os, "geteuid"):
        return True  # Windows: a profile and what is in it are its user's by access control lists, not by mode
    try:
        status, around = folder.lstat(), folder.parent.stat()
        owners = {os.geteuid()} if private else {os.geteuid(), 0, Path(__file__).stat().st_uid}
    except OSError:
        return False
    # In a folder that all can write to, and that is not sticky as /tmp is, others could put another in its place.
    replaceable = around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid in owners
        and not status.st_mode & _WRITABLE_BY_OTHERS
        and not replaceable
    )


class _KernelCache(_Cache):
    """What a kernel keeps, as numba asks for it: reading and writing may fail, and then the kernel is compiled."""

    def __init__(self, kernel: Callable[..., Any]) -> None:
        self._kernel = kernel
        self._stores: dict[Path, FunctionCache] = {}

    @property
    def cache_path(self) -> str | None:
        """Where the kernel is kept."""
        return str(_shelf().writable) if keeps_kernels() else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel for a signature; None when it has to be compiled."""
        rtsys.initialize(target_context)  # kernels that make arrays are linked with it
        for folder in _shelf().readable:
            try:
                found = self._store(folder, target_context).load_overload(sig, target_context)
            except Exception:  # whatever the unpickler makes of a file that is torn or another program's
                continue
            # Two processes that write at once can leave an index that names the other one's kernel.
            if found is not None and found.signature.args == normalize_signature(sig)[0]:
                return found
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if it can be kept."""
        shelf = _shelf()
        if shelf.writable is not None:
            store = self._store(shelf.writable, data.target_context)
            try:
                try:
                    store.save_overload(sig, data)
                except OSError:
                    raise
                except Exception:  # an index that cannot be read: begin another
                    store.flush()
                    store.save_overload(sig, data)
            except Exception as error:
                shelf.give_up(getattr(error, "strerror", None) or str(error))
        if shelf.writable is None:
            shelf.tell()

    def _store(self, folder: Path, target_context: Any) -> FunctionCache:
        if folder not in self._stores:
            self._stores[folder] = _Store(self._kernel, folder, target_context)
        return self._stores[folder]

    def enable(self) -> None:
        """Kernels are always kept where they can be."""

    def disable(self) -> None:
        """Kernels are always kept where they can be."""

    def flush(self) -> None:
        """Forget what is kept of the kernel."""
        for store in self._stores.values():
            store.flush()


class _Store(FunctionCache):
    """numba's own files of one kernel, in a folder of ours."""

    def __init__(self, kernel: Callable[..., Any], folder: Path, target_context: Any) -> None:
        self._impl_class = lambda kernel: _Files(kernel, _Locator(kernel, folder, target_context))
        super().__init__(kernel)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel for a signature; None when it is not there.

        numba imports all that can be compiled first, which takes as long again as loading the kernels of a fit.
        """
        return self._load_overload(sig, target_context)


class _Files(CompileResultCacheImpl):
    def __init__(self, kernel: Callable[..., Any], locator: _Locator) -> None:
        self._lineno, self._locator = kernel.__code__.co_firstlineno, locator
        self._filename_base = self.get_filename_base(_name(kernel), getattr(sys, "abiflags", ""))


class _Locator(_CacheLocator):
    def __init__(self, kernel: Callable[..., Any], folder: Path, target_context: Any) -> None:
        self._folder, self._kernel = folder, kernel
        self._py_file = kernel.__code__.co_filename
        # Machines that share a home compile for different processors: at once, they would mistake each other's files.
        processor = hashlib.sha256(repr(target_context.codegen().magic_tuple()).encode()).hexdigest()[:8]
        # numba writes an index, which names the data, before the data. Were those of two states of the source of one
        # name, a process that begins while another one compiles would take the old code for the new, and keep it.
        self._state = f"-{processor}-{self.get_source_stamp()[:16]}"
        self._disambiguator = f"{kernel.__code__.co_firstlineno}{self._state}"
        self._others = f"{_name(kernel)}-*-{processor}-*.nb[ci]"

    def ensure_cache_path(self) -> None:
        """The folder has been made already; what other states of the source have left of the kernel goes."""
        for path in self._folder.glob(self._others):
            if self._state not in path.name:
                path.unlink(missing_ok=True)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return _stamp(_folders(self._kernel))

    def get_disambiguator(self) -> str:
        return self._disambiguator


def _name(kernel: Callable[..., Any]) -> str:
    """The whole one: modules of one name in two folders may have kernels of one name on one line."""
    return f"{kernel.__module__}.{kernel.__qualname__}".replace("<", "").replace(">", "")


def _folders(kernel: Callable[..., Any]) -> frozenset[Path]:
    """Where the source of a kernel is, and of what it calls: it holds their code too."""
    seen: set[Callable[..., Any]] = set()
    todo = [kernel]
    while todo:
        function = todo.pop()
        seen.add(function)
        known = function.__globals__
        named = [known[name] for name in function.__code__.co_names if name in known]
        # numba wraps what it compiles.
        called = {inspect.unwrap(value) for value in named if hasattr(value, "__wrapped__")}
        todo += called - seen
    return frozenset(Path(function.__code__.co_filename).parent for function in seen)


@cache
def _stamp(folders: frozenset[Path]) -> str:
    """Of all sources in the folders: a kernel holds constants from other files too."""
    paths = sorted(path for folder in folders for path in folder.glob("*.py"))
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return hashlib.sha256("".join(contents).encode()).hexdigest()
