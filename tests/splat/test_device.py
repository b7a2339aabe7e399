"""The whole way runs on any backend: with the GPU's kernels as on the CPU, and without waiting for a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from backends import gpu, interpreter

from slicesplat.config import Config, FitSettings, PrimitivesSettings
from slicesplat.errors import InputError
from slicesplat.estimate.basis import Basis, LatticeBasis, PrimitivesBasis
from slicesplat.estimate.fit import joint_fit
from slicesplat.field.lattice import Lattice
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.likelihood.robust import TINY
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.priors.sampled import SampledPrior
from slicesplat.solvers.amplitudes import AmplitudeSolver, placed_lattice
from slicesplat.splat import CPU
from slicesplat.splat.grid import sample_on_grid
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton not installed")


@cache
def tiny() -> Slices:
    """Three still stacks of a small brain, a slice of one tile each."""
    config = SimulationConfig(motion="none", pixel=2.6, spacing=5.0, thickness=5.0, dropout=0.0, noise=0.02)
    stacks, _ = scale_intensities(simulate(*brain_phantom(16.0, 1.4), config).stacks)
    return cut_slices(stacks, margin=0)


BRIEF = FitSettings(spacings=(3.2, 2.6), pose_rounds=1, final_rounds=1, rounds=1, iterations=2, first_iterations=2)
SHAPED = replace(
    BRIEF, strategy="primitives", primitives=PrimitivesSettings(share=1.0, steps=1, stages=1, first=0.5, cell=1.5)
)


# --- nothing waits


def on_meta(part: Any, seen: dict[int, Any]) -> Any:
    """A thing with all its tensors, and theirs, moved to where there is no number to ask for."""
    if isinstance(part, torch.Tensor):
        if id(part) not in seen:  # which keeps it, so that no other gets its number
            seen[id(part)] = part, part.detach().to("meta").requires_grad_(part.requires_grad)
        return seen[id(part)][1]
    if isinstance(part, dict):
        return {name: on_meta(value, seen) for name, value in part.items()}
    if isinstance(part, torch.device):
        return torch.device("meta")
    return part


def move_to_meta(thing: Any, seen: dict[int, Any]) -> None:
    for name, value in vars(thing).items():
        setattr(thing, name, on_meta(value, seen))


@needs_triton
@pytest.mark.parametrize("basis", [LatticeBasis, lambda lattice: PrimitivesBasis(lattice.field(), lattice)])
def test_an_iteration_asks_the_device_for_nothing(
    monkeypatch: pytest.MonkeyPatch, basis: Callable[[Lattice], Basis]
) -> None:
    """On tensors without numbers whatever needs one fails: a comparison, a copy to the host, a choice by a mask."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    backend, scan = interpreter(), tiny()
    lattice, forward_model = placed_lattice(scan, 4.0, backend)
    prior, preconditioner = basis(lattice).prior("curvature", scan, backend)
    solver = AmplitudeSolver(forward_model, len(lattice), prior.matvec, preconditioner.matvec)
    inner, launched = solver.cg, []  # type: ignore[var-annotated]
    for kind in (InterpretedFunction, JITFunction):
        monkeypatch.setattr(kind, "__getitem__", lambda self, grid: lambda *given, **named: launched.append(1))
    seen: dict[int, Any] = {}
    pairs = forward_model._pairs
    parts = [forward_model.views, forward_model.geometry, pairs, pairs.geometry]
    if isinstance(prior, SampledPrior):
        sampled = prior._forward_model
        parts += [prior.prior, sampled, sampled.views, sampled.geometry, sampled._pairs, sampled._pairs.geometry]
    for thing in (solver, inner, forward_model, *parts, prior, preconditioner):
        move_to_meta(thing, seen)
    inner.iterate()
    assert len(launched) >= 3
    with pytest.raises((RuntimeError, NotImplementedError)):
        inner._solution.tolist()


# --- a device that is not there


def test_a_device_that_is_not_there_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device 'cuda': PyTorch finds no CUDA device; use --device cpu"):
        reconstruct([], Config(device="cuda"))


# --- the GPU's kernels in every step


@needs_triton
@pytest.mark.parametrize(
    "settings", [pytest.param(BRIEF, id="lattice"), pytest.param(SHAPED, id="primitives", marks=pytest.mark.slow)]
)
def test_fit_and_sampling_on_the_kernels_of_the_gpu_are_those_of_the_cpu(settings: FitSettings) -> None:
    scan, affine = tiny(), np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -8.0
    fits, volumes = [], []
    for backend in (CPU, gpu()):
        fit = joint_fit(scan, scan.mask, settings, np.random.default_rng(0), backend=backend)
        fits.append(fit)
        volumes.append(sample_on_grid(fit.field, affine, (4, 4, 3), backend))
    one, other = fits
    # Pixels agree to 1e-5; conjugate gradients amplify what is left.
    assert len(one.field) == len(other.field)
    np.testing.assert_allclose(volumes[1], volumes[0], atol=2e-3 * np.abs(volumes[0]).max())
    np.testing.assert_allclose(other.motion.matrix, one.motion.matrix, atol=1e-3)
    np.testing.assert_allclose(other.weights.slice, one.weights.slice, rtol=1e-2)
    assert other.weights.sigma == pytest.approx(one.weights.sigma, rel=1e-2)
    assert one.weights.sigma > 10 * TINY
