"""Which Gaussians touch which views and tiles: a list that is a little too generous, made by PyTorch's operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slicesplat.field.gaussians import rotation_matrices
from slicesplat.splat.gpu.views import TILE, Geometry, Views

# Slices are compared with all Gaussians this many pairs at a time, to bound the memory that a new list takes.
_CHUNK = 2**20


@dataclass(eq=False)
class PairList:
    """Which Gaussians touch which views and tiles, and where all were when that was found out."""

    view: Tensor  # (Q,) int32, ascending
    gaussian: Tensor  # (Q,) int32, ascending within a view
    slice_start: Tensor  # (S + 1,) into the pairs
    gaussian_start: Tensor  # (N + 1,) into pair_of
    pair_of: Tensor  # (Q,)
    entry_start: Tensor  # (T + 1,) into entry
    entry: Tensor  # pairs of each tile, ascending
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.gaussian)


def list_pairs(views: Views, geometry: Geometry, cutoff: float, margin: float) -> PairList:
    """Every view's Gaussians and every tile's pairs, too generous by the margin, mm."""
    n, device = len(geometry), geometry.mean.device
    chunk = max(1, _CHUNK // max(1, n * views.components))
    some = [torch.arange(s, min(s + chunk, views.slices), device=device) for s in range(0, views.slices, chunk)]
    found = [_touching(s, views, geometry, cutoff, margin) for s in some]
    nothing = [torch.zeros(0, 6, dtype=torch.int64, device=device)]
    view, gaussian, top, bottom, left, right = torch.cat(found or nothing).unbind(1)
    s = torch.div(view, views.components, rounding_mode="floor")
    height, width = bottom - top + 1, right - left + 1
    counts = height * width
    pair = torch.repeat_interleave(counts)
    place = torch.arange(len(pair), device=device) - (counts.cumsum(0) - counts)[pair]
    row = top[pair] + torch.div(place, width[pair], rounding_mode="floor")
    tile = views.first_tile[s[pair]] + row * views.tile_columns[s[pair]] + left[pair] + place % width[pair]
    tile, order = torch.sort(tile, stable=True)
    by_gaussian, pair_of = torch.sort(gaussian, stable=True)
    return PairList(
        view=view.int(),
        gaussian=gaussian.int(),
        slice_start=_starts(s, views.slices),
        gaussian_start=_starts(by_gaussian, n),
        pair_of=pair_of.int(),
        entry_start=_starts(tile, len(views.tiles)),
        entry=pair[order].int(),
        geometry=geometry,
    )


def _touching(s: Tensor, views: Views, geometry: Geometry, cutoff: float, margin: float) -> Tensor:
    """Pairs of the slices `s` with a Gaussian whose ellipsoid at the cut-off, grown by the margin, meets a pixel.

    Returns
    -------
    (Q, 6) int64
        View, Gaussian, first and last row of tiles, first and last column of tiles.
    """
    rotation = geometry.rotation[s]
    mean = ((geometry.mean - geometry.translation[s, None]) @ rotation).unsqueeze(1)  # (s, 1, N, 3)
    axes = rotation_matrices(geometry.quaternions) * geometry.log_scales.exp().unsqueeze(-2)
    along = rotation[:, None].mT @ axes  # (s, N, 3, 3)
    cov = (along @ along.mT).unsqueeze(1)  # (s, 1, N, 3, 3)
    blur = views.blur.reshape(views.slices, views.components, 1, 3)[s]
    above = mean[..., 2] - views.plane.reshape(views.slices, views.components, 1)[s]
    szz = cov[..., 2, 2] + blur[..., 2]
    high = cutoff * szz.sqrt()
    touch = above.abs() <= high + margin
    # Only the part of the ellipsoid within the margin of the slice plane counts, at these distances from the mean.
    near = torch.maximum(-above - margin, -high).clamp(max=high)
    far = torch.minimum(-above + margin, high).clamp(min=-high)
    bounds = []
    for k in range(2):
        origin, step = views.grid[s, k, None, None], views.grid[s, k + 2, None, None]
        last = views.shape[s, k, None, None] - 1
        down, up = _reach(cov[..., k, k] + blur[..., k], cov[..., k, 2], szz, near, far, cutoff)
        first = ((mean[..., k] + down - margin - origin) / step).ceil()
        end = ((mean[..., k] + up + margin - origin) / step).floor()
        touch = touch & (first <= last) & (end >= 0) & (first <= end)
        bounds += [first.clamp(min=0), torch.minimum(end, last)]
    at, component, gaussian = touch.nonzero().unbind(1)
    tiles = [torch.div(b[touch].long(), TILE, rounding_mode="floor") for b in bounds]
    return torch.stack([s[at] * views.components + component, gaussian, *tiles], dim=1)


def _reach(
    variance: Tensor, mixed: Tensor, szz: Tensor, near: Tensor, far: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """How far an ellipsoid goes down and up along an axis of the plane, mm, at heights from `near` to `far`.

    `variance` is that along the axis, `mixed` its covariance with the height, whose variance is `szz`.
    """
    slope = mixed / szz
    width = (variance - slope * mixed).clamp(min=0).sqrt()
    summit = cutoff * mixed / variance.sqrt()  # height of the ellipsoid's extreme
    down, up = (
        slope * z + side * (cutoff**2 - z.square() / szz).clamp(min=0).sqrt() * width
        for side, z in ((side, torch.minimum(torch.maximum(side * summit, near), far)) for side in (-1, 1))
    )
    return down, up


def _starts(ascending: Tensor, count: int) -> Tensor:
    """Where each of `count` numbers begins in an ascending list, and its end: (count + 1,) int32."""
    return torch.searchsorted(ascending, torch.arange(count + 1, device=ascending.device)).int()
