"""What viewers of Gaussian splats read is what the field has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from balls import some_field
from numpy.typing import NDArray

from slicesplat.io.ply import PLY_FIELDS, save_ply


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """The vertices of a binary PLY file by the header's own words."""
    header, values = path.read_bytes().split(b"end_header\n", 1)
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    names = [line.split()[2] for line in lines if line.startswith("property float ")]
    count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex "))
    assert len(values) == 4 * count * len(names)
    columns = np.frombuffer(values, "<f4").reshape(count, len(names)).T
    return dict(zip(names, columns, strict=True))


def test_gaussians_are_read_back(tmp_path: Path) -> None:
    field = some_field(12)
    field = replace(field, amplitudes=field.amplitudes.abs() + 0.1)
    brightness = torch.linspace(0, 1, 12)
    save_ply(field, brightness, tmp_path / "x.ply")
    found = read(tmp_path / "x.ply")
    assert tuple(found) == PLY_FIELDS
    assert np.array_equal(np.stack([found[k] for k in "xyz"], axis=1), field.means.numpy())
    assert np.array_equal(np.stack([found[f"scale_{k}"] for k in range(3)], axis=1), field.log_scales.numpy())
    quaternions = np.stack([found[f"rot_{k}"] for k in range(4)], axis=1)
    unit = torch.nn.functional.normalize(field.rotations, dim=1).numpy()
    np.testing.assert_allclose(quaternions, unit, atol=1e-6)
    # As a viewer computes them.
    opacity = 1 / (1 + np.exp(-found["opacity"].astype(float)))
    np.testing.assert_allclose(opacity, (field.amplitudes / field.amplitudes.max()).numpy(), atol=2e-4)
    colour = 0.5 + 0.28209479 * found["f_dc_0"]
    np.testing.assert_allclose(colour, brightness.numpy(), atol=1e-6)
    assert np.array_equal(found["f_dc_0"], found["f_dc_2"])


def test_gaussians_that_take_away_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    field = some_field(12)
    with caplog.at_level("INFO", logger="slicesplat"):
        save_ply(field, torch.ones(12), tmp_path / "x.ply")
    taken = int((field.amplitudes <= 0).sum())
    assert 0 < taken < 12
    assert len(read(tmp_path / "x.ply")["x"]) == 12 - taken
    assert f"x.ply: {taken} Gaussians of negative amplitude are left out" in caplog.text


def test_the_same_field_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.ply", "b.ply"):
        save_ply(some_field(5), torch.ones(5), tmp_path / name)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
