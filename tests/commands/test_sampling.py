"""``sample-volume`` and ``sample-slices``: files in, files out, and one line for what cannot be done."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, text, write
from models import RADIUS, made_up
from scipy.spatial.transform import Rotation

from slicesplat.cli import main
from slicesplat.geometry.stack import Stack
from slicesplat.io.model import save_model
from slicesplat.io.slices import load_slices, save_slices
from slicesplat.records import SliceRecord
from slicesplat.sampling import Grid, sample_volume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix() * [1.2, 1.2, 3.0]
OBLIQUE[:3, 3] = -OBLIQUE[:3, :3] @ [14.5, 15.5, 6]


@pytest.fixture
def model(tmp_path: Path) -> str:
    save_model(made_up(), tmp_path / "model.safetensors")
    return str(tmp_path / "model.safetensors")


@pytest.fixture
def image(tmp_path: Path) -> str:
    return write(tmp_path / "image.nii.gz", np.ones((30, 32, 13), np.float32), OBLIQUE)


def sampled(tmp_path: Path, model: str, *flags: str) -> nib.Nifti1Image:
    out = str(tmp_path / "out.nii.gz")
    assert main(["sample-volume", "--input-model", model, "--output-volume", out, "--quiet", *flags]) == 0
    return nib.Nifti1Image.from_filename(out)


def test_volume_has_the_resolution_of_the_model_or_the_one_that_was_asked_for(tmp_path: Path, model: str) -> None:
    plain = sampled(tmp_path, model)
    expected, _ = sample_volume(made_up(), Grid.around(made_up()))
    assert np.asarray(plain.dataobj).tobytes() == np.asarray(expected.dataobj).tobytes()
    np.testing.assert_allclose(plain.header.get_zooms(), 1.5)
    np.testing.assert_allclose(sampled(tmp_path, model, "--output-resolution", "2.5").header.get_zooms(), 2.5)


def test_reference_gives_the_grid(tmp_path: Path, model: str, image: str) -> None:
    volume = sampled(tmp_path, model, "--reference", image)
    assert volume.shape == (30, 32, 13)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
    assert volume.get_fdata().max() > 500


def test_orientation_gives_the_axes_and_the_mask_what_is_shown(tmp_path: Path, model: str, image: str) -> None:
    turned = sampled(tmp_path, model, "--sample-orientation", image)
    np.testing.assert_allclose(turned.affine[:3, :3] / 1.5, OBLIQUE[:3, :3] / [1.2, 1.2, 3.0], atol=1e-6)
    half = np.zeros((30, 32, 13), np.uint8)
    half[:15] = 1
    mask = write(tmp_path / "mask.nii.gz", half, OBLIQUE)
    masked = sampled(tmp_path, model, "--sample-mask", mask, "--output-resolution", "1")
    # Along the mask's own axes, around it.
    np.testing.assert_allclose(masked.affine[:3, :3], OBLIQUE[:3, :3] / [1.2, 1.2, 3.0], atol=1e-6)
    assert abs(masked.shape[0] - 15 * 1.2) <= 2
    shown = masked.get_fdata() > 100
    assert shown.sum() == pytest.approx(0.5 * 4 / 3 * np.pi * RADIUS**3, rel=0.2)


def test_reference_and_another_resolution_contradict_each_other(
    tmp_path: Path, model: str, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["sample-volume", "--input-model", model, "--output-volume", str(tmp_path / "v.nii.gz")]
    refused(capsys, [*args, "--reference", image, "--output-resolution", "1"], image, "leave out")
    refused(capsys, [*args, "--output-resolution", "0.01"], "0.01 mm")
    refused(capsys, [*args, "--threads", "-1"], "threads")
    refused(capsys, [*args, "--reference", str(tmp_path / "none.nii.gz")], "none.nii.gz: no such file")
    refused(capsys, [*args[:-1], model], model, "unknown kind of output file")


def test_foreign_model_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.safetensors", "model.pt"):
        path = text(tmp_path / name, "not a model")
        args = ["sample-volume", "--input-model", path, "--output-volume", str(tmp_path / "v.nii.gz")]
        refused(capsys, args, name)
    assert not (tmp_path / "v.nii.gz").exists()


def test_slices_are_shown_where_they_are_under_their_numbers(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = np.random.default_rng(0).uniform(1, 2, (30, 32, 13)).astype(np.float32)
    mask = np.ones(data.shape, bool)
    mask[:, :, 12] = False
    stack = Stack(data, mask, OBLIQUE, 3.0)
    records = [SliceRecord(0, k, np.eye(4)) for k in (3, 6, 12)]
    save_slices(tmp_path / "slices", [stack], records, numbers=[2, 11, 7])
    args = ["sample-slices", "--input-model", model, "--input-slices", str(tmp_path / "slices"), "--quiet"]
    assert main([*args, "--simulated-slices", str(tmp_path / "shown")]) == 0
    shown, given = (load_slices(tmp_path / folder) for folder in ("shown", "slices"))
    assert [one.name for one in shown] == ["2.nii.gz", "7.nii.gz", "11.nii.gz"]
    for one, other in zip(shown, given, strict=True):
        assert one.affine.tobytes() == other.affine.tobytes() and one.mask.tobytes() == other.mask.tobytes()
    # Through 3 mm of thickness a slice varies less than the plane in its middle.
    plane = sampled(tmp_path, model, "--reference", str(tmp_path / "slices" / "11.nii.gz")).get_fdata()[8:22, 8:24, 0]
    thick = shown[2].data[8:22, 8:24, 0]
    assert np.corrcoef(thick.ravel(), plane.ravel())[0, 1] > 0.98
    assert thick.std() < plane.std() and thick.mean() == pytest.approx(plane.mean(), rel=0.05)
    assert not shown[1].data.any()
    refused(capsys, [*args, "--simulated-slices", str(tmp_path / "slices")], "holds inputs")
    refused(capsys, [*args[:3], "--input-slices", str(tmp_path / "none"), "--simulated-slices", "x"], "no such folder")
