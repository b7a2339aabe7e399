"""From files to files: volume, slices, model and JSON, as the library gives them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from reconstructions import alike, small, values

from slicesplat.cli import main
from slicesplat.config import Config
from slicesplat.io.model import load_model
from slicesplat.io.slices import load_slices
from slicesplat.pipeline import reconstruct
from slicesplat.splat import available_backends
from slicesplat.splat.grid import sample_on_grid
from slicesplat.validation.files import save
from slicesplat.validation.phantom import brain_phantom


def test_command_takes_files_and_leaves_volume_slices_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "scan", tmp_path / "out"
    out.mkdir()
    save(small(), folder, *brain_phantom(32.0, 1.4))
    numbers = range(1, 4)
    args = ["reconstruct", "--input-stacks", *(str(folder / f"stack-{i}.nii.gz") for i in numbers)]
    args += ["--stack-masks", *(str(folder / f"mask-{i}.nii.gz") for i in numbers), "--thicknesses", "4"]
    args += ["--output-volume", str(out / "volume.nii.gz"), "--output-resolution", "1.4", "--threads", "1", "--quiet"]
    args += ["--output-json", str(out / "result.json"), "--output-slices", str(out / "slices")]
    args += ["--simulated-slices", str(out / "simulated"), "--output-model", str(out / "model.safetensors")]
    assert main(args) == 0
    assert capsys.readouterr() == ("", "")
    assert {path.name for path in out.iterdir()} == {
        *("volume.nii.gz", "result.json", "model.safetensors", "slices", "simulated")
    }
    volume = nib.Nifti1Image.from_filename(out / "volume.nii.gz")
    made = reconstruct(small().stacks, Config(resolution=1.4, threads=1))
    # Affines are stored in float32.
    np.testing.assert_allclose(volume.affine[:3, :3], made.volume.affine[:3, :3], atol=1e-6)
    assert alike(replace(made, volume=volume), made) > 0.97
    assert np.median(volume.get_fdata()[volume.get_fdata() > 0]) == pytest.approx(
        np.median(values(made)[values(made) > 0]), rel=0.01
    )
    found = json.loads((out / "result.json").read_text())
    assert found["device"] == available_backends()[0]
    records = found["slices"]
    slices = load_slices(out / "slices")
    assert len(slices) == len(records) == len(made.slices)
    for stack, record in zip(slices, records, strict=True):
        given = small().stacks[record["stack"]]
        corrected = np.array(record["world_transform"]) @ given.pose(record["slice"])
        np.testing.assert_allclose(stack.pose(0), corrected, atol=1e-3)
    simulated = load_slices(out / "simulated")
    for measured, predicted in zip(slices, simulated, strict=True):
        assert predicted.affine.tobytes() == measured.affine.tobytes()
        assert predicted.mask.tobytes() == measured.mask.tobytes()
    residual = np.concatenate([(m.data - p.data)[m.mask] for m, p in zip(slices, simulated, strict=True)])
    measured = np.concatenate([stack.data[stack.mask] for stack in slices])
    assert residual.std() < 0.35 * measured.std()
    model = load_model(out / "model.safetensors")
    sampled = model.brightest * np.maximum(sample_on_grid(model.field, volume.affine, volume.shape), 0)
    inside = volume.get_fdata() > 0
    np.testing.assert_allclose(sampled[inside], volume.get_fdata()[inside], rtol=1e-3, atol=0.1)
