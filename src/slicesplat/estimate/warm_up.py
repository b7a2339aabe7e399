"""Kernels compiled, or loaded from the cache, before anything is timed."""

from __future__ import annotations

import numpy as np
import torch

from slicesplat.field.lattice import Lattice
from slicesplat.priors.curvature import Curvature
from slicesplat.splat import CPU, Backend
from slicesplat.splat.cpu.threads import limited_threads
from slicesplat.splat.grid import grid_slices


# Threads that ask for the same kernel at once wait for each other, longer than it takes.
@limited_threads(1)
def compile_kernels(backend: Backend = CPU, gradients: bool = False) -> None:
    """Compile what a reconstruction needs, or load it from the cache: on one Gaussian over a grid of a few voxels.

    Parameters
    ----------
    backend : Backend
    gradients : bool
        Those for the gradients by a Gaussian's shape too, which Gaussians on a lattice do not need.
    """
    planes = grid_slices(np.eye(4), (4, 4, 2), 1.0)
    forward_model = backend.forward_model(planes)
    one = np.ones(1, np.float32)
    shape = (np.full((1, 3), 1.5), np.zeros((1, 3)), np.array([[1.0, 0.0, 0.0, 0.0]]))
    gains = np.ones(len(planes))
    for shift in (0.0, 1e-3):
        forward_model.set_geometry(shape[0] + shift, *shape[1:], planes.pose.rotation, planes.pose.translation)
    image = forward_model.apply(one, gains)
    forward_model.adjoint(image, gains)
    forward_model.pose_normal_equations(one, gains, image, torch.ones_like(image), gains)
    forward_model.misfits(one, gains, image, torch.ones_like(image), gains)
    if gradients:
        forward_model.vjp(image, one, gains)
    amplitudes = backend.tensor(one)
    prior = Curvature(Lattice(1.0, torch.zeros(1, 3, dtype=torch.int32, device=backend.device)), backend)
    prior.majorise(amplitudes, 1.0)
    prior.matvec(amplitudes)
