"""How well a volume, whoever made it, predicts the slices: the field's score where there is no truth.

The volume becomes a field; the slices are brought onto it, whole stacks first, then runs, then one by one, and each is
compared with its prediction. Every volume is treated alike, whatever it says about the motion itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from slicesplat.config import WHOLE_STACK, Config
from slicesplat.errors import InputError
from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import lattice_over, sharpened
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import FIT_MARGIN
from slicesplat.geometry.stack import Stack
from slicesplat.motion.align import align
from slicesplat.motion.runs import runs_in_time
from slicesplat.pipeline.stages import cut
from slicesplat.prepare.intensity import scale_intensities, signal
from slicesplat.splat import CPU, Backend
from slicesplat.splat.grid import grid_affine, grid_slices

# Lattice constant, mm; slices that move as one; steps; residual beyond which a pixel loses influence, of the brightest.
_LEVELS = (
    (6.0, WHOLE_STACK, 10, 0.5),
    (4.0, 7, 8, 0.5),
    (3.0, 1, 8, 0.3),
    (1.2, 1, 6, 0.15),
)
_BRIGHTEST = 99.0  # percentile of what the volume shows
_WIDTH = 0.4  # standard deviation, in lattice constants, of the blur that keeps what a lattice cannot draw from it


@dataclass(frozen=True)
class SliceAgreement:
    """How well a slice is predicted.

    Attributes
    ----------
    stack, slice : int
        Its place in the input, both from 0.
    ncc : float
        Correlation with its prediction, inside its mask.
    """

    stack: int
    slice: int
    ncc: float


def slice_agreement(
    volume: SpatialImage, stacks: Sequence[Stack], config: Config | None = None, backend: Backend = CPU
) -> list[SliceAgreement]:
    """The correlation of every slice with what a volume predicts for it.

    Parameters
    ----------
    volume : nibabel image
        Zero outside what it shows; it lies about where the stacks lie.
    stacks : sequence of Stack
    config : Config, optional
        For the slice profile.
    backend : Backend

    Raises
    ------
    InputError
        The volume shows nothing, or the stacks hold no region.
    """
    values, affine = _positive(volume)
    scaled, _ = scale_intensities(*signal(stacks))
    slices = cut(scaled, config or Config(), FIT_MARGIN)
    weights, gain, ncc = slices.mask.astype(np.float32), np.ones(len(slices)), np.zeros(len(slices))
    for spacing, run, steps, scale in _LEVELS:
        field = field_of(values, affine, spacing, backend)
        given = (slices.pixels, weights, gain, np.full(len(slices), scale), runs_in_time(slices, run), steps)
        found = align(field, slices, *given, backend=backend)
        slices, gain, ncc = slices.moved(found.motion), found.gain, found.ncc
    places = zip(slices.stack.tolist(), slices.index.tolist(), ncc.tolist(), strict=True)
    return [SliceAgreement(*place) for place in places]


def field_of(values: NDArray[np.float32], affine: Float, spacing: float, backend: Backend = CPU) -> GaussianField:
    """A lattice of Gaussians that nearly takes the values of a volume (nx, ny, nz) where it is not zero."""
    planes = grid_slices(affine, (values.shape[0], values.shape[1], values.shape[2]))
    planes = replace(planes, mask=np.moveaxis(values > 0, 2, 0).ravel())
    lattice = lattice_over(planes, spacing, backend.device)
    shape, cells = lattice.boxed()
    there = grid_affine(lattice.means().amin(dim=0).tolist(), spacing)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    blurred = ndimage.gaussian_filter(values, _WIDTH * spacing / steps)
    way = np.linalg.inv(affine) @ there
    seen = ndimage.affine_transform(blurred, way[:3, :3], way[:3, 3], tuple(shape), np.float32, order=1)
    return lattice.field(sharpened(backend.tensor(seen))[cells.unbind(1)])


def _positive(volume: SpatialImage) -> tuple[NDArray[np.float32], Float]:
    """The values, the brightest tissue at 1, and the affine."""
    values = np.maximum(np.asarray(volume.dataobj, dtype=np.float32), 0)
    shown = values[values > 0]
    if not shown.size:
        raise InputError("the volume shows nothing: all of its values are 0 or less")
    return values / np.float32(np.percentile(shown, _BRIGHTEST)), np.asarray(volume.affine, dtype=np.float64)
