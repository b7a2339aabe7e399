"""From the field to the slices, and back: one differentiable function over the backends that are present."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.field import GaussianField
from slicesplat.splat.cpu import CpuSplatter
from slicesplat.stack import Slices

if TYPE_CHECKING:
    from slicesplat.splat.gpu import GpuSplatter

__all__ = ["CpuSplatter", "available_devices", "choose_device", "predict", "render", "splatter"]


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


def splatter(slices: Slices, cutoff: float = 3.0, device: str = "cpu") -> CpuSplatter | GpuSplatter:
    """The forward model of `slices` on a device: "auto", "cpu" or "cuda"."""
    if choose_device(device) == "cpu":
        return CpuSplatter(slices, cutoff)
    from slicesplat.splat.gpu import GpuSplatter

    return GpuSplatter(slices, cutoff, device="cuda")


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
        made: CpuSplatter | GpuSplatter,
        rebuild: bool | None,
    ) -> Tensor:
        made.place(means, log_scales, quaternions, rotations, translations, rebuild=rebuild)
        ctx.splatter, ctx.placement = made, made.placements
        ctx.save_for_backward(amplitudes, gains, means, rotations)
        return torch.as_tensor(made.splat(amplitudes, gains))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        amplitudes, gains, means, rotations = ctx.saved_tensors
        if ctx.splatter.placements != ctx.placement:
            raise RuntimeError("the splatter has been given other Gaussians or poses since this was rendered")
        gaussians, poses = map(torch.as_tensor, ctx.splatter.gradients(upstream[0], amplitudes, gains))
        g, p = gaussians.to(means.dtype), poses.to(rotations.dtype)
        return (
            *(g[:, 0:3], g[:, 3:6], g[:, 6:10], g[:, 10].to(amplitudes.dtype)),
            *(p[:, :9].reshape(-1, 3, 3), p[:, 9:12], p[:, 12].to(gains.dtype)),
            *(None, None),
        )


def render(
    field: GaussianField,
    rotations: Tensor,  # (S, 3, 3)
    translations: Tensor,  # (S, 3) mm
    gains: Tensor,  # (S,)
    splatter: CpuSplatter | GpuSplatter,
    rebuild: bool | None = None,
) -> Tensor:
    """Simulate every pixel of every slice: (P,) float32, differentiable in every tensor.

    Same numbers as `splat.reference.render`, which is the definition. `rebuild` is that of `place`: whether to make a
    new list of the pairs that touch; by default when it is needed.
    """
    return _Render.apply(
        *(field.means, field.log_scales, field.rotations, field.amplitudes, rotations, translations, gains),
        *(splatter, rebuild),
    )


def predict(field: GaussianField, slices: Slices, gain: NDArray[np.float64]) -> NDArray[np.float32]:
    """Every pixel (P,) of the slices at their poses, with gains (S,): `render` once, without gradients."""
    pose = torch.from_numpy(slices.pose)
    with torch.no_grad():
        image = render(field, pose[:, :3, :3], pose[:, :3, 3], torch.from_numpy(gain), CpuSplatter(slices))
    return image.numpy()
