"""One stack through the network: where a brain could be, and the edge of the one that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.segment.grids import View, brightness, edge_view, find_view
from slicesplat.segment.network import BRAIN, BrainNetwork

Float = NDArray[np.float64]
Share = NDArray[np.float32]

_WEIGHTS = "segment/brain.safetensors"
_SHELL = (0.2, 0.45)
"""Brain diameters from its edge where the womb or the air around a head is looked at."""
_AIR = 0.35
"""Of the brain's median, as the network sees both: darker is air."""
_LEAST_VOXELS = 50
"""Of a brain, that its shape is taken from."""
_NOTHING = 0.002
"""Probability that counts as none."""
_ANY_NEIGHBOUR = np.ones((3, 3, 3), bool)
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
"""Axes of (nz, 1, nx, ny) that the same image is shown mirrored along: what is found is their mean."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network needs of a stack.

    Attributes
    ----------
    data : (nx, ny, nz)
        Intensities.
    affine : (4, 4)
        Voxel index to world, mm.
    """

    data: NDArray[np.floating]
    affine: Float

    @property
    def spacing(self) -> Float:
        """(3,) mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @cached_property
    def bright(self) -> torch.Tensor:
        """As the network sees it."""
        return brightness(self.data)

    def to_world(self, centre: Float) -> Float:
        """Mm from the first voxel along the axes, to world."""
        return np.asarray(self.affine[:3, :3] @ (centre / self.spacing) + self.affine[:3, 3])

    def from_world(self, place: Float) -> Float:
        """The way back."""
        return np.asarray(np.linalg.solve(self.affine[:3, :3], place - self.affine[:3, 3]) * self.spacing)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The brain of a stack.

    Attributes
    ----------
    share : (nx, ny, nz) float32
        Probability of each voxel.
    dark : float
        Share of what surrounds it that is as dark as air.
    """

    share: Share
    dark: float

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The largest piece that is more likely brain than not, without holes in its slices."""
        return largest_piece(self.share > 0.5)


def diameter_of(volume: float) -> float:
    """mm, of a ball of so many cm^3.

    Examples
    --------
    >>> round(diameter_of(113.1), 1)
    60.0
    """
    return float((6000 * volume / np.pi) ** (1 / 3))


def largest_piece(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of a stack, holes in its slices filled."""
    out = np.zeros_like(inside)
    if not inside.any():
        return out
    box = _box(inside)
    pieces, count = ndimage.label(inside[box], _ANY_NEIGHBOUR)
    kept = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])) if count > 1 else pieces > 0
    # What touches the edge of the box is a hole no more than what touches the edge of the image.
    out[box] = np.stack([ndimage.binary_fill_holes(kept[:, :, k]) for k in range(kept.shape[2])], axis=2)
    return out


