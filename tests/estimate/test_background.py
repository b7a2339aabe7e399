"""With the background the volume shows what surrounds the region, and not a byte inside the region changes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, map_coordinates

from slicesplat.config import Config, FitSettings, SampleSettings
from slicesplat.pipeline import reconstruct
from slicesplat.result import Reconstruction
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

VOXEL = 1.4
BRIEF = FitSettings(spacings=(1.05,), strengths=(), pose_rounds=3, final_rounds=1, rounds=2, iterations=8)


@cache
def surrounded() -> tuple[NDArray, NDArray, NDArray]:
    """Volume, affine and mask of a brain of 32 mm amid waves of 15 mm, which move with it."""
    brain, affine, inside = (np.asarray(part) for part in brain_phantom(32.0, VOXEL))
    brain, inside = np.pad(brain, 12), np.pad(inside, 12)
    affine = affine.copy()
    affine[:3, 3] -= 12 * VOXEL
    x, y, z = np.indices(brain.shape) * VOXEL * 2 * np.pi / 15
    waves = 500 + 130 * (np.sin(x) + np.cos(y) + np.sin(z + 1))
    return np.where(inside, brain, waves).astype(np.float32), affine, inside


@cache
def made(with_background: bool) -> Reconstruction:
    config = SimulationConfig(motion="mild", pixel=2.0, spacing=4.0, thickness=4.0, dropout=0.0, noise=0.02, seed=1)
    settings = Config(resolution=VOXEL, threads=1, with_background=with_background, fit=BRIEF)
    return reconstruct(simulate(*surrounded(), config).stacks, settings)


def values(result: Reconstruction) -> tuple[NDArray, NDArray]:
    return np.asarray(result.volume.dataobj), np.asarray(result.mask.dataobj) > 0


def test_inside_is_what_it_is_without_the_background() -> None:
    plain, with_it = made(False), made(True)
    margin = int(np.ceil(SampleSettings().background_margin / VOXEL))
    inner = (slice(margin, -margin),) * 3
    (volume, inside), (wide, wide_inside) = values(plain), values(with_it)
    assert wide_inside[inner].tobytes() == inside.tobytes()
    assert wide_inside.sum() == inside.sum()
    assert np.where(inside, wide[inner], 0).astype(np.float32).tobytes() == volume.tobytes()
    assert wide.dtype == volume.dtype
    # Voxel (i, j, k) of the one grid is voxel (i, j, k) + margin of the other.
    np.testing.assert_allclose(
        with_it.volume.affine @ [margin, margin, margin, 1.0], plain.volume.affine[:, 3], atol=1e-9
    )
    assert with_it.json()["slices"] == plain.json()["slices"]
    assert len(with_it.field) == len(plain.field)


def true_values() -> NDArray:
    """The truth on the grid of the volume."""
    truth, affine, _ = surrounded()
    wide, _ = values(made(True))
    to_truth = np.linalg.inv(affine) @ made(True).volume.affine
    index = np.indices(wide.shape).reshape(3, -1)
    return map_coordinates(truth, to_truth[:3, :3] @ index + to_truth[:3, 3:], order=1).reshape(wide.shape)


def test_outside_is_what_surrounds_the_region() -> None:
    wide, inside = values(made(True))
    # As far as every stack's field of view reaches; there are four millimetres around the brain.
    shell = binary_dilation(inside, iterations=2) & ~inside
    expected = true_values()[shell]
    assert np.isfinite(wide).all() and (wide >= 0).all()
    assert (wide[shell] > 0).mean() > 0.95
    assert np.corrcoef(wide[shell], expected)[0, 1] > 0.85
    assert np.median(wide[shell]) == pytest.approx(np.median(expected), rel=0.1)
    assert not values(made(False))[0][~values(made(False))[1]].any()


def test_seam_is_no_edge() -> None:
    wide, inside = values(made(True))
    error = np.abs(np.diff(wide, axis=0) - np.diff(true_values(), axis=0))
    across, within = inside[1:] != inside[:-1], inside[1:] & inside[:-1]
    assert np.median(error[across]) < 1.5 * np.median(error[within])
