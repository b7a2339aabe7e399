"""A small U-Net over the slices of a stack (Ronneberger et al., MICCAI 2015), that mixes neighbouring slices.

Convolutions are in plane, where slices are consistent; between slices, which may have moved, only what is at one place
in three of them is mixed. Pixels are pooled in plane alone, so any number of slices of any spacing goes through.
Features are normalised over the whole stack (Ulyanov et al., instance normalisation, 2016).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

CLASSES = ("other", "brain", "fetus", "uterus")
"""What a pixel can be: the mother or air, the brain with its liquor, the rest of the fetus, the rest of the uterus."""
BRAIN = CLASSES.index("brain")
WIDTHS = (16, 32, 64, 96)
"""Features of each level, from full resolution on."""
POOLED = 2 ** (len(WIDTHS) - 1)
"""Sides of an image are multiples of it."""


class _Normalised(nn.Module):
    """A convolution, its features normalised over the stack."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        self.scale = nn.Parameter(torch.ones(outputs))
        self.shift = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        # Slices are the batch: its statistics are those of the stack.
        x = nn.functional.batch_norm(x, None, None, self.scale, self.shift, training=True)
        return nn.functional.leaky_relu(x, 0.01, inplace=True)


class _Level(nn.Module):
    """In plane, across slices, in plane."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = _Normalised(inputs, outputs, 3)
        self.across = _Normalised(3 * outputs, outputs, 1)
        self.second = _Normalised(outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        before, after = torch.cat([x[:1], x[:-1]]), torch.cat([x[1:], x[-1:]])
        return x + self.second(self.across(torch.cat([before, x, after], dim=1)))


class BrainNetwork(nn.Module):
    """Slices of one stack to the logarithms of odds of each class, pixel by pixel.

    Parameters
    ----------
    widths : sequence of int
        Features of each level.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Level(i, o) for i, o in zip((1, *widths), widths, strict=False))
        pairs = list(itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(high, low, 1) for low, high in pairs)
        self.out = nn.ModuleList(_Normalised(low, low, 3) for low, _ in pairs)
        self.head = nn.Conv2d(widths[0], len(CLASSES), 1)

    def forward(self, slices: Tensor) -> Tensor:
        """Of a stack.

        Parameters
        ----------
        slices : (nz, 1, nx, ny)
            `POOLED` divides nx and ny.

        Returns
        -------
        (nz, 4, nx, ny)
        """
        kept = []
        x = slices
        for number, level in enumerate(self.down):
            x = level(x if number == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for up, out, skip in zip(reversed(self.up), reversed(self.out), kept[-2::-1], strict=True):
            x = out(skip + nn.functional.interpolate(up(x), scale_factor=2.0, mode="nearest"))
        logits: Tensor = self.head(x)
        return logits
