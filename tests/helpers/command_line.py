"""Files, arguments and stand-ins for tests of commands, and what a refusal looks like on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from slicesplat.cli import main
from slicesplat.geometry.rigid import Rigid
from slicesplat.records import Verdict

SHAPE = (12, 10, 6)
PASS = Verdict("pass")


AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nib.save(nib.Nifti1Image(data, affine), path)
    return str(path)


def text(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], args: list[str], *words: str) -> None:
    """Status 2, one line on stderr, nothing on stdout."""
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert "; " in err, "no remedy"
    for word in words:
        assert word in err


def reconstruct_args(tmp_path: Path, *stacks: str) -> list[str]:
    files = ["--input-stacks", *stacks, "--output-volume", str(tmp_path / "out.nii.gz")]
    # Toys are no brains: what is not zero is the region.
    return ["reconstruct", "--no-segmentation", *files]


def one_voxel_result(progress: Callable[[Any], None] | None = None, verdict: Verdict = PASS) -> SimpleNamespace:
    volume = nib.Nifti1Image(np.full((4, 4, 4), 7.0), np.diag([0.8, 0.8, 0.8, 1]))
    nothing = {"stacks": [], "steps": [], "field": [], "noise": 0.0, "expected_error": 0.0, "slice_records": list}
    written, slices = {"settings": {"seed": 3}, "slices": []}, SimpleNamespace(motion=Rigid.identity(0))
    placed = {"mask": volume, "slices": slices, "placement": None}
    return SimpleNamespace(volume=volume, verdict=verdict, json=lambda: written, **placed, **nothing)


def ball(tmp_path: Path) -> tuple[str, str]:
    grid = np.indices((32, 32, 32)) - 15.5
    radius = np.sqrt((grid**2).sum(axis=0))
    inside = radius < 12
    values = np.where(inside, 500 + 200 * np.sin(grid[0]) * np.cos(0.7 * grid[1]) + 10 * grid[2], 0)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return (
        write(tmp_path / "v.nii.gz", values.astype(np.float32), affine),
        write(tmp_path / "m.nii.gz", inside.astype(np.uint8), affine),
    )
