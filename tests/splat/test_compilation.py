"""Kernels compile once on the CPU, and for a device that need not be there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backends import interpreter
from scenes import everything, lattice_scene, place, scene

from slicesplat.splat import CPU
from slicesplat.splat.cpu.gather import gather, gather_separable
from slicesplat.splat.cpu.gradients import gradients_of_gaussians, gradients_of_pairs
from slicesplat.splat.cpu.pairs import list_pairs
from slicesplat.splat.cpu.pose import pose_systems
from slicesplat.splat.cpu.project import project
from slicesplat.splat.cpu.separable import project_separable
from slicesplat.splat.cpu.splat import splat, splat_separable
from slicesplat.splat.cpu.tabulate import tabulate


def test_kernels_are_compiled_for_one_type_of_arguments() -> None:
    slices, parameters = scene(n=4)
    rows = torch.from_numpy(np.random.default_rng(5).normal(size=(slices.offset[-1], 2)))
    lattice = lattice_scene(n=1)[1]
    for given in (parameters, lattice, *(tuple(p.float() for p in each) for each in (parameters, lattice))):
        made = CPU.forward_model(slices)
        made.set_geometry(*given[:3], *given[4:6])
        made.apply(given[3], given[6])
        for upstream in (rows[:, 0], rows[:1, :1].expand(len(rows), 1)[:, 0], rows[:, 1].numpy().astype(int)):
            made.adjoint(upstream, given[6])
            made.vjp(upstream, given[3], given[6])
            made.pose_normal_equations(given[3], given[6], upstream, upstream, given[6])
    for kernel in (
        *(tabulate, list_pairs, project, splat, gather, project_separable, splat_separable, gather_separable),
        *(gradients_of_pairs, gradients_of_gaussians, pose_systems),
    ):
        assert len(kernel.signatures) == 1, kernel.__name__


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
    made = interpreter().forward_model(slices)
    place(made, parameters)
    everything(made, parameters)
    print(*sorted(done))  # noqa: T201


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton not installed")
def test_the_kernels_compile_for_a_device_and_use_no_atomics(tmp_path: Path) -> None:
    # The interpreter is laxer than the compiler. In a process of its own: Triton is one or the other.
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    code = "import sys; sys.path.append('../helpers'); import test_compilation as t; t.compile_kernels(80)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 12
