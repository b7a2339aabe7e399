"""The arrows of the design point down, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
# In a process of its own: the linter sets up logging for itself and silences loggers that exist already.
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1]))"


def test_imports_point_down() -> None:
    command = [sys.executable, "-c", LINT, str(PROJECT)]
    done = subprocess.run(command, cwd=PROJECT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "statement",
    ["import slicesplat", "from slicesplat.cli import main; main(['--help'])", "import slicesplat.errors"],
)
def test_start_loads_nothing_heavy(statement: str) -> None:
    code = f"{statement}; import sys; print(*sorted({{'torch', 'numba', 'scipy', 'SimpleITK'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_a_usual_run_loads_nothing_that_only_others_need() -> None:
    seldom = {
        "SimpleITK",
        "skimage",
        "scipy.spatial",
        "scipy.sparse",
        "scipy.optimize",
        "scipy.linalg",
        "pydicom",
        "PIL",
    }
    code = f"import sys, slicesplat.commands.reconstruct; print(*sorted({seldom} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_a_start_leaves_out_is_there_when_it_is_needed() -> None:
    pytest.importorskip("pydicom")
    code = "import slicesplat.commands.reconstruct, pydicom; print(pydicom.Dataset.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Dataset"


def test_public_names_are_there() -> None:
    import slicesplat

    for name in slicesplat.__all__:
        assert getattr(slicesplat, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = slicesplat.nothing
