"""The recipe of the method's paper, on our kernels: everything by Adam at once, and no prior but theirs.

Dannecker et al., MIDL 2026 (PMLR 315:1473-1491), sections 2.4 and 2.5: means drawn where the slices' gradients are
large, mixed with even sampling; the loss is the absolute error of the pixels, each slice with a gain and a weight of
its own, and the squared distance of the scales from 1.6 mm; shapes, amplitudes, poses, gains and weights follow its
gradient together. What differs: our additive, exact forward model instead of their sum normalised over the nearest
Gaussians. Their rates of learning are not in the paper; those below are ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import torch
from cases import Case, Row, image_quality
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import Config
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.slices import Slices
from slicesplat.pipeline import register
from slicesplat.prepare.region import grid_over, region_field, region_mask
from slicesplat.splat import CPU, render
from slicesplat.splat.grid import sample_on_grid

TURN_MM = 40.0
"""A step of a slice's rotation is as long as it moves the edge of a brain."""


@dataclass(frozen=True)
class PaperSettings:
    """The recipe's numbers.

    Attributes
    ----------
    gaussians, epochs : int
        An epoch is a step with all slices.
    even : float
        Share of the means that is drawn evenly over the masks.
    size : float
        mm; that of the Gaussians at the beginning, and what their scales are drawn to.
    drawn : float
        Weight of the squared distance of the scales from that, in units of the mean absolute error of the pixels.
    rate : float
        Of Adam for log scales and rotations; half of it for means in mm, a tenth for amplitudes and for poses.
    told : int
        Epochs from one row to the next.
    """

    gaussians: int = 30_000
    epochs: int = 200
    even: float = 0.3
    size: float = 1.6
    drawn: float = 1e-3
    rate: float = 0.02
    told: int = 20


def paper_recipe(case: Case, config: Config, settings: PaperSettings) -> Iterator[Row]:
    """Quality and processor time after every so many epochs, from the poses of our registration on."""
    slices = register(case.stacks, config).slices
    pixels = torch.from_numpy(slices.pixels / np.percentile(slices.pixels[slices.mask], 99.5)).float()
    field = _drawn(slices, pixels.numpy(), settings, np.random.default_rng(config.seed))
    region = region_field(slices, np.ones(len(slices)))
    affine, shape = grid_over(region, config.resolution)
    inside = region_mask(region, affine, shape)
    for epoch, seconds, found in _descended(slices, pixels, field, settings):
        values = np.maximum(sample_on_grid(found, affine, shape), 0.0) * inside
        quality = image_quality(nib.Nifti1Image(values.astype(np.float32), affine), case)
        yield {"epoch": epoch, "gaussians": len(found), **quality, "cpu_s": round(seconds, 1)}


def _drawn(
    slices: Slices, pixels: NDArray[np.float32], settings: PaperSettings, random: np.random.Generator
) -> GaussianField:
    """Gaussians where the slices' gradients are large, and some evenly."""
    points, steep, bright = [], [], []
    for s in range(len(slices)):
        inside = slices.image(slices.mask, s).astype(bool)
        if not inside.any() or min(inside.shape) < 2:
            continue
        image = slices.image(pixels, s)
        points.append(slices.world_points(s))
        steep.append(np.hypot(*np.gradient(image))[inside])
        bright.append(image[inside])
    place, slope, value = (np.concatenate(parts) for parts in (points, steep, bright))
    chance = (1 - settings.even) * slope / slope.sum() + settings.even / len(slope)
    chosen = random.choice(len(slope), settings.gaussians, replace=True, p=chance)
    means = place[chosen] + random.normal(0, settings.size / 2, (len(chosen), 3))
    # So many Gaussians of that size add up: together they are to be about as bright as the slices.
    volume = region_volume(place)
    crowd = settings.gaussians * (2 * np.pi) ** 1.5 * settings.size**3 / volume
    return GaussianField(
        means=torch.from_numpy(means).float(),
        log_scales=torch.full((len(means), 3), float(np.log(settings.size))),
        rotations=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(means), 1),
        amplitudes=torch.from_numpy(value[chosen] / crowd).float(),
    )


def region_volume(points: NDArray[np.float64], cell: float = 3.0) -> float:
    """mm^3 of the cells that hold a point."""
    return len(np.unique(np.round(points / cell).astype(int), axis=0)) * cell**3


def _descended(
    slices: Slices, pixels: Tensor, field: GaussianField, settings: PaperSettings
) -> Iterator[tuple[int, float, GaussianField]]:
    """Epoch, processor time and field, every so many epochs."""
    forward_model, count = CPU.forward_model(slices), len(slices)
    rotation, translation = (torch.from_numpy(x) for x in (slices.pose.rotation, slices.pose.translation))
    own = {name: value.clone().requires_grad_() for name, value in field.tensors().items()}
    steps = torch.zeros(count, 6, dtype=torch.float64, requires_grad=True)
    gains, doubt = (torch.zeros(count, dtype=torch.float64, requires_grad=True) for _ in range(2))
    shapes, others = (own["log_scales"], own["rotations"]), (own["amplitudes"], steps, gains, doubt)
    adam = torch.optim.AdamW(
        [
            {"params": shapes, "lr": settings.rate},
            {"params": [own["means"]], "lr": settings.rate / 2},
            {"params": others, "lr": settings.rate / 10},
        ],
        weight_decay=0.0,
    )
    owner = torch.from_numpy(slices.slice_of_pixel())
    mask = torch.from_numpy(slices.mask)
    start, spent = time.process_time(), 0.0
    for epoch in range(1, settings.epochs + 1):
        adam.zero_grad()
        turn = torch.matrix_exp(_skew(steps[:, 3:] / TURN_MM))
        posed = (rotation @ turn, translation + (rotation @ steps[:, :3, None])[..., 0])
        image = render(GaussianField(**own), *posed, torch.exp(gains), forward_model)
        error = (image - pixels).abs()[mask]
        trust = doubt[owner[mask]]
        # A slice's own scale of the error (Laplace): that of a bad one grows, and it counts for less.
        fit = (error * torch.exp(-trust) + trust).mean()
        drawn = (own["log_scales"].exp() - settings.size).square().sum(dim=1).mean()
        (fit + settings.drawn * drawn).backward()
        adam.step()
        if epoch % settings.told == 0 or epoch == settings.epochs:
            spent += time.process_time() - start
            yield epoch, spent, GaussianField(**{name: value.detach().clone() for name, value in own.items()})
            start = time.process_time()


def _skew(vectors: Tensor) -> Tensor:
    """(S, 3, 3) of (S, 3)."""
    x, y, z = vectors.unbind(1)
    nothing = torch.zeros_like(x)
    return torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], dim=1).reshape(-1, 3, 3)
