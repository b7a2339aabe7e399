"""A volume is sampled at the centres of its voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from balls import some_field
from scipy.spatial.transform import Rotation

from slicesplat.geometry.reach import SAMPLING_CUTOFF
from slicesplat.splat.grid import sample_on_grid


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_grid_holds_the_values_of_the_field_at_its_voxel_centres(flip: float) -> None:
    field, shape = some_field(20), (9, 11, 8)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.3, 0.5, -0.2]).as_matrix() * [0.9, 1.1 * flip, 1.3]
    affine[:3, 3] = -affine[:3, :3] @ [4.0, 5.0, 3.5]
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    wanted = field.to(torch.float64).evaluate(torch.tensor(points)).numpy().reshape(shape)
    # Beyond the cut-off of four standard deviations a Gaussian has at most 3.4e-4 of its amplitude.
    tolerance = np.exp(-0.5 * SAMPLING_CUTOFF**2) * float(field.amplitudes.abs().sum())
    assert tolerance < 0.01 * np.abs(wanted).max()
    np.testing.assert_allclose(sample_on_grid(field, affine, shape), wanted, atol=tolerance)
