"""What is released is whole: wheel and sdist, versions, licences, and a clean environment in which the demo runs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import environments
import pytest
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from other_user import as_nobody, without_network
from packaging.requirements import Requirement

import slicesplat
from slicesplat.estimate.warm_up import compile_kernels
from slicesplat.jit import folder_of_kernels
from slicesplat.processor import VARIABLE, chosen_processor

if sys.version_info < (3, 11):
    pytest.skip("the project file is read by tomllib, of Python 3.11", allow_module_level=True)
import tomllib

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "slicesplat"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LICENCE = re.compile(r"LICEN[CS]E(\.\w+)?|COPYING(\.\w+)?")
OURS = {".py", ".typed"}
PAGES = {SOURCE / "report" / "page", SOURCE / "cohort" / "page"}

EVERYTHING = """
import importlib, pkgutil, slicesplat
for module in pkgutil.walk_packages(slicesplat.__path__, "slicesplat."):
    # The GPU's kernels are an extra.
    if ".gpu" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(slicesplat.__file__)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return environments.build(tmp_path_factory.mktemp("dist"), ROOT)


@pytest.fixture(scope="module")
def programs(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.name != "posix":
        pytest.skip("links need rights elsewhere")
    folder = environments.install(built[0], tmp_path_factory.mktemp("clean") / "environment")
    # Kernels belong to their source and processor, wherever they were compiled: those of the tests are handed over.
    compile_kernels(gradients=True)
    (package,) = folder.parent.glob("lib/*/site-packages/slicesplat")
    (package / "__pycache__").mkdir(exist_ok=True)
    for path in folder_of_kernels().glob("slicesplat.*.nb?"):
        shutil.copy(path, package / "__pycache__")
    return folder


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder in which nothing can be written inside the block."""
    inside = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    modes = [path.stat().st_mode for path in inside]
    for path, mode in zip(inside, modes, strict=True):
        path.chmod(mode & 0o555)
    yield
    for path, mode in zip(inside, modes, strict=True):
        path.chmod(mode)


def run(*words: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program as a new user has it: no variable of this process, nothing on the path."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment}
    return subprocess.run([str(word) for word in words], cwd=folder, env=env, capture_output=True, text=True)


def test_the_version_is_said_in_one_place_and_meant_everywhere() -> None:
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited and cited[1] == slicesplat.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d.*?)\]", changes, re.MULTILINE)[0] == slicesplat.__version__


def test_what_others_made_lies_beside_its_licence() -> None:
    """Whatever is neither Python nor a mark of types came from somewhere: its folder, or one above, says from where."""
    lent = [path for path in SOURCE.rglob("*") if path.is_file() and path.suffix not in {*OURS, ".pyc", ".nbi", ".nbc"}]
    lent = [path for path in lent if path.parent not in PAGES]
    files = [path for path in lent if not LICENCE.fullmatch(path.name)]
    assert files
    unlicensed = [
        path.relative_to(SOURCE).as_posix()
        for path in files
        if not any(LICENCE.fullmatch(other.name) for other in path.parent.iterdir())
    ]
    assert not unlicensed


def test_the_wheel_is_pure_python_and_holds_the_package_with_its_licences(built: tuple[Path, Path]) -> None:
    wheel, _ = built
    assert wheel.name == f"slicesplat-{slicesplat.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"slicesplat-{slicesplat.__version__}.dist-info"
        told = message_from_string(archive.read(f"{info}/METADATA").decode())
    kept = {path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {name for name in names if not name.startswith(info)} == {
        path.relative_to(SOURCE.parent).as_posix() for path in kept
    }
    assert told["License-Expression"] == "Apache-2.0"
    licences = {path.relative_to(ROOT).as_posix() for path in kept if LICENCE.fullmatch(path.name)}
    assert {"LICENSE", *licences} == set(told.get_all("License-File"))
    assert {f"{info}/licenses/{name}" for name in told.get_all("License-File")} <= names


def test_the_sdist_holds_what_its_own_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
    }
    assert not needed - names
    folders = {name.partition("/")[0] for name in names}
    assert {"src", "tests", "docs", "benchmarks", "scripts", "container"} <= folders
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "dist", "site/"))]


def imported(path: Path) -> set[str]:
    """What a module imports, at its top or later, but not for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    named = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            named.add(node.module or "")
    return {name.partition(".")[0] for name in named} - {"slicesplat", *sys.stdlib_module_names}


def provided(name: str) -> set[str]:
    """The modules of a distribution; what is not installed here is taken at its name."""
    try:
        return environments.top_level(distribution(name))
    except PackageNotFoundError:
        return {name.replace("-", "_")}


def test_every_library_that_is_imported_is_a_dependency_or_of_an_extra() -> None:
    for_users = [listed for extra, listed in PROJECT["optional-dependencies"].items() if extra not in ("dev", "docs")]
    declared = [Requirement(each).name for listed in [PROJECT["dependencies"], *for_users] for each in listed]
    known = {name.removesuffix(".py") for each in declared for name in provided(each)}
    missing = {path.relative_to(SOURCE).as_posix(): imported(path) - known for path in SOURCE.rglob("*.py")}
    assert not {path: names for path, names in missing.items() if names}


def test_both_images_are_made_by_one_script_and_set_the_same() -> None:
    texts = [(ROOT / "container" / name).read_text(encoding="utf-8") for name in ("Dockerfile", "slicesplat.def")]
    docker, apptainer = texts
    for said in (r"python:[\d.]+-slim", r"/source/container/install\.sh /source \S+", r"x86-64-v\d", r"PATH=\S+bin"):
        found = {*re.findall(said, docker), *re.findall(said, apptainer)}
        assert len(found) == 1, found
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", docker, re.MULTILINE)
    assert 'ENTRYPOINT ["slicesplat"]' in docker and 'exec slicesplat "$@"' in apptainer
    copied = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("!")[1:]
    assert all((ROOT / name.strip()).exists() for name in copied)


@pytest.mark.slow
def test_every_module_is_imported_in_a_clean_environment(programs: Path, tmp_path: Path) -> None:
    done = run(programs / "python", "-c", EVERYTHING, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(programs.parent))


@pytest.mark.parametrize("processor", ["", pytest.param("x86-64-v3", marks=pytest.mark.slow)])
def test_the_demo_runs_as_in_a_container(programs: Path, tmp_path: Path, processor: str) -> None:
    """Kernels compiled before, nothing that can be written, another user, no home, no network."""
    assert run(programs / "slicesplat", "--version", folder=tmp_path).stdout == f"slicesplat {slicesplat.__version__}\n"
    portable = {VARIABLE: processor}
    compiled = run(programs / "slicesplat", "compile", folder=tmp_path, **portable)
    assert (compiled.returncode, compiled.stdout) == (0, ""), compiled.stderr
    name, _ = chosen_processor(processor, get_host_cpu_features())
    assert f"kernels for {name or get_host_cpu_name()} are kept in {programs.parent}" in compiled.stderr
    (tmp_path / "room").mkdir()
    (tmp_path / "room").chmod(0o777)
    with read_only(programs.parent):
        words = [*without_network(), *as_nobody(), programs / "slicesplat", "demo", "--output", "out", "--size", "50"]
        done = run(*words, folder=tmp_path / "room", HOME="/nonexistent", **portable)
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert "load kernels" in told and not [line for line in told if "compile" in line]
    before, after = (float(number) for number in re.findall(r"│ +(\d+\.\d+) +│ 0\.", done.stdout))
    # 16.3 and 18.8 dB: folds as thin as those of so small a brain are under the resolution.
    assert before < 17.0 and after > 18.4, done.stdout
    assert [path.name for path in (tmp_path / "room").iterdir()] == ["out"]
    assert (tmp_path / "room" / "out" / "demo.png").is_file()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_the_script_of_the_images_installs_what_the_demo_needs(tmp_path: Path) -> None:
    """All dependencies come as wheels, nothing is compiled but the kernels. Takes two minutes and 1.7 GB."""
    folder = tmp_path / "opt"
    done = subprocess.run([ROOT / "container" / "install.sh", ROOT, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "bin" / "pip").exists()
    with read_only(folder):
        done = run(folder / "bin" / "slicesplat", "demo", folder=tmp_path)
    assert done.returncode == 0 and "load kernels" in done.stderr and "compile" not in done.stderr, done.stderr
