"""Kernels are kept where nobody else can change them, and compiled in memory where there is no such place."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest
from numba.core.caching import IndexDataCacheFile

from slicesplat import jit as jit_module
from slicesplat.jit import jit, keeps_kernels, when_compiling

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the installed package; the user's caches beside it, and no NUMBA_CACHE_DIR."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(jit_module, "_PACKAGE", folder)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(jit_module.AppDirs, "user_cache_dir", str(tmp_path / "caches" / "slicesplat"))
    monkeypatch.setattr(jit_module, "_shelf", jit_module._shelf)  # what `new_run` changes is put back
    return folder


@pytest.fixture
def new_run(package: Path) -> Callable[[], Any]:
    """Look for folders again, as another process would."""

    def begin() -> Any:
        shelf = jit_module._Shelf()
        jit_module._shelf = lambda: shelf  # type: ignore[assignment]
        return shelf

    return begin


def doubled(x):  # type: ignore[no-untyped-def]
    return 2 * x


def compiles(kernel: Callable[..., Any] | None = None) -> bool:
    """Whether a kernel is compiled rather than loaded; it gives the right number in any case."""
    seen: list[str] = []
    with when_compiling(lambda: seen.append("compiling")):
        assert (kernel or jit()(doubled))(21) == 42
    assert len(seen) < 2
    return bool(seen)


def unwritable(*folders: Path) -> Callable[..., None]:
    """In the place of `_prepare`: root can write to any folder, so it is told that it cannot."""
    original = jit_module._prepare

    def prepare(folder: Path, shared: bool) -> None:
        if any(folder.is_relative_to(each) for each in folders):
            raise OSError(errno.EROFS, "Read-only file system")
        original(folder, shared)

    return prepare


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "in memory" in record.getMessage()]


# --- kept and read again


def test_kernel_is_compiled_once_per_installation(new_run: Callable[[], Any], package: Path) -> None:
    assert new_run().writable == package / "__pycache__"
    assert keeps_kernels() and compiles()
    new_run()
    assert not compiles()


def test_kernel_of_another_type_of_argument_is_compiled_too(new_run: Callable[[], Any]) -> None:
    new_run()
    kernel = jit()(doubled)
    assert kernel(21) == 42 and kernel(2.5) == 5.0
    new_run()
    kernel = jit()(doubled)
    assert not compiles(kernel) and kernel(2.5) == 5.0


def test_kernels_made_with_the_image_are_used_where_nothing_can_be_written(
    new_run: Callable[[], Any], package: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    new_run()
    assert compiles()
    monkeypatch.setattr(jit_module, "_prepare", unwritable(Path("/")))
    with caplog.at_level(logging.INFO, "slicesplat"):
        assert new_run().writable is None
        assert not compiles()
    assert not told(caplog)


def test_a_kernel_that_makes_arrays_is_loaded_without_what_compiles(tmp_path: Path) -> None:
    module, kernels = tmp_path / "made_up.py", tmp_path / "kernels"
    module.write_text(
        "import sys, numpy as np\nfrom slicesplat.jit import jit\n"
        "@jit()\ndef total(n): return np.arange(n).sum()\n"
        "print(total(5), 'numba.np.npyimpl' in sys.modules)\n"
    )
    told = []
    for _ in range(2):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(kernels)}
        command = [sys.executable, "-c", "import made_up"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        told.append(done.stdout.split())
    assert told == [["10", "True"], ["10", "False"]]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], ModuleType]:
    """Import kernels that call one in a file of their own, whose factor is as given now."""
    folder = tmp_path / "made_up"
    (folder / "deep").mkdir(parents=True)
    for package in (folder, folder / "deep"):
        (package / "__init__.py").touch()
    (folder / "outer.py").write_text(
        "from slicesplat.jit import jit\nfrom made_up.middle import once\n@jit()\ndef twice(x): return once(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file of the same size and second would not be read again

    def load(place: str, factor: int) -> ModuleType:
        (folder / "middle.py").write_text(
            "from slicesplat.jit import jit\n"
            f"from made_up.{place}inner import scale\n"
            "@jit()\n"
            "def once(x): return scale(x)\n"
        )
        inner = folder / place.replace(".", "/") / "inner.py"
        inner.write_text(f"from slicesplat.jit import jit\n@jit()\ndef scale(x): return {factor} * x\n")
        for name in [name for name in sys.modules if name.startswith("made_up")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        jit_module._stamp.cache_clear()
        return importlib.import_module("made_up.outer")

    return load


Imported = Callable[[str, int], ModuleType]


@pytest.mark.parametrize("place", ["", "deep."])
def test_change_of_any_source_of_what_a_kernel_calls_makes_it_be_compiled(
    new_run: Callable[[], Any], imported: Imported, place: str
) -> None:
    shelf = new_run()
    assert imported(place, 2).twice(21) == 42
    kept = {path.name for path in shelf.writable.iterdir()}
    new_run()
    assert imported(place, 3).twice(21) == 63
    # And what nobody will use any more is gone.
    left = {path.name for path in shelf.writable.iterdir()}
    assert len(left) == len(kept) and not left & kept


def test_kernel_of_another_state_of_the_source_is_not_used_while_the_new_one_is_written(
    new_run: Callable[[], Any], imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_run()
    assert imported("", 2).twice(21) == 42
    with monkeypatch.context() as patch:
        # Another process has compiled, and has written what says so, but not yet the code.
        patch.setattr(IndexDataCacheFile, "_save_data", lambda *_: None)
        new_run()
        assert imported("", 3).twice(21) == 63
    new_run()
    assert imported("", 3).twice(21) == 63


def test_kernels_of_one_name_in_modules_of_one_name_are_kept_apart(
    new_run: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, package in enumerate(("alike_one", "alike_two"), start=1):
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "same.py").write_text(f"from slicesplat.jit import jit\n@jit()\ndef scale(x): return {number} * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    shelf = new_run()
    for number, package in enumerate(("alike_one", "alike_two"), start=1):
        assert importlib.import_module(f"{package}.same").scale(7) == 7 * number
    assert len(list(shelf.writable.glob("*.nbi"))) == 2


def test_torn_files_are_compiled_over(new_run: Callable[[], Any], package: Path) -> None:
    for content in (b"", b"\x80\x05", b"no pickle at all", os.urandom(300)):
        new_run()
        compiles()
        for path in (package / "__pycache__").iterdir():
            path.write_bytes(content)
        new_run()
        assert compiles()
        new_run()
        assert not compiles()


def test_kernel_that_an_index_names_by_mistake_is_not_used(
    new_run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_run()
    kernel = jit()(doubled)
    kernel(2.5)
    (for_floats,) = kernel.overloads.values()
    monkeypatch.setattr(jit_module._Store, "load_overload", lambda *_: for_floats)
    assert compiles()


def test_processors_do_not_share_files(new_run: Callable[[], Any], package: Path) -> None:
    class Other:
        def codegen(self) -> Any:
            return self

        def magic_tuple(self) -> tuple[str, ...]:
            return "x86_64-unknown-linux-gnu", "another", "+sse"

    new_run()
    compiles()
    names = {path.name.partition(".py")[0] for path in (package / "__pycache__").iterdir()}
    other = jit_module._Locator(doubled, package, Other()).get_disambiguator()
    assert len(names) == 1 and not names.pop().endswith(other)


# --- nowhere to keep them


def test_without_a_folder_kernels_are_compiled_in_memory_and_one_line_says_so(
    new_run: Callable[[], Any], package: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jit_module, "_prepare", unwritable(Path("/")))
    with caplog.at_level(logging.INFO, "slicesplat"):
        new_run()
        assert not keeps_kernels()
        assert compiles() and compiles()
    (line,) = told(caplog)
    assert "Read-only file system" in line and "NUMBA_CACHE_DIR" in line and str(package) in line


@pytest.mark.parametrize("failing", ["_save_data", "_save_index"])
def test_full_disk_does_not_end_a_run(
    new_run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    new_run()
    with monkeypatch.context() as patched, caplog.at_level(logging.INFO, "slicesplat"):
        patched.setattr(IndexDataCacheFile, failing, full)
        assert compiles() and compiles()
    (line,) = told(caplog)
    assert "No space left on device" in line
    new_run()
    assert compiles()


def test_user_without_a_home_gets_no_folder_in_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit_module.AppDirs, "user_cache_dir", "~/.cache/slicesplat")
    assert jit_module._user_folder() == []


# --- who else can write


@posix
def test_users_folder_is_private(new_run: Callable[[], Any], package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit_module, "_prepare", unwritable(package))
    folder = new_run().writable
    assert folder.is_relative_to(package.parent / "caches")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert compiles()
    new_run()
    assert not compiles()


@posix
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_folder_that_others_can_write_to_is_neither_written_nor_read(
    new_run: Callable[[], Any], package: Path, mode: int
) -> None:
    new_run()
    compiles()
    (package / "__pycache__").chmod(mode)
    shelf = new_run()
    assert shelf.writable.is_relative_to(package.parent / "caches")
    assert package / "__pycache__" not in shelf.readable
    assert compiles()


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_of_somebody_else_is_not_used(new_run: Callable[[], Any], package: Path) -> None:
    (package / "__pycache__").mkdir()
    os.chown(package / "__pycache__", 12345, 12345)
    assert package / "__pycache__" not in new_run().readable


@posix
def test_link_to_a_folder_is_not_used(new_run: Callable[[], Any], package: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (package / "__pycache__").symlink_to(tmp_path / "elsewhere")
    assert package / "__pycache__" not in new_run().readable


@posix
def test_folder_that_others_could_replace_is_not_used(
    new_run: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybodys = tmp_path / "everybodys"
    everybodys.mkdir()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(everybodys))
    everybodys.chmod(0o777)
    assert new_run().writable is None
    everybodys.chmod(0o1777)
    assert new_run().writable.parent == everybodys


# --- NUMBA_CACHE_DIR


def test_folder_that_the_user_names_is_used_and_no_other(
    new_run: Callable[[], Any], package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "mine"))
    folder = new_run().writable
    assert folder.parent == tmp_path / "mine"
    assert compiles() and any(folder.iterdir())
    assert not list(package.rglob("*.nbi"))
    new_run()
    assert not compiles()


def test_folder_that_the_user_names_and_cannot_be_used_is_warned_about(
    new_run: Callable[[], Any], package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file" / "mine"))
    with caplog.at_level(logging.INFO, "slicesplat"):
        assert new_run().writable is None
        assert compiles()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"NUMBA_CACHE_DIR: kernels cannot be kept there ({tmp_path / 'file'}")
    assert not list(package.rglob("*.nbi"))


def test_kernels_are_compiled_whatever_numba_disable_jit_says(
    new_run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    new_run()
    assert compiles()
    assert numba.config.DISABLE_JIT == 1
