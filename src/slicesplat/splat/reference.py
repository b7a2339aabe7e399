"""The definition of the forward model: plain PyTorch, autograd, meant for float64 and for small cases.

A slice s sees the field through its PSF, a sum of Gaussians with weights w_k, covariances D_k and centres (0, 0, o_k)
in the slice frame:

    y_s(x) = g_s sum_k w_k sum_j a_j sqrt(|S_j| / |S'_js|) exp(-1/2 d' S'_js^-1 d)
    S'_js = R_s' S_j R_s + D_k,   d = x - R_s' (mu_j - t_s),   x = (u, v, o_k) in the slice frame

docs/method.md. Pairs beyond the Mahalanobis distance `cutoff` count as zero in every backend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.slices import Slices


def render(
    field: GaussianField,
    rotations: Tensor,  # (S, 3, 3)
    translations: Tensor,  # (S, 3) mm
    gains: Tensor,  # (S,)
    slices: Slices,
    cutoff: float = float("inf"),
) -> Tensor:
    """Simulate every pixel of every slice: (P,), laid out as `slices.pixels`."""
    images = []
    covariances = field.covariances()
    for s in range(len(slices)):
        pixel = torch.as_tensor(slices.plane_points(s, inside=False), dtype=field.means.dtype)  # (p, 3)
        centre = (field.means - translations[s]) @ rotations[s]  # (N, 3)
        image = torch.zeros(len(pixel), dtype=field.means.dtype)
        psf = (slices.psf_weights[s], slices.psf_covariances[s], slices.psf_offsets[s])
        for weight, diagonal, through in zip(*psf, strict=True):
            plane = torch.tensor([0.0, 0.0, through], dtype=field.means.dtype)
            offset = (pixel + plane)[:, None, :] - centre  # (p, N, 3)
            blur = torch.diag(torch.as_tensor(diagonal, dtype=field.means.dtype))
            blurred = rotations[s].mT @ covariances @ rotations[s] + blur  # (N, 3, 3)
            square = torch.einsum("pni,nij,pnj->pn", offset, torch.linalg.inv(blurred), offset)
            amplitude = field.amplitudes * torch.sqrt(torch.linalg.det(covariances) / torch.linalg.det(blurred))
            inside = square <= cutoff**2
            image = image + weight * torch.where(inside, torch.exp(-0.5 * square), 0.0) @ amplitude
        images.append(gains[s] * image)
    return torch.cat(images)
