"""A container: an installation that cannot be written, another user, no home. All works, and says what it costs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from other_user import as_nobody

from slicesplat.estimate.warm_up import compile_kernels
from slicesplat.jit import folder_of_kernels
from slicesplat.validation.files import save
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no modes and no users to drop to")

PHANTOM = (32.0, 1.4)  # mm
# Not kept in the installation. The others are, which are as much work to compile and tell nothing new.
MISSING = "slicesplat.splat.cpu.splat."

# Kernels are compiled once for all commands of one process.
COMMANDS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import slicesplat
assert slicesplat.__file__.startswith(sys.argv[1]), slicesplat.__file__
from slicesplat.cli import main
sys.exit(max(main(args) for args in json.loads(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the package and its kernels but for some, which cannot be written."""
    (spec,) = importlib.util.find_spec("slicesplat").submodule_search_locations  # type: ignore[union-attr]
    folder = tmp_path_factory.mktemp("installation")
    shutil.copytree(spec, folder / "slicesplat", ignore=shutil.ignore_patterns("__pycache__"))
    compile_kernels()
    (folder / "slicesplat" / "__pycache__").mkdir()
    for path in folder_of_kernels().glob("slicesplat.*.nb?"):
        if not path.name.startswith(MISSING):
            shutil.copy(path, folder / "slicesplat" / "__pycache__")
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in everything:
        path.chmod(0o755)


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder for outputs that the other user may write to, with stacks in it."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room").chmod(0o777)
    config = SimulationConfig(motion="mild", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.02, seed=1)
    truth = brain_phantom(*PHANTOM)
    save(simulate(*truth, config), tmp_path / "case", *truth)
    return tmp_path / "room"


def run(installation: Path, room: Path, *commands: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment}
    code = [sys.executable, "-c", COMMANDS, str(installation), json.dumps(commands)]
    return subprocess.run([*as_nobody(), *code], cwd=room, env=env, capture_output=True, text=True)


def test_everything_runs_from_a_read_only_installation_without_a_home(installation: Path, room: Path) -> None:
    case = room.parent / "case"
    stacks = ["--input-stacks", *(str(case / f"stack-{i}.nii.gz") for i in (1, 2, 3))]
    stacks += ["--stack-masks", *(str(case / f"mask-{i}.nii.gz") for i in (1, 2, 3)), "--threads", "1"]
    truth = ["--volume", str(case / "truth.nii.gz"), "--mask", str(case / "truth-mask.nii.gz"), "--pixel", "3"]
    done = run(
        installation,
        room,
        ["--help"],
        ["reconstruct", "--help"],
        ["simulate", "--help"],
        ["register", *stacks, "--output-transforms", "poses"],
        ["reconstruct", *stacks, "--output-resolution", "2", "--output-volume", "v.nii.gz"],
        ["simulate", *truth, "--stacks", "1", "--output", "simulated"],
    )
    assert done.returncode == 0, done.stderr
    assert "--output-volume" in done.stdout and "--slice-gain" in done.stdout
    lines = done.stderr.splitlines()
    (line,) = [line for line in lines if "compiled in memory" in line]
    assert str(installation) in line and "set NUMBA_CACHE_DIR" in line
    assert "compile kernels (in memory)" in lines and "compile kernels (once per installation)" not in lines
    assert not [line for line in lines if "warning" in line.lower() or "Traceback" in line]
    assert {path.name for path in room.iterdir()} == {"poses", "v.nii.gz", "simulated"}
    kept = list(installation.rglob("__pycache__/*"))
    assert kept and not [path for path in kept if path.name.startswith(MISSING) or path.suffix == ".pyc"]
