"""The lattice stands where the slices saw something, and nowhere else."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from balls import ball, ball_stack, in_world, some_field
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.spatial import cKDTree

from slicesplat.field.lattice import NOTHING, Lattice, lattice_over, prune, sharpened
from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.reach import LATTICE_SIGMA
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices, cut_slices


def normals(slices: Slices) -> NDArray[np.float64]:
    """Of the slices of all pixels inside the masks."""
    return slices.pose.rotation[slices.slice_of_pixel()[slices.mask], :, 2]


@pytest.mark.parametrize("spacing", [2.0, 5.0])
def test_lattice_covers_what_the_slices_saw_and_little_else(spacing: float) -> None:
    slices = ball()
    away = np.isin(np.arange(len(slices)), [2, 3])
    # Slices count where they are, not where they were scanned.
    slices = slices.moved(Rigid.exp(np.outer(away, [20.0, 0, 0, 0, 0, 0])))
    nodes, seen = lattice_over(slices, spacing).means().numpy(), in_world(slices)
    diagonal = np.sqrt(3) / 2 * spacing
    assert cKDTree(nodes).query(seen)[0].max() <= diagonal + 1e-4
    # Half a slice's thickness, and in fine lattices gaps of a cell are filled.
    assert cKDTree(seen).query(nodes)[0].max() <= diagonal + 1.5 + (spacing if spacing < 2.8 else 0) + 1e-4


@pytest.mark.parametrize("spacing", [1.1, 5.0])
def test_lattice_is_the_cells_that_pixels_fall_into_across_the_thickness_and_the_gaps_closed(spacing: float) -> None:
    slices = ball()
    shifts = np.linspace(-1, 1, max(3, math.ceil(3 / spacing) + 1))
    layers = [in_world(slices) + shift * 1.5 * normals(slices) for shift in shifts]
    cells = np.rint(np.concatenate(layers) / spacing).astype(int)
    low = cells.min(axis=0) - 1
    box = np.zeros(cells.max(axis=0) - low + 2, bool)
    box[tuple((cells - low).T)] = True
    if spacing < 2.8:
        box = minimum_filter(maximum_filter(box, 3, mode="constant", cval=0), 3, mode="constant", cval=1)
    np.testing.assert_array_equal(lattice_over(slices, spacing).cell, np.argwhere(box) + low)


@pytest.mark.parametrize("profile", ["gaussian", "box", "sinc"])
def test_lattice_reaches_through_the_thickness_of_the_slices(profile: SliceProfile) -> None:
    slices, spacing = ball(profile=profile), 0.3
    nodes, seen = cKDTree(lattice_over(slices, spacing).means().numpy()), in_world(slices)
    for side in (-1, 1):
        # Cells are rounded to, and layers are up to a cell apart.
        assert nodes.query(seen + side * 0.46 * 3.0 * normals(slices))[0].max() <= (np.sqrt(3) / 2 + 0.5) * spacing


@pytest.mark.parametrize(("lost", "bridged"), [([5], True), ([5, 6], True), ([5, 6, 7], False)])
@pytest.mark.parametrize("emptied", [True, False])
def test_lattice_goes_across_one_or_two_lost_slices(lost: list[int], bridged: bool, emptied: bool) -> None:
    slices = cut_slices([ball_stack(np.eye(3), (26, 26, 11), (1.5, 1.5, 4.0), 18.0)])
    gone = np.isin(slices.index, lost)
    if emptied:
        left = replace(slices, mask=slices.mask & ~gone[slices.slice_of_pixel()])
    else:
        left = slices.take(np.flatnonzero(~gone))
    middle = np.mean(lost) * 4.0 - 20.0
    nodes = cKDTree(lattice_over(left, 1.0, bridged=2).means().numpy())
    along = np.stack(np.broadcast_arrays(0.0, 0.0, middle + np.arange(-1.5, 2.0)), axis=1)
    assert (nodes.query(along)[0] < 1.0).all() == bridged
    # And as far as before at the ends.
    whole = lattice_over(slices, 1.0).means()
    assert nodes.data[:, 2].min() == float(whole[:, 2].min()) and nodes.data[:, 2].max() == float(whole[:, 2].max())


@pytest.mark.parametrize("spacing", [0.7, 2.5])
def test_means_are_the_cells_times_the_spacing_and_no_cell_comes_twice(spacing: float) -> None:
    lattice = lattice_over(ball(), spacing)
    assert lattice.spacing == spacing and len(lattice) == len(lattice.cell) == len(lattice.means())
    np.testing.assert_allclose(lattice.means(), lattice.cell.numpy() * spacing, rtol=1e-6)
    assert len(np.unique(lattice.cell, axis=0)) == len(lattice)
    assert repr(lattice) == f"Lattice({len(lattice)} Gaussians, {spacing} mm apart)"


def test_field_of_a_lattice_has_its_means_round_gaussians_and_the_amplitudes_given() -> None:
    lattice = Lattice(2.0, torch.tensor([[0, 0, 0], [1, -3, 2]]))
    field = lattice.field(torch.tensor([0.5, -1.0]))
    assert field.means.tolist() == [[0, 0, 0], [2, -6, 4]]
    np.testing.assert_allclose(
        field.covariances(), np.tile((2.0 * LATTICE_SIGMA) ** 2 * np.eye(3), (2, 1, 1)), rtol=1e-6
    )
    assert field.amplitudes.tolist() == [0.5, -1.0]
    assert not lattice.field().amplitudes.any()


@pytest.mark.parametrize("margin", [0, 2])
def test_box_holds_every_cell_and_the_margin(margin: int) -> None:
    lattice = Lattice(1.0, torch.tensor([[4, -2, 7], [6, -2, 3]]))
    shape, cells = lattice.boxed(margin)
    assert shape == [3 + 2 * margin, 1 + 2 * margin, 5 + 2 * margin]
    assert (cells - margin).tolist() == [[0, 0, 4], [2, 0, 0]]


def test_neighbours_on_the_lattice_sum_to_a_constant() -> None:
    lattice = lattice_over(ball(), 2.0)
    inner = torch.tensor(np.random.default_rng(0).uniform(-1.5, 1.5, (300, 3)), dtype=torch.float32)
    values = lattice.field(torch.ones(len(lattice))).evaluate(inner).numpy()
    assert np.ptp(values) / values.mean() < 0.02  # 1 % to either side


def test_sharpened_amplitudes_give_the_values_that_plain_ones_blur() -> None:
    index = torch.stack(torch.meshgrid(*[torch.arange(9)] * 3, indexing="ij"), dim=-1)
    values = torch.exp(-((index - 4) ** 2).sum(dim=-1) / (2 * 1.5**2))
    lattice = Lattice(1.0, index.reshape(-1, 3))
    even = values * float(sharpened(torch.ones(9, 9, 9))[4, 4, 4])
    off = []
    for amplitudes in (sharpened(values), even):
        found = lattice.field(amplitudes.reshape(-1)).evaluate(lattice.means()).reshape(values.shape)
        off.append(float((found - values)[2:7, 2:7, 2:7].abs().max()))
    assert off[0] < 0.02
    assert off[1] > 5 * off[0]


def test_gaussians_that_carry_nothing_are_pruned() -> None:
    field = some_field()
    field.amplitudes[:4] = torch.tensor([0.0, 0.9, -0.9, -2.0]) * NOTHING * field.amplitudes.abs().max()
    assert prune(field).amplitudes.tolist() == field.amplitudes[3:].tolist()
