"""Nothing that one platform alone has is needed: it is hidden here from the package, as Windows and macOS would."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]

MODULES = ("ctypes", "fcntl", "grp", "msvcrt", "posix", "pty", "pwd", "resource", "syslog", "termios", "winreg")
IN_OS = ("chown", "fchmod", "fchown", "fork", "getegid", "geteuid", "getuid", "killpg", "mkfifo", "setsid", "sysconf")
SIGNALS = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1")

LIBRARIES = "import nibabel, numba, scipy.ndimage, SimpleITK, skimage.metrics, torch, tyro"

HIDE = f"""
import builtins, importlib, os, pkgutil, signal, sys
from pathlib import Path

found = builtins.__import__


def importing(name, globals=None, *rest, **more):
    # The libraries have versions for other platforms; it is the package that must not ask for these.
    own = str((globals or {{}}).get("__name__", "")).startswith("slicesplat")
    if own and name.partition(".")[0] in {MODULES!r}:
        raise ModuleNotFoundError(f"No module named {{name!r}}")
    return found(name, globals, *rest, **more)


builtins.__import__ = importing
sys.modules["triton"] = None
for name in {IN_OS!r}:
    if hasattr(os, name):
        delattr(os, name)
for name in {SIGNALS!r}:
    if hasattr(signal, name):
        delattr(signal, name)
"""

EVERYTHING = """
import slicesplat

for module in pkgutil.walk_packages(slicesplat.__path__, "slicesplat."):
    # The GPU's kernels are for Linux.
    if ".gpu" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
slicesplat.machine.available_memory()
print(slicesplat.machine.peak_memory_mb(), *slicesplat.splat.available_backends())
"""

HELP = """
from slicesplat.cli import main

sys.exit(main(["reconstruct", "--help"]))
"""

WRITE = """
import re
from slicesplat.interrupts import Uninterrupted, catch, release
from slicesplat.io.atomic import atomic_path
from slicesplat.io.folder import output_folder

catch()
folder = Path(sys.argv[1])
for turn in ("old", "new"):
    with atomic_path(folder / "poses.json") as path:
        path.write_text(turn)
    with output_folder(folder / "slices", re.compile("[ab].txt")) as files:
        (files / "a.txt").write_text(turn)
        if turn == "old":
            (files / "b.txt").write_text(turn)
with Uninterrupted():
    pass
release()
"""


def run(code: str, *args: str, first: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", first + HIDE + code, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_is_imported_memory_is_unknown_the_cpu_computes_and_help_is_given() -> None:
    there, _, page = run(EVERYTHING + HELP, first=LIBRARIES).partition("\n")
    assert there == "None cpu"
    assert "--output-volume" in page


def test_files_and_folders_are_written_and_replaced(tmp_path: Path) -> None:
    run(WRITE, str(tmp_path))
    assert (tmp_path / "poses.json").read_text() == "new"
    left = {path.name for path in (tmp_path / "slices").iterdir()}
    assert left == {"a.txt", "slicesplat-manifest.json"}
    assert (tmp_path / "slices" / "a.txt").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"poses.json", "slices"}


def test_python_that_the_package_and_the_pinned_versions_need_is_what_is_said() -> None:
    def lowest(statement: str) -> tuple[int, ...]:
        return max(tuple(map(int, found.split("."))) for found in re.findall(r">=\s*(3\.\d+)", statement))

    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    said = lowest(re.sub(r"Python (3\.\d+) or newer", r">=\1", pinned))
    names = re.findall(r"^([\w-]+)==", pinned, re.MULTILINE)
    needed = [lowest(metadata(name).get("Requires-Python", ">=3.0")) for name in names if is_installed(name)]
    assert len(needed) > len(names) / 2
    assert said == max(needed)
    package = re.search(r'requires-python = "(.*)"', project)
    assert package and f"from Python {'.'.join(map(str, lowest(package[1])))} on" in pinned
    assert lowest(package[1]) <= said


def is_installed(name: str) -> bool:
    try:
        metadata(name)
    except PackageNotFoundError:
        return False
    return True
