"""The region of the output is what the slices' masks agree on, where the slices are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from balls import in_world
from brains import SIZE_MM, SPACING, phantom, still_slices
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from slicesplat.geometry.reach import RIM_MM
from slicesplat.geometry.rigid import Rigid
from slicesplat.prepare.region import grid_over, region_field, region_mask
from slicesplat.splat.grid import sample_on_grid


def dice(a: NDArray, b: NDArray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_region_is_the_true_mask_and_a_rim() -> None:
    slices, (_, affine, mask) = still_slices(), phantom()
    found = region_mask(region_field(slices, np.ones(len(slices))), affine, mask.shape)
    grown = distance_transform_edt(~mask, sampling=SPACING) <= RIM_MM
    assert dice(found, grown) > 0.95
    # Nothing of the brain is cut off.
    assert found[mask].mean() > 0.995


def test_region_has_no_holes_and_one_piece_where_slices_are_missing() -> None:
    slices, (_, affine, mask) = still_slices(), phantom()
    forgotten = slices.index % 4 == 1  # somebody forgot the mask in every fourth slice
    points, inside = in_world(slices), np.flatnonzero(slices.mask)
    hole = np.linalg.norm(points - points.mean(axis=0), axis=1) < 5.0  # and all masks have one in the middle
    pierced = replace(slices, mask=slices.mask & ~forgotten[slices.slice_of_pixel()])
    pierced.mask[inside[hole]] = False
    region = region_field(pierced, np.where(forgotten, 0.0, 1.0))
    found, bare = region_mask(region, affine, mask.shape), sample_on_grid(region, affine, mask.shape) > 0.5
    assert (binary_fill_holes(bare) & ~bare).sum() > 50
    np.testing.assert_array_equal(found, binary_fill_holes(found))
    assert found[mask].mean() > 0.97


def test_slices_without_trust_do_not_shape_the_region() -> None:
    slices, (_, affine, mask) = still_slices(), phantom()
    astray = np.arange(len(slices)) == 10
    weight = np.where(astray, 0.0, 1.0)
    region = region_field(slices.moved(Rigid.exp(np.outer(astray, [30.0, 30.0, 0, 0, 0, 0]))), weight)
    grid, shape = grid_over(region, SPACING)
    found = region_mask(region, affine, mask.shape)
    assert dice(found, distance_transform_edt(~mask, sampling=SPACING) <= RIM_MM) > 0.95
    # The output grid does not reach out to the slice that went astray.
    extent = (np.array(shape) - 1) * SPACING
    assert (extent < SIZE_MM + 20).all()
    assert (grid[:3, 3] > -SIZE_MM / 2 - 10).all()


@pytest.mark.parametrize("resolution", [0.9, 2.0])
def test_output_grid_is_isotropic_and_holds_the_region(resolution: float) -> None:
    slices = still_slices()
    region = region_field(slices, np.ones(len(slices)))
    affine, shape = grid_over(region, resolution)
    np.testing.assert_allclose(affine[:3, :3], resolution * np.eye(3))
    # Voxel centres lie on multiples of the resolution: volumes of one subject share a lattice.
    np.testing.assert_allclose(affine[:3, 3] / resolution, np.rint(affine[:3, 3] / resolution), atol=1e-9)
    index = np.linalg.solve(affine[:3, :3], (in_world(slices) - affine[:3, 3]).T).T
    assert (index > 0).all() and (index < np.array(shape) - 1).all()
    mask = region_mask(region, affine, shape)
    border = mask.copy()
    border[1:-1, 1:-1, 1:-1] = False
    assert mask.any() and not border.any()


def test_empty_region_is_an_error() -> None:
    slices = still_slices()
    with pytest.raises(ValueError, match="no voxel in common"):
        grid_over(region_field(slices, np.zeros(len(slices))), 1.0)
