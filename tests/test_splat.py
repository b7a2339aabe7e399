"""Every backend that is present gives the numbers of the definition, `splat/reference.py`, in value and gradient."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.psf import SliceProfile
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.splat import (
    CPU,
    CpuForwardModel,
    available_devices,
    choose_backend,
    choose_device,
    reference,
    render,
)
from slicesplat.splat.cpu import forward as cpu
from slicesplat.splat.cpu import kernels as cpu_kernels
from slicesplat.splat.cpu import pose as cpu_pose

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("means", "log_scales", "rotations", "amplitudes", "slice rotations", "translations", "gains")

# Pixels are summed in float32 and exp is good to 3e-6: relative to the largest pixel, whose terms do not cancel.
VALUE = 1e-5
# Moments cancel where upstream changes its sign, so their rounding weighs more than a pixel's.
GRADIENT = 5e-5


def gpu(slices: Slices, cutoff: float = 3.0) -> Any:
    from slicesplat.splat.gpu.forward import GpuForwardModel

    return GpuForwardModel(slices, cutoff, device=DEVICE)


BACKENDS = [
    pytest.param(CpuForwardModel, id="cpu"),
    pytest.param(gpu, id="gpu", marks=pytest.mark.skipif(find_spec("triton") is None, reason="Triton not installed")),
]
Backend = Callable[..., Any]
Parameters = tuple[torch.Tensor, ...]


def tensors(backend: Backend, *values: Any, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """The values where the backend wants them."""
    device = DEVICE if backend is gpu else "cpu"
    return [torch.as_tensor(np.asarray(value), dtype=dtype).to(device) for value in values]


def array(value: Any) -> np.ndarray:
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def stack(size: tuple[int, int, int], spacing: tuple[float, float, float], turn: list[float], radius: float) -> Stack:
    """A stack about the world's origin, turned by a rotation vector, with an ellipsoid for its mask."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(turn).as_matrix() * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2)
    index = np.indices(size).reshape(3, -1).T
    mask = (np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3], axis=1) < radius).reshape(size)
    return Stack(np.zeros(size, np.float32), mask, affine, spacing[2])


def scene(profile: SliceProfile = "gaussian", n: int = 16, seed: int = 1) -> tuple[Slices, Parameters]:
    """Slices of two stacks of different size and oblique orientation, and parameters in the order of NAMES."""
    first = stack((14, 11, 3), (1.1, 1.0, 3.0), [0.3, -0.2, 0.5], 7.0)
    second = stack((9, 16, 2), (0.9, 1.3, 4.0), [1.2, 0.6, -0.4], 8.0)
    slices = cut_slices([first, second], profile, margin=1)
    if profile == "box":
        # Off centre: a symmetric profile does not tell one side of the slice from the other.
        slices = replace(slices, psf_offsets=slices.psf_offsets + 0.4)
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(rng.normal(size=(len(slices), 3)) * 0.1).as_matrix()
    values = (
        rng.normal(size=(n, 3)) * 4.0,
        rng.uniform(-0.7, 1.1, (n, 3)),
        rng.normal(size=(n, 4)) * 2.0,
        rng.normal(size=n),
        turn @ slices.frame.rotation,
        slices.frame.translation + rng.normal(size=(len(slices), 3)) * 0.5,
        rng.uniform(0.5, 1.5, len(slices)),
    )
    return slices, tuple(map(torch.from_numpy, values))


def define(slices: Slices, parameters: Parameters, cutoff: float) -> torch.Tensor:
    return reference.render(GaussianField(*parameters[:4]), *parameters[4:], slices, cutoff)


def set_geometry(made: Any, backend: Backend, parameters: Parameters, **policy: bool) -> None:
    means, log_scales, rotations, _, turns, translations, _ = tensors(backend, *parameters)
    made.set_geometry(means, log_scales, rotations, turns, translations, **policy)


def assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Within `tolerance` of the largest expected number."""
    actual, expected = array(actual), array(expected)
    assert actual.shape == expected.shape
    if expected.size:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-30))


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
@pytest.mark.parametrize("profile", ["gaussian", "box"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_equals_the_definition(backend: Backend, profile: SliceProfile, cutoff: float) -> None:
    slices, parameters = scene(profile, n=16)
    upstream = torch.from_numpy(np.random.default_rng(2).normal(size=slices.offset[-1]))

    leaves = [p.clone().requires_grad_() for p in parameters]
    expected = define(slices, tuple(leaves), cutoff)
    expected_gradients = torch.autograd.grad(expected, leaves, upstream)

    leaves = [p.requires_grad_() for p in tensors(backend, *parameters)]
    actual = render(GaussianField(*leaves[:4]), *leaves[4:], backend(slices, cutoff))
    gradients = torch.autograd.grad(actual, leaves, tensors(backend, upstream, dtype=torch.float32))

    assert_close(actual.detach(), expected.detach(), VALUE)
    for name, gradient, wanted in zip(NAMES, gradients, expected_gradients, strict=True):
        assert gradient.dtype == wanted.dtype, name
        assert_close(gradient, wanted, GRADIENT)


@pytest.mark.parametrize("profile", ["gaussian", "box"])
def test_convolved_gaussian_equals_quadrature(profile: SliceProfile) -> None:
    slices, parameters = scene(profile, n=1)
    field, (turns, shifts, gains) = GaussianField(*parameters[:4]), parameters[4:]
    observed = define(slices, parameters, float("inf"))
    s, weights = 1, slices.psf_weights[1]
    pixels = slices.plane_points(s, inside=False)[::37]
    expected = np.zeros(len(pixels))
    for weight, variance, through in zip(weights, slices.psf_covariances[s], slices.psf_offsets[s], strict=True):
        sigma = np.sqrt(variance)
        # The trapezoidal rule on a Gaussian converges faster than any power: a third of the standard deviation and 6 of
        # them to each side leave less than 1e-8.
        steps = np.arange(-18, 19) / 3.0
        offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        density = np.exp(-0.5 * (offsets**2).sum(1)) / (2 * np.pi) ** 1.5 / 27
        for i, pixel in enumerate(pixels):
            world = torch.from_numpy(pixel + [0.0, 0.0, through] + offsets * sigma) @ turns[s].T + shifts[s]
            expected[i] += weight * (field.evaluate(world).numpy() @ density)
    first = slices.offset[s]
    actual = observed[first : slices.offset[s + 1]][::37].numpy()
    assert_close(actual, gains[s].item() * expected, 1e-7)


def test_a_box_is_the_mean_over_the_thickness_of_the_slice() -> None:
    thickness = 3.0
    slices = cut_slices([stack((14, 11, 3), (1.1, 1.0, thickness), [0.3, -0.2, 0.5], 7.0)], "box", margin=1)
    rng = np.random.default_rng(9)
    # As sharp as the lattice of the fit for such pixels, 0.7 mm, and oblique.
    values = (rng.normal(size=(20, 3)) * 3, rng.uniform(np.log(0.7), np.log(1.4), (20, 3)), rng.normal(size=(20, 4)))
    field = GaussianField(*map(torch.from_numpy, (*values, rng.normal(size=20))))
    turns, shifts = torch.from_numpy(slices.pose.rotation), torch.from_numpy(slices.pose.translation)
    gains = torch.ones(len(slices), dtype=torch.float64)
    observed = reference.render(field, turns, shifts, gains, slices)
    # Planes without thickness, by the midpoint rule.
    planes = replace(
        slices,
        psf_weights=np.ones((len(slices), 1)),
        psf_covariances=slices.psf_covariances[:, :1] * [1.0, 1.0, 0.0],
        psf_offsets=np.zeros((len(slices), 1)),
    )
    depths = thickness * ((np.arange(32) + 0.5) / 32 - 0.5)
    expected = sum(reference.render(field, turns, shifts + z * turns[:, :, 2], gains, planes) for z in depths) / 32
    # Three Gaussians of one centre, which were the box before, are off by 4 % of the largest pixel.
    assert_close(observed, expected, 2e-3)


def test_gradients_of_the_definition() -> None:
    slices, parameters = scene(n=2)
    few = replace_slices(slices, [0, 3])
    leaves = [p.clone() for p in parameters]
    leaves[4:] = [p[[0, 3]] for p in leaves[4:]]
    leaves = [p.requires_grad_() for p in leaves]
    assert torch.autograd.gradcheck(lambda *p: define(few, p, float("inf"))[::41], leaves)


def replace_slices(slices: Slices, chosen: list[int]) -> Slices:
    """Some of the slices, in the order asked for; their pixels with them."""
    per_slice = (
        "stack",
        "index",
        "shape",
        "corner",
        "origin",
        "step",
        "psf_weights",
        "psf_covariances",
        "psf_offsets",
        "time",
        "package",
        "frame",
        "motion",
    )
    pixel = np.concatenate([np.arange(slices.offset[s], slices.offset[s + 1]) for s in chosen] or [np.arange(0)])
    counts = [slices.offset[s + 1] - slices.offset[s] for s in chosen]
    return replace(
        slices,
        **{name: getattr(slices, name)[np.array(chosen, int)] for name in per_slice},
        offset=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        pixels=slices.pixels[pixel],
        mask=slices.mask[pixel],
    )


@pytest.mark.parametrize("case", ["no slice", "no Gaussian", "one Gaussian", "far away"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_edge_cases(backend: Backend, case: str) -> None:
    slices, parameters = scene("box", n={"no Gaussian": 0, "one Gaussian": 1}.get(case, 3))
    if case == "no slice":
        slices = replace_slices(slices, [])
        parameters = (*parameters[:4], *(p[:0] for p in parameters[4:]))
    if case == "far away":
        parameters = (parameters[0] + 1e4, *parameters[1:])
    expected = define(slices, parameters, 3.0) if len(slices) else torch.zeros(0)
    made = backend(slices, 3.0)
    set_geometry(made, backend, parameters)
    amplitudes, gains = tensors(backend, parameters[3], parameters[6])
    (upstream,) = tensors(backend, np.ones(slices.offset[-1]), dtype=torch.float32)
    assert_close(made.apply(amplitudes, gains), expected, VALUE)
    gaussians, poses = map(array, made.vjp(upstream, amplitudes, gains))
    assert gaussians.shape == (len(amplitudes), 11)
    assert poses.shape == (len(slices), 13)
    assert np.isfinite(gaussians).all()
    assert np.isfinite(poses).all()
    assert array(made.adjoint(upstream, gains)).shape == (len(amplitudes),)
    assert array(made.pose_jacobian(amplitudes)).shape == (7, slices.offset[-1])
    if case in ("no slice", "no Gaussian", "far away"):
        assert made.pairs == 0
        assert not gaussians.any()
        assert not poses.any()


POSES = 2  # where `everything` has the gradients of the poses


def everything(made: Any, backend: Backend, parameters: Parameters, pixels: int) -> list[np.ndarray]:
    """Every number that a backend gives for Gaussians and poses that are in place."""
    amplitudes, gains = tensors(backend, parameters[3], parameters[6])
    rng = np.random.default_rng(3)
    (upstream,) = tensors(backend, rng.normal(size=pixels), dtype=torch.float32)
    observed, weights = tensors(backend, rng.normal(size=pixels), rng.uniform(size=pixels), dtype=torch.float32)
    (scale,) = tensors(backend, np.full(len(gains), 2.0))
    results = [made.apply(amplitudes, gains), *made.vjp(upstream, amplitudes, gains)]
    results += [made.adjoint(upstream, gains), made.pose_jacobian(amplitudes)]
    return [
        array(r).copy() for r in [*results, *made.pose_normal_equations(amplitudes, gains, observed, weights, scale)]
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_bits_from_run_to_run(backend: Backend) -> None:
    slices, parameters = scene(n=4)
    runs = []
    for _ in range(2):
        made = backend(slices, 3.0)
        set_geometry(made, backend, parameters)
        runs.append(everything(made, backend, parameters, made.pixels))
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core")
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_given_back_is_found_again(backend: Backend) -> None:
    slices, parameters = scene()
    made = backend(slices)
    set_geometry(made, backend, parameters)
    before = everything(made, backend, parameters, slices.offset[-1])
    made.free_scratch()
    for was, found in zip(before, everything(made, backend, parameters, slices.offset[-1]), strict=True):
        np.testing.assert_array_equal(found, was)


def test_same_bits_for_any_number_of_threads() -> None:
    slices, parameters = scene("box", n=200)
    before, runs = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            made = CpuForwardModel(slices, 3.0)
            set_geometry(made, CpuForwardModel, parameters)
            runs.append(everything(made, CpuForwardModel, parameters, made.pixels))
    finally:
        numba.set_num_threads(before)
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("cutoff", [3.0, 5.0])
def test_pixel_pairs_are_those_inside_the_cutoff(cutoff: float) -> None:
    slices, parameters = scene(n=20)
    made = CpuForwardModel(slices, cutoff)
    set_geometry(made, CpuForwardModel, parameters)
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


@pytest.mark.parametrize("views", [1, 2, 5])
def test_views_are_listed_a_few_at_a_time_without_a_difference(views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slices, parameters = scene("box", n=200)
    runs, rooms = [], []
    for _ in range(2):
        made = CpuForwardModel(slices)
        set_geometry(made, CpuForwardModel, parameters)
        runs.append(everything(made, CpuForwardModel, parameters, made.pixels))
        rooms.append(made._room._kept["listed"].size)
        monkeypatch.setattr(cpu, "_LISTED", 1)
        monkeypatch.setattr(cpu, "_LEAST_VIEWS", views)
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)
    assert rooms[1] < rooms[0]


def test_kernels_are_compiled_for_one_type_of_arguments() -> None:
    slices, parameters = scene(n=4)
    narrow = tuple(p.float() for p in parameters)
    rows = torch.from_numpy(np.random.default_rng(5).normal(size=(slices.offset[-1], 2)))
    for given in (parameters, narrow):
        made = CpuForwardModel(slices)
        made.set_geometry(*given[:3], *given[4:6])
        made.apply(given[3], given[6])
        for upstream in (rows[:, 0], rows[:1, :1].expand(len(rows), 1)[:, 0], rows[:, 1].numpy().astype(int)):
            made.adjoint(upstream, given[6])
            made.vjp(upstream, given[3], given[6])
            made.pose_normal_equations(given[3], given[6], upstream, upstream, given[6])
    for kernel in (
        *(cpu_kernels.tabulate, cpu_kernels.list_pairs, cpu_kernels.project, cpu_kernels.splat, cpu_kernels.gather),
        *(cpu_kernels.gradients_of_pairs, cpu_kernels.gradients_of_gaussians, cpu_pose.pose_systems),
    ):
        assert len(kernel.signatures) == 1, kernel.__name__


@pytest.mark.skipif(not hasattr(os, "fork") or numba.config.NUMBA_NUM_THREADS < 2, reason="one core, or no fork")
def test_threads_work_in_a_forked_process() -> None:
    code = (
        "import os, numba, test_splat as t; slices, p = t.scene(n=4); numba.set_num_threads(2)\n"
        "made = t.CpuForwardModel(slices); t.set_geometry(made, t.CpuForwardModel, p); made.apply(p[3], p[6])\n"
        "child = os.fork()\n"
        "if child: raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "made.apply(p[3], p[6]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, timeout=120)


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
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_list_that_is_reused_changes_no_number(backend: Backend, scale: float, kept: bool) -> None:
    slices, parameters = scene(n=6)
    there = moved(parameters, scale)
    made = backend(slices, 3.0)
    set_geometry(made, backend, parameters)
    made_pairs = made.pairs
    set_geometry(made, backend, there)
    fresh = backend(slices, 3.0)
    set_geometry(fresh, backend, there)
    if kept:
        assert made.pairs == made_pairs
    else:
        assert made.pairs == fresh.pairs
    results = (everything(m, backend, there, m.pixels) for m in (made, fresh))
    for k, (reused, new) in enumerate(zip(*results, strict=True)):
        if backend is gpu and k == POSES:
            # Sums in float64 over a slice's pairs, grouped as the list has them.
            assert_close(reused, new, 1e-12)
        else:
            np.testing.assert_array_equal(reused, new)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_list_notices_what_an_optimiser_changes_in_set_geometry(backend: Backend) -> None:
    slices, parameters = scene(n=4)
    # Numbers that the backend could take as they are, without a copy.
    leaves = tensors(backend, *parameters)
    made = backend(slices, 3.0)
    leaves[0] += 100.0
    made.set_geometry(*leaves[:3], *leaves[4:6])
    assert made.pairs == 0
    leaves[0] -= 100.0
    made.set_geometry(*leaves[:3], *leaves[4:6])
    assert made.pairs > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_list_is_kept_or_made_anew_when_told_so(backend: Backend) -> None:
    slices, parameters = scene(n=4)
    away = (parameters[0] + 100.0, *parameters[1:])
    made = backend(slices, 3.0)
    with pytest.raises(ValueError, match="no list of pairs for 4 Gaussians"):
        set_geometry(made, backend, parameters, rebuild=False)
    set_geometry(made, backend, parameters, rebuild=True)
    kept = made.pairs
    set_geometry(made, backend, away, rebuild=False)
    assert made.pairs == kept
    assert not array(made.apply(*tensors(backend, parameters[3], parameters[6]))).any()
    set_geometry(made, backend, away)
    assert made.pairs == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_what_is_no_longer_in_place_are_refused(backend: Backend) -> None:
    slices, parameters = scene(n=2)
    leaves = [p.requires_grad_() for p in tensors(backend, *parameters)]
    made = backend(slices, 3.0)
    first = render(GaussianField(*leaves[:4]), *leaves[4:], made)
    render(GaussianField(*leaves[:4]), *leaves[4:], made)
    with pytest.raises(RuntimeError, match="since this was rendered"):
        first.sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_list_holds_for_wide_gaussians_while_slices_turn(backend: Backend) -> None:
    # Their means move by more than the list's margin in the frame of a slice that turns; its pixels move less.
    slices, parameters = scene(n=30)
    rng = np.random.default_rng(8)
    means = torch.from_numpy(Rotation.random(30, rng=rng).apply([95.0, 0.0, 0.0]))
    wide = (means, torch.full_like(means, np.log(30.0)), *parameters[2:])
    turned = wide[4] @ torch.from_numpy(Rotation.from_rotvec([0.012, 0.008, 0.0]).as_matrix())
    made, fresh = backend(slices, 3.0), backend(slices, 3.0)
    set_geometry(made, backend, wide)
    for m in (made, fresh):
        set_geometry(m, backend, (*wide[:4], turned, *wide[5:]))
    amplitudes, gains = tensors(backend, parameters[3], parameters[6])
    np.testing.assert_array_equal(array(made.apply(amplitudes, gains)), array(fresh.apply(amplitudes, gains)))


def turned_and_shifted(parameters: Parameters, k: int, step: float) -> Parameters:
    """Every slice moved along the k-th unknown of a pose: v (mm), w (rad), in its own frame."""
    turns, translations = parameters[4], parameters[5]
    unit = np.zeros(3)
    unit[k % 3] = step
    if k < 3:
        translations = translations + turns @ torch.from_numpy(unit)
    else:
        turns = turns @ torch.from_numpy(Rotation.from_rotvec(unit).as_matrix())
    return (*parameters[:4], turns, translations, parameters[6])


def numerical_pose_derivatives(slices: Slices, parameters: Parameters) -> np.ndarray:
    """(7, P): central differences of the definition for gain 1, and the image itself.

    Without a cut-off, whose jumps divided by the step would swamp the derivative. Rounding leaves 1e-16 / 1e-4, the
    third derivative 1e-4 squared: both far below what is asked.
    """
    unit = (*parameters[:6], torch.ones_like(parameters[6]))
    rows = []
    for k in range(6):
        ahead, behind = (define(slices, turned_and_shifted(unit, k, step), float("inf")) for step in (1e-4, -1e-4))
        rows.append((ahead - behind) / 2e-4)
    return torch.stack([*rows, define(slices, unit, float("inf"))]).numpy()


@pytest.mark.parametrize("profile", ["gaussian", "box"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_pose_derivatives_equal_differences_of_the_definition(backend: Backend, profile: SliceProfile) -> None:
    slices, parameters = scene(profile, n=4)
    made = backend(slices, 5.0)
    set_geometry(made, backend, parameters)
    actual = array(made.pose_jacobian(*tensors(backend, parameters[3])))
    for derivative, expected in zip(actual, numerical_pose_derivatives(slices, parameters), strict=True):
        # What the cut-off at 5 leaves out: exp(-12.5) = 4e-6 of a peak, times the degree-two polynomial's size there.
        assert_close(derivative, expected, 1e-4)


@pytest.mark.parametrize("profile", ["gaussian", "box"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_pose_systems_are_gauss_newton(backend: Backend, profile: SliceProfile) -> None:
    slices, parameters = scene(profile, n=8)
    rng = np.random.default_rng(6)
    observed = rng.normal(size=slices.offset[-1])
    weights = rng.uniform(size=slices.offset[-1]) * (rng.uniform(size=slices.offset[-1]) > 0.2)
    scale = rng.uniform(0.5, 2.0, len(slices))
    made = backend(slices, 5.0)
    set_geometry(made, backend, parameters)
    amplitudes, gains, scales = tensors(backend, parameters[3], parameters[6], scale)
    given = tensors(backend, observed, weights, dtype=torch.float32)
    hessian, gradient, cost, sums = map(array, made.pose_normal_equations(amplitudes, gains, *given, scales))

    derivative = numerical_pose_derivatives(slices, parameters)
    for s, gain in enumerate(parameters[6].tolist()):
        here = slice(slices.offset[s], slices.offset[s + 1])
        w, p, y = weights[here], observed[here], derivative[6, here]
        rows = np.concatenate([gain * derivative[:6, here], y[None]])
        residual = gain * y - p
        soft = 1 / (1 + (residual / scale[s]) ** 2)
        # As the derivatives: 1e-4 each, twice in the Hessian.
        assert_close(hessian[s], (rows * w * soft**2) @ rows.T, 3e-4)
        assert_close(gradient[s], (rows * w * soft**2) @ residual, 3e-4)
        assert cost[s] == pytest.approx((w * soft * residual**2).sum(), rel=3e-4)
        assert_close(sums[s], np.array([w.sum(), *(w @ x for x in (y, p, y * y, p * p, y * p))]), 3e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_adjoint_is_the_transpose(backend: Backend) -> None:
    slices, parameters = scene("box", n=8)
    made = backend(slices, 3.0)
    set_geometry(made, backend, parameters)
    amplitudes, gains = tensors(backend, parameters[3], parameters[6])
    (upstream,) = tensors(backend, np.random.default_rng(7).normal(size=made.pixels), dtype=torch.float32)
    forward, back = array(made.apply(amplitudes, gains)), array(made.adjoint(upstream, gains))
    size = np.linalg.norm(forward) * np.linalg.norm(array(upstream))
    # Rounding of float32 sums; exp is the same function in both directions and cancels.
    assert forward @ array(upstream).astype(float) == pytest.approx(back @ array(amplitudes), abs=float(1e-6 * size))
    # The gradient by the amplitudes is the same map.
    gaussians, _ = made.vjp(upstream, amplitudes, gains)
    assert_close(array(gaussians)[:, 10], back, 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cutoff_that_the_exponential_does_not_cover_is_refused(backend: Backend) -> None:
    slices, _ = scene(n=1)
    with pytest.raises(ValueError, match=r"cutoff 6\.0 is not in"):
        backend(slices, 6.0)


def test_a_device_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("cpu") is CPU
    assert choose_device("auto") == available_devices()[0]
    with pytest.raises(ValueError, match="choose auto, cpu or cuda"):
        choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert available_devices() == ("cpu",)
    with pytest.raises(ValueError, match="use --device cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("slicesplat.splat.find_spec", lambda name: None)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ValueError, match="Triton is not installed"):
        choose_backend("cuda")


def test_the_package_needs_no_triton() -> None:
    code = "import sys; sys.modules['triton'] = None; import slicesplat.pipeline"
    code += "; import slicesplat.splat as s; print(*s.available_devices())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpu"]


def compile_kernels(capability: int) -> None:
    """Compile what every kernel is launched with, for a device that need not be there, and run nothing."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kinds = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32", float: "fp32", int: "i32"}
    done = set()

    def compile_only(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **rest: Any) -> None:
        options = {name: rest.pop(name) for name in ("num_warps", "enable_fp_fusion") if name in rest}
        types = [kinds[a.dtype if isinstance(a, torch.Tensor) else type(a)] for a in arguments]
        signature = dict(zip(kernel.arg_names, types + ["constexpr"] * len(rest), strict=True))
        constants = {(kernel.arg_names.index(name),): value for name, value in rest.items()}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert not re.search(r"\b(atom|red)\.", built.asm["ptx"]), f"{kernel.__name__} is not deterministic"
        done.add(kernel.__name__)

    triton.runtime.JITFunction.run = compile_only
    slices, parameters = scene("box", n=3)
    made = gpu(slices)
    set_geometry(made, gpu, parameters)
    everything(made, gpu, parameters, made.pixels)
    print(*sorted(done))  # noqa: T201


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton not installed")
def test_the_kernels_compile_for_a_device_and_use_no_atomics(tmp_path: Path) -> None:
    # The interpreter is laxer than the compiler. In a process of its own: Triton is one or the other.
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    code = "import test_splat; test_splat.compile_kernels(80)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 12
