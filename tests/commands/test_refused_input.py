"""Bad input is refused in one line that names file, problem and remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import AFFINE, SHAPE, reconstruct_args, refused, text, write

from slicesplat.cli import main


def with_corner(value: float) -> np.ndarray:
    data = np.ones(SHAPE, np.float32)
    data[0, 0, 0] = value
    return data


def shifted(distance: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] = distance
    return affine


def sheared() -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 1] = 0.2
    return affine


def set_sform(path: Path, affine: np.ndarray) -> str:
    image = nib.Nifti1Image(np.ones(SHAPE, np.float32), None)
    image.header["sform_code"] = 1
    for name, row in zip(("srow_x", "srow_y", "srow_z"), affine, strict=False):
        image.header[name] = row
    image.to_filename(path)
    return str(path)


def truncated(path: Path) -> str:
    write(path, np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    path.write_bytes(path.read_bytes()[:700])
    return str(path)


def nowhere(path: Path) -> str:
    image = nib.Nifti1Image(np.ones(SHAPE, np.float32), None)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    image.to_filename(path)
    return str(path)


def claiming(path: Path, voxels: int) -> str:
    """A file of a few kB whose header claims so many voxels along each axis."""
    write(path, np.ones(SHAPE, np.float32))
    header = bytearray(path.read_bytes())
    header[42:48] = np.full(3, voxels, "<i2").tobytes()
    path.write_bytes(header)
    return str(path)


def folder(path: Path, *files: str) -> str:
    path.mkdir()
    for name in files:
        write(path / name, np.ones(SHAPE, np.float32))
    return str(path)


BAD_STACKS: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda d: str(d / "bad.nii.gz"), "no such file"),
    "not NIfTI": (lambda d: text(d / "bad.nii", "hello"), "NIfTI"),
    "truncated gzip": (lambda d: truncated(d / "bad.nii.gz"), "truncated gzip"),
    "4-D": (lambda d: write(d / "bad.nii.gz", np.ones((*SHAPE, 2), np.float32)), "4 dimensions"),
    "two slices": (lambda d: write(d / "bad.nii.gz", np.ones((12, 10, 2), np.float32)), "only 2 slices"),
    "NaN": (lambda d: write(d / "bad.nii.gz", with_corner(np.nan)), "NaN or infinite"),
    "infinity": (lambda d: write(d / "bad.nii.gz", with_corner(np.inf)), "NaN or infinite"),
    "no overlap": (lambda d: write(d / "bad.nii.gz", np.ones(SHAPE, np.float32), shifted(900)), "does not overlap"),
    "sheared": (lambda d: set_sform(d / "bad.nii.gz", sheared()), "sheared"),
    "singular": (lambda d: set_sform(d / "bad.nii.gz", np.diag([1.0, 1, 0, 1])), "singular"),
    "no orientation": (lambda d: nowhere(d / "bad.nii.gz"), "does not say how the image lies"),
    "sizes in metres": (
        lambda d: write(d / "bad.nii.gz", np.ones(SHAPE, np.float32), np.diag([0.001, 0.001, 0.003, 1.0])),
        "are they in metres?",
    ),
    "pixels of 30 mm": (
        lambda d: write(d / "bad.nii.gz", np.ones(SHAPE, np.float32), np.diag([30.0, 30.0, 30.0, 1.0])),
        "mm",
    ),
    "more claimed than there is": (lambda d: claiming(d / "bad.nii", 400), "cannot be read whole"),
    "no memory has what is claimed": (lambda d: claiming(d / "bad.nii", 30000), "voxels"),
    "one slice": (lambda d: write(d / "bad.nii.gz", np.ones((12, 10, 1), np.float32)), "a single slice"),
    "MINC": (lambda d: text(d / "bad.nii.mnc", "CDF"), "is not NIfTI"),
    "folder of slices": (lambda d: folder(d / "bad.nii", "0.nii.gz", "1.nii.gz"), "single slices cannot be read"),
    "name of 300 letters": (lambda d: str(d / f"bad.nii{300 * 'x'}.gz"), "; "),
}


BAD_MASKS: dict[str, tuple[Callable[[Path], str], str]] = {
    "another shape": (lambda d: write(d / "bad.nii.gz", np.ones((9, 9, 9), np.uint8)), "its shape"),
    "another affine": (lambda d: write(d / "bad.nii.gz", np.ones(SHAPE, np.uint8), shifted(5)), "its affine"),
    "empty": (lambda d: write(d / "bad.nii.gz", np.zeros(SHAPE, np.uint8)), "empty"),
}


@pytest.mark.parametrize(("make", "problem"), BAD_STACKS.values(), ids=BAD_STACKS.keys())
def test_bad_stack_is_refused_in_one_line(
    tmp_path: Path,
    stack: str,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], str],
    problem: str,
) -> None:
    refused(capsys, reconstruct_args(tmp_path, stack, stack, make(tmp_path)), "bad.nii", problem)
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize(("make", "problem"), BAD_MASKS.values(), ids=BAD_MASKS.keys())
def test_bad_mask_is_refused_in_one_line(
    tmp_path: Path,
    stack: str,
    mask: str,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], str],
    problem: str,
) -> None:
    args = [*reconstruct_args(tmp_path, stack, stack), "--stack-masks", mask, make(tmp_path)]
    refused(capsys, args, "bad.nii.gz", problem)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--thicknesses", "3", "3", "3"], "wrong number of thicknesses"),
        (["--thicknesses", "0"], "not positive"),
        (["--thicknesses", "-3", "3"], "not positive"),
        (["--thicknesses", "0.003"], "is it in metres?"),
        (["--thicknesses", "30"], "mm"),
        (["--thicknesses", "nan"], "mm"),
    ],
)
def test_bad_thickness_is_refused_in_one_line(
    tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str], flags: list[str], problem: str
) -> None:
    refused(capsys, [*reconstruct_args(tmp_path, stack, stack), *flags], "stack.nii.gz", problem)


def test_wrong_number_of_masks_is_refused_in_one_line(
    tmp_path: Path, stack: str, mask: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*reconstruct_args(tmp_path, stack), "--stack-masks", mask, mask]
    refused(capsys, args, "mask.nii.gz", "wrong number of masks")


def test_output_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_output(*flags: str) -> list[str]:
        return ["reconstruct", "--input-stacks", "never-read.nii.gz", *flags]

    volume = str(tmp_path / "out.nii.gz")
    refused(capsys, with_output("--output-volume", f"{stack}/o.nii.gz"), "o.nii.gz", "is not a folder")
    refused(capsys, with_output("--output-volume", str(tmp_path / "o.mgz")), "o.mgz", "unknown kind")
    refused(capsys, with_output("--output-volume", volume, "--output-json", f"{stack}/none/r.json"), "r.json")
    refused(capsys, with_output("--output-volume", volume, "--output-model", str(tmp_path / "m.h5")), "m.h5", "unknown")
    both = ["--output-slices", str(tmp_path / "s"), "--simulated-slices", str(tmp_path / "s")]
    refused(capsys, with_output("--output-volume", volume, *both), "two folders")
    if sys.platform == "linux":
        refused(capsys, with_output("--output-volume", "/proc/o.nii.gz"), "/proc/o.nii.gz", "read-only")


def test_output_never_takes_the_place_of_an_input(
    tmp_path: Path, stack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["reconstruct", "--input-stacks", stack, "--output-volume", stack]
    refused(capsys, args, "stack.nii.gz", "would be overwritten")
    # Its sidecar is read as well, or would be by the next run.
    sidecar = ["--output-json", str(tmp_path / "stack.json")]
    refused(capsys, [*reconstruct_args(tmp_path, stack), *sidecar], "stack.json", "would be overwritten")
    refused(capsys, ["assess", "--input-stacks", stack, *sidecar], "stack.json", "would be overwritten")
    refused(capsys, ["simulate", "--volume", stack, "--mask", stack, "--output", str(tmp_path)], "holds inputs")


def test_mask_of_names_the_stack_that_the_single_mask_is_drawn_on(
    stack: str, mask: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["assess", "--input-stacks", stack, stack, "--stack-masks", mask, "--thicknesses", "3"]
    assert main(args) == 0
    assert "mask.nii.gz: fits stack.nii.gz, stack.nii.gz, taken as drawn on the first" in capsys.readouterr().err
    assert main([*args, "--mask-of", "2"]) == 0
    assert "taken as drawn" not in capsys.readouterr().err
    refused(capsys, [*args, "--mask-of", "3"], "mask.nii.gz", "name one from 1 to 2")
