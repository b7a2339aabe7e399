"""The backends that tests run on."""

from __future__ import annotations

from functools import partial

import torch

from slicesplat.splat import Backend, choose_backend


def interpreter() -> Backend:
    """The GPU's kernels through Triton's interpreter, on the CPU."""
    from slicesplat.splat.gpu.forward import GpuForwardModel

    return Backend("interpreter", torch.device("cpu"), partial(GpuForwardModel, device="cpu"))


def gpu() -> Backend:
    """The GPU's kernels: on the device where there is one, else through Triton's interpreter."""
    return choose_backend("cuda") if torch.cuda.is_available() else interpreter()
