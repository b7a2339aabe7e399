"""The backends, by name: where to compute, and with which kernels.

A backend is added by `register`. What goes with it on the floors above, such as the replay of a CUDA graph, stands
there in a table by its name; where a table has no such name, PyTorch's operations on the backend's device will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from slicesplat.errors import InputError
from slicesplat.splat.cpu.forward import CpuForwardModel
from slicesplat.splat.model import MakesForwardModel, Values


@dataclass(frozen=True)
class Backend:
    """Where to compute, and with which kernels.

    Attributes
    ----------
    name : str
        As it is asked for, and as it stands in the log and the record.
    device : torch.device
        Where everything is that has the size of pixels or Gaussians.
    forward_model : callable
        Makes the forward model of slices: `forward_model(slices, cutoff=3.0)`.
    """

    name: str
    device: torch.device
    forward_model: MakesForwardModel

    def tensor(self, values: Values, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values on the device, without a copy where they are there already."""
        return torch.as_tensor(values, dtype=dtype, device=self.device)


class Registration(NamedTuple):
    """How to find out about a backend, and how to get it."""

    probe: Callable[[], str | None]
    make: Callable[[], Backend]


REGISTERED: dict[str, Registration] = {}


def register(name: str, probe: Callable[[], str | None], make: Callable[[], Backend]) -> None:
    """Add a backend, which "auto" prefers to those that were there before.

    Parameters
    ----------
    name : str
    probe : callable
        Why the backend cannot be used here and what would help, in one line; None if it can. It imports nothing heavy.
    make : callable
        The backend; called only when it has been chosen.

    Raises
    ------
    ValueError
        The name is taken, or "auto".
    """
    if name == "auto" or name in REGISTERED:
        raise ValueError(f"backend {name!r}: there is one of this name; choose another")
    REGISTERED[name] = Registration(probe, make)


def available_backends() -> tuple[str, ...]:
    """Names of the backends that can be used here, the preferred one first."""
    return tuple(name for name in reversed(REGISTERED) if REGISTERED[name].probe() is None)


def choose_backend(name: str) -> Backend:
    """The backend of that name, or the preferred one that can be used here for "auto".

    Raises
    ------
    InputError
        There is no such backend, or it cannot be used here.

    Examples
    --------
    >>> choose_backend("cpu").device
    device(type='cpu')
    """
    if name == "auto":
        return REGISTERED[available_backends()[0]].make()
    if name not in REGISTERED:
        *others, last = "auto", *REGISTERED
        raise InputError(f"device {name!r}: choose {', '.join(others)} or {last}")
    reason = REGISTERED[name].probe()
    if reason is not None:
        raise InputError(f"device {name!r}: {reason}")
    return REGISTERED[name].make()


CPU = Backend("cpu", torch.device("cpu"), CpuForwardModel)


def _cuda_is_missing() -> str | None:
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device; use --device cpu, or a PyTorch built for CUDA"
    if find_spec("triton") is None:
        return "Triton is not installed; pip install 'slicesplat[gpu]', or use --device cpu"
    return None


def _cuda() -> Backend:
    from slicesplat.splat.gpu.forward import GpuForwardModel  # Triton need not be there

    return Backend("cuda", torch.device("cuda"), GpuForwardModel)


register("cpu", lambda: None, lambda: CPU)
register("cuda", _cuda_is_missing, _cuda)