def _box(inside: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest that holds all of it, (nx, ny, nz), and a voxel more in plane where there is one."""
    ends = [np.flatnonzero(inside.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    x, y, z = ((int(along[0]), int(along[-1]) + 1) for along in ends)
    return slice(max(x[0] - 1, 0), x[1] + 1), slice(max(y[0] - 1, 0), y[1] + 1), slice(*z)


@dataclass(frozen=True, eq=False)
class Finder:
    """The network, that sees a stack from afar to find a brain in it, and from near to draw its edge."""

    network: BrainNetwork

    @classmethod
    def built_in(cls) -> Finder:
        """The package's; training/README.md says how it was made."""
        from safetensors.torch import load

        network = BrainNetwork()
        kept = resources.files("slicesplat").joinpath(_WEIGHTS).read_bytes()
        network.load_state_dict({key: value.float() for key, value in load(kept).items()})
        # Features beside each other in memory: a quarter faster on CPUs.
        return cls(network.eval().to(memory_format=torch.channels_last))  # type: ignore[call-overload]

    def found(self, seen: Seen) -> tuple[Share, Float]:
        """Probabilities of brain (nx, ny, nz) on a coarse grid, and the way (4, 4) from world to it."""
        view = find_view(seen.data.shape, seen.spacing)
        share = _classes(self.network, view.of(seen.bright, seen.spacing), _FLIPS[:2])[BRAIN]
        to_world = seen.affine.copy()
        axes = seen.affine[:3, :3] / seen.spacing
        to_world[:3, :3] = axes * view.steps
        to_world[:3, 3] += axes @ view.first
        return np.ascontiguousarray(share.transpose(1, 2, 0)), np.linalg.inv(to_world)

    def drawn(self, seen: Seen, centre: Float, diameter: float, settings: SegmentationSettings) -> Drawn:
        """The brain around a place, looked at once more where it is found elsewhere or of another size."""
        view = edge_view(seen.data.shape, seen.spacing, centre, diameter)
        for _ in range(settings.most_looks):
            share = _classes(self.network, view.of(seen.bright, seen.spacing), _FLIPS[:1])[BRAIN]
            found = _centred(share, view)
            if found is None:
                break
            off = np.linalg.norm(found[0] - centre) / diameter
            changed = abs(np.log(found[1] / diameter))
            centre, diameter = (
                found[0],
                float(np.clip(found[1], diameter / settings.growth, diameter * settings.growth)),
            )
            view = edge_view(seen.data.shape, seen.spacing, centre, diameter)
            if off < settings.same_place and changed < settings.same_size:
                break
        image = view.of(seen.bright, seen.spacing)
        classes = _classes(self.network, image, _FLIPS)
        shape = seen.data.shape
        share = view.back(torch.from_numpy(classes[BRAIN]), shape, seen.spacing).numpy()
        share = like_a_brain(_without_gaps(share), seen.spacing, settings)
        return Drawn(share, _dark_around(classes[BRAIN], image.numpy(), view, diameter))


def _classes(network: BrainNetwork, image: torch.Tensor, flips: Sequence[tuple[int, ...]]) -> Share:
    """(4, nz, nx, ny): probabilities, the mean over mirrored images."""
    with torch.inference_mode():
        slices = image[:, None].contiguous(memory_format=torch.channels_last)
        total = sum(network(slices.flip(axes)).softmax(dim=1).flip(axes) for axes in flips) / len(flips)
    return np.ascontiguousarray(total.numpy().transpose(1, 0, 2, 3))


def _middle(weight: Share, view: View) -> Float:
    """Centre of mass of (nz, nx, ny), mm."""
    z, x, y = ndimage.center_of_mass(weight)
    return np.asarray(view.first + view.steps * [x, y, z])


def _centred(share: Share, view: View) -> tuple[Float, float] | None:
    """Centre and diameter, mm, of the largest piece."""
    inside = largest_piece((share > 0.5).transpose(1, 2, 0)).transpose(2, 0, 1)
    volume = float(inside.sum() * view.steps.prod() / 1000)
    if volume < 1.0:
        return None
    return _middle(inside.astype(np.float32), view), diameter_of(volume)


def _without_gaps(share: Share) -> Share:
    """A slice that lost its signal between two others has what both of them have."""
    area = (share > 0.5).sum(axis=(0, 1))
    filled = share.copy()
    for k in range(1, len(area) - 1):
        if area[k] < 0.5 * min(area[k - 1], area[k + 1]):
            filled[:, :, k] = np.maximum(share[:, :, k], 0.5 * (share[:, :, k - 1] + share[:, :, k + 1]))
    return filled


def like_a_brain(share: Share, spacing: Float, settings: SegmentationSettings) -> Share:
    """Probabilities (nx, ny, nz) that a brain is smooth and about an ellipsoid added to those of its pixels.

    The ellipsoid has the second moments of what is likely brain; at its surface nothing is added, inside it brain is
    likelier, outside of it less likely.
    """
    inside = largest_piece(share > 0.5)
    if inside.sum() < _LEAST_VOXELS:
        return share
    soft = ndimage.gaussian_filter(share, np.append(settings.smooth / spacing[:2], 0.0), mode="constant")
    where = np.argwhere(inside) * spacing
    middle = where.mean(axis=0)
    # Of a solid ellipsoid the second moment along an axis is a fifth of the square of the half axis.
    shape = np.linalg.inv(5 * np.cov(where.T) + 1e-3 * np.eye(3))
    box = _box(soft > _NOTHING)
    axes = zip(share.shape, spacing, middle, box, strict=True)
    x, y, z = (np.arange(n)[part] * step - m for n, step, m, part in axes)
    points = np.stack(np.meshgrid(x, y, z, indexing="ij"))
    away = np.sqrt(np.einsum("axyz,ab,bxyz->xyz", points, shape, points, optimize=True))
    known = np.clip(soft[box], _NOTHING, 1 - _NOTHING)
    odds = np.log(known / (1 - known))
    odds += np.clip(settings.roundness * (1 - away), -settings.most_round, settings.most_round)
    out = np.zeros_like(share)
    out[box] = 1 / (1 + np.exp(-odds))
    return out


def _dark_around(brain: Share, image: Share, view: View, diameter: float) -> float:
    """Share of a shell around the brain, beyond skull and scalp, that is as dark as air."""
    inside = brain > 0.5
    if not inside.any():
        return 0.0
    away = ndimage.distance_transform_edt(~inside, sampling=view.steps[[2, 0, 1]])
    shell = image[(away > _SHELL[0] * diameter) & (away < _SHELL[1] * diameter)]
    return float((shell < _AIR * np.median(image[inside])).mean()) if shell.size else 0.0
