"""The forward model: from the field to the slices, and back, on the backends that are present."""

from __future__ import annotations

from slicesplat.splat.cpu.forward import CpuForwardModel
from slicesplat.splat.model import ForwardModel, PoseSystems
from slicesplat.splat.registry import CPU, Backend, available_backends, choose_backend, register
from slicesplat.splat.rendering import predict, render, set_geometry

__all__ = [
    "CPU",
    "Backend",
    "CpuForwardModel",
    "ForwardModel",
    "PoseSystems",
    "available_backends",
    "choose_backend",
    "predict",
    "register",
    "render",
    "set_geometry",
]
