"""From the field to the slices, and back: one differentiable function over the backends that are present."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slicesplat.field import GaussianField
from slicesplat.splat.cpu import CpuSplatter

__all__ = ["CpuSplatter", "render"]


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
        splatter: CpuSplatter,
    ) -> Tensor:
        arrays = [t.detach().numpy() for t in (means, log_scales, quaternions, rotations, translations)]
        splatter.place(*arrays)
        ctx.splatter = splatter
        ctx.save_for_backward(amplitudes, gains, rotations, translations)
        return torch.from_numpy(splatter.splat(amplitudes.detach().numpy(), gains.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        amplitudes, gains, rotations, translations = ctx.saved_tensors
        gaussians, poses = ctx.splatter.gradients(upstream[0].numpy(), amplitudes.numpy(), gains.numpy())
        g, p = torch.from_numpy(gaussians).to(amplitudes.dtype), torch.from_numpy(poses).to(rotations.dtype)
        return (
            *(g[:, 0:3], g[:, 3:6], g[:, 6:10], g[:, 10]),
            *(p[:, :9].reshape(-1, 3, 3), p[:, 9:12], p[:, 12].to(gains.dtype)),
            None,
        )


def render(
    field: GaussianField,
    rotations: Tensor,  # (S, 3, 3)
    translations: Tensor,  # (S, 3) mm
    gains: Tensor,  # (S,)
    splatter: CpuSplatter,
) -> Tensor:
    """Simulate every pixel of every slice: (P,) float32, differentiable in every argument but the splatter.

    Same numbers as `splat.reference.render`, which is the definition.
    """
    return _Render.apply(
        field.means, field.log_scales, field.rotations, field.amplitudes, rotations, translations, gains, splatter
    )
