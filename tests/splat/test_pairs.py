"""A list of pairs changes no number, however it was made and however long it is kept."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scenes import POSES, Parameters, affordable, array, assert_close, everything, place, scene, tensors
from scipy.spatial.transform import Rotation

from slicesplat.field.gaussians import GaussianField
from slicesplat.splat import CPU, Backend, CpuForwardModel


def moved(parameters: Parameters, scale: float) -> Parameters:
    """Gaussians and slices elsewhere: by up to about `scale` mm, with turns and growth to match."""
    rng = np.random.default_rng(4)
    means, log_scales, rotations, amplitudes, turns, translations, gains = (p.numpy() for p in parameters)
    turned = Rotation.from_rotvec(rng.normal(size=(len(turns), 3)) * 0.005 * scale).as_matrix()
    values = (
        means + scale * rng.uniform(-0.3, 0.3, means.shape),
        log_scales + scale * rng.uniform(-0.01, 0.01, log_scales.shape),
        rotations + scale * rng.uniform(-0.01, 0.01, rotations.shape),
        amplitudes,
        turns @ turned,
        translations + scale * rng.uniform(-0.3, 0.3, translations.shape),
        gains,
    )
    return tuple(map(torch.from_numpy, values))


@pytest.mark.parametrize(("scale", "kept"), [(0.2, True), (30.0, False)])
def test_a_list_that_is_reused_changes_no_number(backend: Backend, scale: float, kept: bool) -> None:
    slices, parameters = affordable(backend, *scene(n=3))
    there = moved(parameters, scale)
    made = backend.forward_model(slices, 3.0)
    place(made, parameters)
    made_pairs = made.pairs
    assert made_pairs > 0
    place(made, there)
    fresh = backend.forward_model(slices, 3.0)
    place(fresh, there)
    if kept:
        assert made.pairs == made_pairs
    else:
        assert made.pairs == fresh.pairs
    results = (everything(m, there) for m in (made, fresh))
    for k, (reused, new) in enumerate(zip(*results, strict=True)):
        if backend.name != "cpu" and k == POSES:
            # Sums in float64 over a slice's pairs, grouped as the list has them.
            assert_close(reused, new, 1e-12)
        else:
            np.testing.assert_array_equal(reused, new)


def test_slices_that_have_moved_far_take_new_pairs_and_the_others_keep_theirs(backend: Backend) -> None:
    slices, parameters = affordable(backend, *scene(n=40))
    away = moved(parameters, 30.0)
    made = backend.forward_model(slices, 3.0)
    place(made, parameters)
    # The first slice creeps all the way; each step is too short for a new list, which the others need that jump.
    for step, share in enumerate(np.linspace(0.0, 1.0, 60)):
        shares = np.array([share, *((np.arange(1, len(slices)) + step) % 2)])
        there = list(parameters)
        there[5] = parameters[5] + (away[5] - parameters[5]) * torch.from_numpy(shares)[:, None]
        place(made, tuple(there))
    fresh = backend.forward_model(slices, 3.0)
    place(fresh, tuple(there))
    for k, (kept, new) in enumerate(zip(everything(made, tuple(there)), everything(fresh, tuple(there)), strict=True)):
        if k == POSES:  # sums in float64 over a slice's pairs, grouped as the list has them
            assert_close(kept, new, 1e-12)
        else:
            np.testing.assert_array_equal(kept, new)


def test_a_list_notices_what_an_optimiser_changes_in_set_geometry(backend: Backend) -> None:
    slices, parameters = scene(n=4)
    # Numbers that the backend could take as they are, without a copy.
    leaves = tensors(backend.device, *parameters)
    made = backend.forward_model(slices, 3.0)
    leaves[0] += 100.0
    made.set_geometry(*leaves[:3], *leaves[4:6])
    assert made.pairs == 0
    leaves[0] -= 100.0
    made.set_geometry(*leaves[:3], *leaves[4:6])
    assert made.pairs > 0


def test_a_list_is_kept_or_made_anew_when_told_so(backend: Backend) -> None:
    slices, parameters = affordable(backend, *scene(n=4))
    away = (parameters[0] + 100.0, *parameters[1:])
    made = backend.forward_model(slices, 3.0)
    with pytest.raises(ValueError, match="no list of pairs for 4 Gaussians"):
        place(made, parameters, rebuild=False)
    place(made, parameters, rebuild=True)
    kept = made.pairs
    place(made, away, rebuild=False)
    assert made.pairs == kept
    assert not array(made.apply(*tensors(backend.device, parameters[3], parameters[6]))).any()
    place(made, away)
    assert made.pairs == 0


def test_a_list_holds_for_wide_gaussians_while_slices_turn(backend: Backend) -> None:
    # Their means move by more than the list's margin in the frame of a slice that turns; its pixels move less.
    slices, parameters = affordable(backend, *scene(n=30))
    rng = np.random.default_rng(8)
    means = torch.from_numpy(Rotation.random(30, rng=rng).apply([95.0, 0.0, 0.0]))
    wide = (means, torch.full_like(means, np.log(30.0)), *parameters[2:])
    turned = wide[4] @ torch.from_numpy(Rotation.from_rotvec([0.012, 0.008, 0.0]).as_matrix())
    made, fresh = backend.forward_model(slices, 3.0), backend.forward_model(slices, 3.0)
    place(made, wide)
    for m in (made, fresh):
        place(m, (*wide[:4], turned, *wide[5:]))
    amplitudes, gains = tensors(backend.device, parameters[3], parameters[6])
    np.testing.assert_array_equal(array(made.apply(amplitudes, gains)), array(fresh.apply(amplitudes, gains)))


@pytest.mark.parametrize("views", [1, 2, 5])
def test_views_are_listed_a_few_at_a_time_without_a_difference(views: int) -> None:
    slices, parameters = scene("box", n=2000)
    runs, peaks = [], []
    for at_once in (None, views):
        made = CpuForwardModel(slices, views_at_once=at_once)
        tracemalloc.start()
        place(made, parameters)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        runs.append(everything(made, parameters))
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)
    saved = len(slices) * slices.psf_weights.shape[1] - views
    assert peaks[1] < peaks[0] - 0.9 * saved * 4 * len(parameters[0])


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
def test_pixel_pairs_are_those_inside_the_cutoff(cutoff: float) -> None:
    slices, parameters = scene(n=20)
    made = CPU.forward_model(slices, cutoff)
    place(made, parameters)
    field, (turns, shifts, _) = GaussianField(*parameters[:4]), parameters[4:]
    count = 0
    for s in range(len(slices)):
        distance = (
            torch.from_numpy(slices.plane_points(s, inside=False))[:, None] - (field.means - shifts[s]) @ turns[s]
        )
        blurred = turns[s].mT @ field.covariances() @ turns[s] + torch.diag(
            torch.from_numpy(slices.psf_covariances[s, 0])
        )
        square = torch.einsum("pni,nij,pnj->pn", distance, torch.linalg.inv(blurred), distance)
        count += int((square <= cutoff**2).sum())
    # One of these may lie on the cut-off to within float32's rounding.
    assert made.pixel_pairs() == pytest.approx(count, abs=1)
