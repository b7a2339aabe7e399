"""What a forward model keeps on the device: its slices, and the geometry that was set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slicesplat.geometry.slices import Slices

# A tile has as many pixels as two warps have lanes; a Gaussian's box is about as large.
TILE = 8


@dataclass(eq=False)
class Views:
    """Slices as the components of their PSFs see them: view v is component v % C of slice v // C."""

    slices: int
    pixels: int
    components: int
    weight: Tensor  # (V,) float64
    blur: Tensor  # (V, 3) float64, mm^2
    plane: Tensor  # (V,) float64, mm: where the component has its centre
    grid: Tensor  # (S, 4) float64, mm: origin and step of the pixels
    shape: Tensor  # (S, 3) int32: rows, columns, first pixel
    tiles: Tensor  # (T, 3) int32: slice, first row, first column
    tile_columns: Tensor  # (S,) int64
    first_tile: Tensor  # (S + 1,) int64
    narrowest: float  # mm^2, the smallest blur
    radius: float  # mm, of the farthest pixel from its slice's centre

    @classmethod
    def of(cls, slices: Slices, device: torch.device) -> Views:
        """The views of the slices, on the device."""

        def constant(values: np.ndarray, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values)).to(device, dtype)

        far = slices.origin + (slices.shape - 1) * slices.step
        through = np.abs(slices.psf_offsets).max(axis=1, initial=0.0)
        across = -(-slices.shape.astype(np.int64) // TILE)  # (S, 2) tiles along rows and columns
        tiles = [(s, TILE * i, TILE * k) for s, (a, b) in enumerate(across) for i in range(a) for k in range(b)]
        places = np.concatenate([slices.shape, slices.offset[:-1, None]], axis=1).astype(np.int64)
        return cls(
            slices=len(slices),
            pixels=int(slices.offset[-1]),
            components=int(slices.psf_weights.shape[1]),
            weight=constant(slices.psf_weights.reshape(-1), torch.float64),
            blur=constant(slices.psf_covariances.reshape(-1, 3), torch.float64),
            plane=constant(slices.psf_offsets.reshape(-1), torch.float64),
            grid=constant(np.concatenate([slices.origin, slices.step], axis=1), torch.float64),
            shape=constant(places, torch.int32),
            tiles=constant(np.array(tiles).reshape(-1, 3), torch.int32),
            tile_columns=constant(across[:, 1], torch.int64),
            first_tile=constant(np.concatenate([[0], np.cumsum(across.prod(axis=1))]), torch.int64),
            narrowest=float(slices.psf_covariances.min(initial=np.inf)),
            radius=float(np.hypot(np.linalg.norm(far, axis=1), through).max(initial=0.0)),
        )


@dataclass(eq=False)
class Geometry:
    """Shapes of the Gaussians and poses of the slices, all float64."""

    mean: Tensor  # (N, 3) mm
    log_scales: Tensor  # (N, 3)
    quaternions: Tensor  # (N, 4)
    rotation: Tensor  # (S, 3, 3)
    translation: Tensor  # (S, 3) mm
    covariance: Tensor  # (N, 7) mm^2: xx, xy, xz, yy, yz, zz, and the determinant

    def __len__(self) -> int:
        return len(self.mean)
