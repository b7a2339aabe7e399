"""Fewer Gaussians of any shape come near a field that many on a lattice make."""

from __future__ import annotations

from functools import cache

import numba
import pytest
import torch
from balls import known_field, three_stacks

from slicesplat.config import PrimitivesSettings
from slicesplat.estimate.projection import Projection
from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import lattice_over
from slicesplat.solvers.amplitudes import resampled_amplitudes

PIXEL = 1.5
SETTINGS = PrimitivesSettings(steps=24, growth_steps=8)


@cache
def target() -> GaussianField:
    """A lattice that takes the values of a known field of sixty Gaussians of any shape."""
    lattice = lattice_over(three_stacks(), 1.5)
    return lattice.field(resampled_amplitudes(known_field(), lattice))


@cache
def projection() -> Projection:
    return Projection(target(), three_stacks(), PIXEL, SETTINGS)


@cache
def expected() -> tuple[torch.Tensor, torch.Tensor]:
    """Places of no grid, and the target there."""
    points = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0)) * 20 - 10
    return points, target().evaluate(points)


def error(field: GaussianField) -> float:
    """Root mean square between a field and the target, over that of the target."""
    points, values = expected()
    return float((field.evaluate(points) - values).square().mean().sqrt() / values.square().mean().sqrt())


def test_a_tenth_of_the_gaussians_come_nearer_than_a_lattice_of_as_many() -> None:
    count = len(target()) // 10
    found = projection().begin(count)
    assert len(found) == count
    spacing = 1.5 * 10 ** (1 / 3)
    coarse = lattice_over(three_stacks(), spacing)
    alike = coarse.field(resampled_amplitudes(target(), coarse))
    assert error(found) < 0.5 * error(alike)
    assert error(found) < 0.1


def test_more_gaussians_come_nearer() -> None:
    few = projection().begin(100)
    more = projection().grow(few, 160)
    assert (len(few), len(more)) == (100, 160)
    assert error(more) < error(few)


def test_gaussians_keep_to_sizes_that_the_pixels_can_show() -> None:
    found = projection().begin(120)
    sizes = found.log_scales.exp()
    assert float(sizes.min()) >= SETTINGS.sharpest * PIXEL * (1 - 1e-5)
    assert float(sizes.max()) <= SETTINGS.widest * PIXEL * (1 + 1e-5)
    # Some have found a direction.
    ratio = sizes.amax(dim=1) / sizes.amin(dim=1)
    assert float(ratio.median()) > 1.1


@pytest.mark.parametrize("count", [1, 7])
def test_very_few_are_no_error(count: int) -> None:
    found = projection().begin(count)
    assert len(found) == count
    assert bool(torch.isfinite(found.amplitudes).all())


def test_same_bytes_for_any_number_of_threads() -> None:
    one = projection().begin(80)
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(2)
    try:
        two = projection().begin(80)
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])
    for name, value in one.tensors().items():
        assert torch.equal(value, two.tensors()[name]), name
