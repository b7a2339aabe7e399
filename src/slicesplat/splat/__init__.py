"""From the field to the slices, and back: one differentiable function over the backends that are present."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.splat.cpu.forward import CpuForwardModel

if TYPE_CHECKING:
    from slicesplat.splat.gpu.forward import GpuForwardModel

__all__ = [
    "CPU",
    "Backend",
    "CpuForwardModel",
    "available_devices",
    "choose_backend",
    "choose_device",
    "predict",
    "render",
    "set_geometry",
]

ForwardModel: TypeAlias = "CpuForwardModel | GpuForwardModel"


@dataclass(frozen=True)
class Backend:
    """Where to compute, and with which kernels.

    Attributes
    ----------
    device : torch.device
        Where everything is that has the size of pixels or Gaussians.
    forward_model : callable
        Makes the forward model of slices: `forward_model(slices, cutoff=3.0)`.
    """

    device: torch.device
    forward_model: Callable[..., ForwardModel]

    @property
    def name(self) -> str:
        """What upper floors choose their own kernels by."""
        return self.device.type

    def tensor(self, values: ArrayLike | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values on the device, without a copy where they are there already."""
        return torch.as_tensor(values, dtype=dtype, device=self.device)


CPU = Backend(torch.device("cpu"), CpuForwardModel)


def available_devices() -> tuple[str, ...]:
    """The devices that a backend is present for, the fastest first."""
    if torch.cuda.is_available() and find_spec("triton") is not None:
        return "cuda", "cpu"
    return ("cpu",)


def choose_device(name: str) -> str:
    """The device that "auto", "cpu" or "cuda" stands for here.

    Raises
    ------
    ValueError
        There is no such device, or no backend for it.

    Examples
    --------
    >>> choose_device("cpu")
    'cpu'
    """
    present = available_devices()
    if name == "auto":
        return present[0]
    if name in present:
        return name
    if name != "cuda":
        raise ValueError(f"device {name!r}: choose auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise ValueError("device 'cuda': PyTorch finds no CUDA device; use --device cpu, or a PyTorch built for CUDA")
    raise ValueError("device 'cuda': Triton is not installed; pip install 'slicesplat[gpu]', or use --device cpu")


def choose_backend(name: str) -> Backend:
    """The backend of the device that "auto", "cpu" or "cuda" stands for here; errors as `choose_device`."""
    if choose_device(name) == "cpu":
        return CPU
    from slicesplat.splat.gpu.forward import GpuForwardModel

    return Backend(torch.device("cuda"), GpuForwardModel)


def set_geometry(forward_model: ForwardModel, field: GaussianField, pose: Rigid) -> None:
    """Put a field and the slices' poses (S) in place."""
    shapes = (field.means.detach(), field.log_scales.detach(), field.rotations.detach())
    forward_model.set_geometry(*shapes, pose.rotation, pose.translation)


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        log_scales: Tensor,
        quaternions: Tensor,
        amplitudes: Tensor,
        rotations: Tensor,
        translations: Tensor,
        gains: Tensor,
        made: ForwardModel,
    ) -> Tensor:
        made.set_geometry(means, log_scales, quaternions, rotations, translations)
        ctx.forward_model, ctx.placement = made, made.placements
        ctx.save_for_backward(amplitudes, gains, means, rotations)
        return made.apply(amplitudes, gains)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        amplitudes, gains, means, rotations = ctx.saved_tensors
        if ctx.forward_model.placements != ctx.placement:
            raise RuntimeError("the forward model has been given other Gaussians or poses since this was rendered")
        gaussians, poses = ctx.forward_model.vjp(upstream[0], amplitudes, gains)
        g, p = gaussians.to(means.dtype), poses.to(rotations.dtype)
        return (
            *(g[:, 0:3], g[:, 3:6], g[:, 6:10], g[:, 10].to(amplitudes.dtype)),
            *(p[:, :9].reshape(-1, 3, 3), p[:, 9:12], p[:, 12].to(gains.dtype)),
            None,
        )


def render(
    field: GaussianField,
    rotations: Tensor,  # (S, 3, 3)
    translations: Tensor,  # (S, 3) mm
    gains: Tensor,  # (S,)
    forward_model: ForwardModel,
) -> Tensor:
    """Simulate every pixel of every slice: (P,) float32, differentiable in every tensor.

    Same numbers as `splat.reference.render`, which is the definition.
    """
    return _Render.apply(
        *(field.means, field.log_scales, field.rotations, field.amplitudes, rotations, translations, gains),
        forward_model,
    )


def predict(field: GaussianField, slices: Slices, gain: ArrayLike, backend: Backend = CPU) -> Tensor:
    """Every pixel (P,) float32 of the slices at their poses, with gains (S,)."""
    forward_model, field = backend.forward_model(slices), field.to(backend.device)
    set_geometry(forward_model, field, slices.pose)
    return forward_model.apply(field.amplitudes.detach(), gain)
