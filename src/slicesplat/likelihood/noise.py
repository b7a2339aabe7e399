"""What the data can carry: the noise in them, measured before any fit.

The noise level is the median absolute response to the difference of two Laplacian-like stencils, which anatomy leaves
almost alone (Immerkaer, Computer Vision and Image Understanding 64, 1996, 300-302).

That is so where the noise is white. Stacks that were interpolated, by zeros filled in around their k-space, hold each
measured value in the midst of others that tell nothing new; their noise has next to no mixed fourth difference, and
would be found several times too small. Responses beside each other tell: of white noise they correlate by -2/3,
whatever its level. Where they do not, the stencil is spread until they do. docs/method.md, Likelihood.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import NoiseSettings
from slicesplat.geometry.pixels import MAD_TO_SIGMA, median, sum_over_slices
from slicesplat.geometry.slices import Slices, pixel_indices
from slicesplat.splat import CPU, Backend

STENCIL_NORM = 6.0
"""Length of the stencil as a vector: what `noise_response` makes of white noise has so many times its deviation."""
ENOUGH = 100  # pixels of which the median absolute response is known within a tenth
_SLICES = 24  # are looked at for whether noise is white, evenly over all: it is that of the scanner


_DEFAULT = NoiseSettings()


@dataclass(frozen=True)
class Noise:
    """The noise in the pixels.

    Attributes
    ----------
    sigma : float
        Standard deviation, in units of the pixels. Where it is not known: of what is left of it, at least.
    reach : int
        Pixels along each side that share one noise value; 1 where the noise is white.
    known : bool
        Whether it was seen as white at any distance. After a filter it is not.
    """

    sigma: float
    reach: int = 1
    known: bool = True

    @property
    def step(self) -> int:
        """Pixels from one that was measured to the next, as far as that is known: those between were interpolated."""
        return self.reach if self.known else 1

    @property
    def independent(self) -> float:
        """Standard deviation by which pixels, each counted as if it were independent, tell as much as they do."""
        return self.sigma * self.step


def noise_response(image: Tensor, spread: int = 1) -> Tensor:
    """An image (rows, columns) under the outer product of (1, -2, 1) with itself; beyond the edge, the edge's pixels.

    The entries of the stencil stand `spread` pixels apart.

    Examples
    --------
    >>> point = torch.zeros(3, 3)
    >>> point[1, 1] = 1.0
    >>> noise_response(point).tolist()
    [[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]
    """
    out = torch.nn.functional.pad(image[None, None], (spread,) * 4, mode="replicate")[0, 0]
    for axis in range(2):
        size = out.shape[axis] - 2 * spread
        before, middle, after = (out.narrow(axis, start, size) for start in (0, spread, 2 * spread))
        out = (after - middle) - (middle - before)
    return out


def noise_levels(slices: Slices, inside: Tensor, backend: Backend = CPU, spread: int = 1) -> NDArray[np.float64]:
    """Standard deviation (S,) of the noise in every slice, in units of the pixels; `inside` is (P,) bool.

    NaN for slices with fewer than `ENOUGH` pixels inside. The stencil has its entries `spread` pixels apart.
    """
    levels = np.full(len(slices), np.nan)
    for s, response, mask in _responses(slices, inside, backend, spread):
        levels[s] = MAD_TO_SIGMA * median(response[mask].abs() / STENCIL_NORM)
    return levels


def noise_level(slices: Slices, inside: Tensor, backend: Backend = CPU, spread: int = 1) -> float:
    """Standard deviation of white noise, in units of the pixels: the median over the slices; `inside` is (P,) bool."""
    levels = noise_levels(slices, inside, backend, spread)
    return float(np.nanmedian(levels)) if np.isfinite(levels).any() else 0.0


def whiteness(slices: Slices, inside: Tensor, backend: Backend = CPU, spread: int = 1) -> float:
    """How responses so many pixels apart correlate, as a median over the slices: by -2/3 where noise is white.

    NaN where no slice has `ENOUGH` pixels inside. Anatomy brings it somewhat nearer to zero, and a filter above.
    """
    enough = np.flatnonzero(sum_over_slices(inside, slices) >= ENOUGH)
    if not len(enough):
        return float("nan")
    chosen = enough[np.unique(np.linspace(0, len(enough) - 1, _SLICES).astype(int))]
    among = backend.tensor(pixel_indices(slices.offset, chosen), torch.int64)
    found = []
    for _, response, mask in _responses(slices.take(chosen), inside[among], backend, spread):
        pairs = []
        for axis in range(2):
            size = response.shape[axis] - spread
            ends = [(response.narrow(axis, at, size), mask.narrow(axis, at, size)) for at in (0, spread)]
            both = ends[0][1] & ends[1][1]
            pairs.append(torch.stack([ends[0][0][both], ends[1][0][both]]))
        one, other = torch.cat(pairs, dim=1).cpu().numpy()
        if len(one) >= ENOUGH:
            # By medians: edges of the anatomy are large, and few.
            alike, unlike = (float(np.median(np.abs(values))) ** 2 for values in (one + other, one - other))
            found.append((alike - unlike) / max(alike + unlike, 1e-30))
    return float(np.median(found)) if found else float("nan")


def measured_noise(slices: Slices, inside: Tensor, backend: Backend = CPU, settings: NoiseSettings = _DEFAULT) -> Noise:
    """The noise of slices by their pixels inside, (P,) bool."""
    white = whiteness(slices, inside, backend)
    level = noise_level(slices, inside, backend)
    # Too few pixels to tell, or no noise at all: as if it were white.
    if not np.isfinite(white) or level == 0.0 or white <= settings.white:
        return Noise(level)
    for reach in range(2, settings.longest + 1):
        spread = noise_level(slices, inside, backend, reach)
        interpolated = level < settings.smooth * spread
        if interpolated and whiteness(slices, inside, backend, reach) <= settings.white_between:
            return Noise(spread, reach)
    return Noise(level, settings.longest, known=False)


def _responses(slices: Slices, inside: Tensor, backend: Backend, spread: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Every slice that has `ENOUGH` pixels inside: its number, its response (rows, columns), which pixels those are."""
    pixels = backend.tensor(slices.pixels, torch.float64)
    ends = zip(itertools.pairwise(slices.offset.tolist()), slices.shape.tolist(), strict=True)
    for s, ((first, last), shape) in enumerate(ends):
        if int(inside[first:last].sum()) >= ENOUGH:
            yield s, noise_response(pixels[first:last].reshape(shape), spread), inside[first:last].reshape(shape)
