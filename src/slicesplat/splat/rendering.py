"""From the field to the slices, and back: one differentiable function over any forward model."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.splat.model import ForwardModel
from slicesplat.splat.registry import CPU, Backend


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
