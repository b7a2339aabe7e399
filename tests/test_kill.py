"""A run that is killed over existing outputs leaves each of them wholly old or wholly new."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from slicesplat.io.atomic import PREFIX
from slicesplat.validation.files import save
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a signal")

FILES = ("v.nii.gz", "m.nii.gz", "v.json")
OLD, NEW = 3.0, 2.0  # mm: the resolution tells whose output it is
PROMISED = 2.0  # s
# Runs that are killed as they write, rather than anywhere, and for how long after the first temporary name is seen.
WRITING, WRITES_FOR = 0.6, 0.15
# By then Python has come to this program, as a part of the run.
STARTED = 0.3
# A run with all that is written as a command does, but without its work.
WRITER = """
import sys
from slicesplat import interrupts
interrupts.catch()
interrupts.watch()
from pathlib import Path
import nibabel as nib
import numpy as np
from slicesplat.io.files import save_json
from slicesplat.io.nifti import save_volume
from slicesplat.io.outputs import Outputs
from slicesplat.io.slices import SLICE_FILES, save_slices
from slicesplat.geometry.stack import Stack
from slicesplat.records import SliceRecord
folder, resolution = Path(sys.argv[1]), float(sys.argv[2])
outputs = Outputs([])
outputs.add_folder(folder / "slices", SLICE_FILES)
values = np.random.default_rng(int(resolution)).random((48, 48, 24), np.float32)
image = nib.Nifti1Image(values, np.eye(4))
stack = Stack(values, values > 0.5, np.eye(4), 1.0, "stack")
records = [SliceRecord(0, k, np.eye(4)) for k in range(int(8 * resolution))]
with outputs.writing() as write:
    write(folder / "v.nii.gz", lambda path: save_volume(image, path))
    write(folder / "m.nii.gz", lambda path: save_volume(image, path))
    write(folder / "slices", lambda path: save_slices(path, [stack], records))
    write(folder / "v.json", lambda path: save_json({"settings": {"resolution": resolution}}, path))
interrupts.release()
"""


@dataclass(frozen=True)
class Case:
    """What writes the outputs, what two runs leave, and how long one takes."""

    program: tuple[str, ...]
    folder: Path
    seconds: float = 0.0

    @property
    def old(self) -> Path:
        return self.folder / "old"

    @property
    def new(self) -> Path:
        return self.folder / "new"

    def command(self, output: Path, resolution: float) -> list[str]:
        if self.program[-1] == WRITER:
            return [*self.program, str(output), str(resolution)]
        return [
            *(*self.program, "--output-resolution", str(resolution)),
            *("--output-volume", str(output / "v.nii.gz"), "--output-uncertainty", str(output / "m.nii.gz")),
            *("--output-slices", str(output / "slices"), "--output-json", str(output / "v.json")),
        ]

    def run(self, output: Path, resolution: float) -> float:
        output.mkdir(exist_ok=True)
        start = time.monotonic()
        subprocess.run(self.command(output, resolution), check=True, capture_output=True)
        return time.monotonic() - start


@pytest.fixture(scope="module", params=["writer", pytest.param("reconstruct", marks=pytest.mark.slow)])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("kill")
    program: tuple[str, ...] = (sys.executable, "-c", WRITER)
    if request.param == "reconstruct":
        truth = brain_phantom(32.0, 2.0)
        save(simulate(*truth, SimulationConfig(pixel=2.0, spacing=4.0, thickness=4.0)), folder / "scan", *truth)
        stacks = [str(folder / "scan" / f"stack-{number}.nii.gz") for number in (1, 2, 3)]
        masks = [path.replace("stack-", "mask-") for path in stacks]
        program = (
            sys.executable,
            "-m",
            "slicesplat",
            "reconstruct",
            "--input-stacks",
            *stacks,
            "--stack-masks",
            *masks,
        )
        program += ("--thicknesses", "4", "--threads", "1", "--quiet")
    case = Case(program, folder)
    case.run(case.old, OLD)
    return replace(case, seconds=case.run(case.new, NEW))


def content(path: Path) -> object:
    """What tells outputs of two runs apart; of a result only whether it is whole, and the settings, as it has times."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    return json.loads(path.read_text())["settings"] if path.suffix == ".json" else path.read_bytes()


def leftovers(folder: Path) -> Iterator[str]:
    return (str(path) for path in folder.rglob(f"{PREFIX}*"))


def is_writing(output: Path) -> bool:
    return any(output.glob(f"{PREFIX}*")) or any(leftovers(output / "slices"))


def kill(case: Case, output: Path, number: signal.Signals, moments: random.Random) -> None:
    """Run `case` over existing outputs and send it a signal, then check how it ended."""
    process = subprocess.Popen(case.command(output, NEW), stderr=subprocess.PIPE, text=True, start_new_session=True)
    if moments.random() < WRITING:
        while process.poll() is None and not is_writing(output):
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, WRITES_FOR))
    else:
        time.sleep(moments.uniform(STARTED * case.seconds, case.seconds))
    start = time.monotonic()
    process.send_signal(number)
    message = process.communicate()[1]
    took = time.monotonic() - start
    # It may have been over before.
    if number != signal.SIGKILL and process.returncode != 0:
        assert process.returncode == 128 + number
        assert message == f"slicesplat: interrupted ({number.name})\n"
        assert took < PROMISED


@pytest.fixture
def times(case: Case) -> int:
    return 3 if case.program[-1] == WRITER else 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_killed_run_leaves_every_output_old_or_new(
    case: Case, tmp_path: Path, number: signal.Signals, times: int
) -> None:
    moments = random.Random(times)
    for trial in range(times):
        output = tmp_path / str(trial)
        shutil.copytree(case.old, output)
        kill(case, output, number, moments)
        for name in (*FILES, "slices"):
            assert content(output / name) in (content(case.old / name), content(case.new / name)), (trial, name)
        if number != signal.SIGKILL:
            assert not list(leftovers(output)), trial


def test_next_run_removes_what_a_killed_one_left(case: Case, tmp_path: Path) -> None:
    left = 0
    for trial in range(3):
        output = tmp_path / str(trial)
        shutil.copytree(case.old, output)
        process = subprocess.Popen(case.command(output, NEW), start_new_session=True)
        while process.poll() is None and not is_writing(output):
            time.sleep(0.0005)
        process.kill()
        process.wait()
        left += bool(list(leftovers(output)))
        case.run(output, NEW)
        assert not list(leftovers(output))
        assert all(content(output / name) == content(case.new / name) for name in (*FILES, "slices"))
    assert left
