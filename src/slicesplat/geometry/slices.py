"""Slices: every slice of every stack, cropped to its mask and laid out flat for the kernels.

Slice frame: x along the image's first axis, y along its second, z through-plane, origin at the crop's centre. `frame`
takes it to where the scanner put the slice in the world, `motion` takes the world from there to where the slice is; the
crop is a pivot, and no motion depends on it. docs/method.md, Frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicesplat.geometry import acquisition
from slicesplat.geometry.psf import SliceProfile, slice_psf
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.stack import Stack

Float = NDArray[np.float64]

FIT_MARGIN = 2
"""Pixels around the mask: the fit sees its rim, and nothing beyond."""


@dataclass(frozen=True, eq=False, repr=False)
class Slices:
    """Every slice that shows something of the region, cropped to its mask and laid out flat for the kernels.

    Slice s owns the pixels ``offset[s]:offset[s + 1]``, row by row: pixel (i, j) of its (rows, columns) crop lies at
    ``origin[s] + (i, j) * step[s]`` mm in the slice frame, whose origin is the centre of the crop.

    Attributes
    ----------
    stack, index : (S,) int32
        Where slice s comes from: input stack, position along its third axis.
    shape : (S, 2) int32
        Rows and columns of the crop.
    corner : (S, 2) int32
        Pixel index of the crop's first pixel in the stack's image.
    offset : (S + 1,) int64
    origin, step : (S, 2) float64, mm
    pixels : (P,) float32
    mask : (P,) bool
        Pixels that belong to the region and take part in the fit.
    measured : (P,) bool
        Pixels that hold a measurement: all but those that were cut away before.
    psf_weights : (S, K) float64
    psf_covariances : (S, K, 3) float64, mm^2
        Diagonals in the slice frame.
    psf_offsets : (S, K) float64, mm
        Where a Gaussian of the PSF has its centre along the slice frame's z.
    time : (S,) float64
        When a slice was acquired, in slices since its stack was begun.
    package : (S,) int32
        Which of the interleaved packages of its stack it was acquired in.
    frame : Rigid (S)
        Slice frame to world as scanned.
    motion : Rigid (S)
        World to world: from where the scanner put a slice to where it is.
    """

    stack: NDArray[np.int32]
    index: NDArray[np.int32]
    shape: NDArray[np.int32]
    corner: NDArray[np.int32]
    offset: NDArray[np.int64]
    origin: Float
    step: Float
    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    psf_weights: Float
    psf_covariances: Float
    psf_offsets: Float
    time: Float
    package: NDArray[np.int32]
    frame: Rigid
    motion: Rigid

    @cached_property
    def pose(self) -> Rigid:
        """Slice frame to world, as estimated (S)."""
        return self.motion @ self.frame

    def __len__(self) -> int:
        return len(self.stack)

    def __repr__(self) -> str:
        stacks, pixels = len(np.unique(self.stack)), len(self.pixels)
        return f"Slices({len(self)} slices of {stacks} stacks, {pixels} pixels, {self.mask.mean():.0%} in the mask)"

    def image(self, values: NDArray[Any], s: int) -> NDArray[Any]:
        """Slice s of a flat per-pixel array, as a (rows, columns) view."""
        return values[self.offset[s] : self.offset[s + 1]].reshape(self.shape[s])

    def slice_of_pixel(self) -> NDArray[np.int64]:
        """(P,) the slice that each pixel belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset))

    def in_time(self, stack: int) -> NDArray[np.int64]:
        """The slices of a stack in the order in which they were acquired."""
        own = np.flatnonzero(self.stack == stack)
        return own[np.argsort(self.time[own], kind="stable")]

    def plane_points(self, s: int, inside: bool = True) -> Float:
        """(n, 3) mm: slice-frame positions of slice s's pixels, those inside the mask only unless told otherwise."""
        i, j = np.indices(self.shape[s])
        keep = self.image(self.mask, s).astype(bool) if inside else np.ones(self.shape[s], bool)
        plane = self.origin[s] + np.stack([i[keep], j[keep]], axis=-1) * self.step[s]
        return np.concatenate([plane, np.zeros((len(plane), 1))], axis=1)

    def world_points(self, s: int) -> Float:
        """(n, 3) mm: where the pixels of slice s that are inside the mask are in the world."""
        return self.pose[s].map(self.plane_points(s))

    def put(self, s: int, crop: NDArray[Any], volumes: Sequence[NDArray[Any]]) -> None:
        """Write slice s's (rows, columns) crop where it comes from, into the array of its stack among `volumes`."""
        row, column = self.corner[s]
        plane = volumes[self.stack[s]][:, :, self.index[s]]
        plane[row : row + crop.shape[0], column : column + crop.shape[1]] = crop

    def take(self, which: NDArray[np.integer]) -> Slices:
        """Some of the slices, in the order given; one may come several times, to stand at several poses."""
        which = np.asarray(which, dtype=np.int64)
        chosen = pixel_indices(self.offset, which)
        return Slices(
            stack=self.stack[which],
            index=self.index[which],
            shape=self.shape[which],
            corner=self.corner[which],
            offset=np.concatenate([[0], np.cumsum(np.diff(self.offset)[which])]).astype(np.int64),
            origin=self.origin[which],
            step=self.step[which],
            pixels=self.pixels[chosen],
            mask=self.mask[chosen],
            measured=self.measured[chosen],
            psf_weights=self.psf_weights[which],
            psf_covariances=self.psf_covariances[which],
            psf_offsets=self.psf_offsets[which],
            time=self.time[which],
            package=self.package[which],
            frame=self.frame[which],
            motion=self.motion[which],
        )

    def binned(self, factor: int, least: float = 0.5) -> Slices:
        """The same slices with `factor` x `factor` pixels averaged into one, outside the mask as zero.

        The PSF grows by the variance of the averaging window. Blocks of which less than a share of `least` lies inside
        the mask are outside it. Rows and columns that fill no block are dropped at the far end.
        """
        if factor == 1:
            return self
        shape = self.shape // factor
        if (shape < 1).any():
            raise ValueError(f"a slice of {self.shape.min()} pixels cannot be averaged over {factor}")
        pixels, inside, measured = [], [], []
        for s in range(len(self)):
            rows, columns = shape[s]
            blocks = (rows, factor, columns, factor)
            window = (slice(rows * factor), slice(columns * factor))
            mask = self.image(self.mask, s)[window].astype(np.float32)
            pixels.append((self.image(self.pixels, s)[window] * mask).reshape(blocks).mean(axis=(1, 3)).ravel())
            inside.append(mask.reshape(blocks).mean(axis=(1, 3)).ravel() >= least)
            measured.append(self.image(self.measured, s)[window].reshape(blocks).all(axis=(1, 3)).ravel())
        covariances = self.psf_covariances.copy()
        covariances[:, :, :2] += (self.step[:, None, :] ** 2) * (factor**2 - 1) / 12
        return replace(
            self,
            shape=shape,
            offset=np.concatenate([[0], np.cumsum(shape.prod(axis=1))]).astype(np.int64),
            origin=self.origin + self.step * (factor - 1) / 2,
            step=self.step * factor,
            pixels=np.concatenate(pixels).astype(np.float32),
            mask=np.concatenate(inside),
            measured=np.concatenate(measured),
            psf_covariances=covariances,
        )

    def interpolated(self, between: int) -> Slices:
        """The same slices, their pixels interpolated between others that stand so many times as far apart.

        The PSF in plane is that of the pixels that were measured.
        """
        if between == 1:
            return self
        covariances = self.psf_covariances.copy()
        covariances[:, :, :2] *= between**2
        return replace(self, psf_covariances=covariances)

    def moved(self, motion: Rigid) -> Slices:
        """The same slices elsewhere."""
        return replace(self, motion=motion)


def pixel_indices(offset: NDArray[np.int64], which: NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions, in a flat per-pixel array, of the pixels of the slices `which`, one slice after the other.

    Examples
    --------
    >>> pixel_indices(np.array([0, 2, 5]), np.array([1, 0])).tolist()
    [2, 3, 4, 0, 1]
    """
    counts = offset[which + 1] - offset[which]
    ends = np.cumsum(counts)
    # Each part goes on by one from where its slice begins.
    return np.arange(int(counts.sum())) + np.repeat(offset[which] - (ends - counts), counts)


def cut_slices(
    stacks: Sequence[Stack],
    profile: SliceProfile = "gaussian",
    margin: int = FIT_MARGIN,
    min_pixels: int = 16,
    interleave: Sequence[int] | None = None,
) -> Slices:
    """Crop every slice of every stack to its mask and lay them out flat.

    Parameters
    ----------
    stacks : sequence of Stack
    profile : {"gaussian", "box", "sinc"}
        Slice profile of the acquisition.
    margin : int
        Pixels kept around the mask's bounding box; they carry no weight in the fit.
    min_pixels : int
        A slice with fewer pixels inside its mask is left out: it cannot be aligned.
    interleave : sequence of int, optional
        Packages that each stack was acquired in; one when not given. Times that a stack has are believed in its place.

    Raises
    ------
    ValueError
        No slice has that many pixels inside its mask.
    """
    crops = [
        _crop(stack, number, int(k), margin)
        for number, stack in enumerate(stacks)
        for k in np.flatnonzero(stack.mask.sum(axis=(0, 1)) >= min_pixels)
    ]
    if not crops:
        raise ValueError(f"no slice has {min_pixels} pixels inside its mask: check the masks")
    number = np.array([crop.stack for crop in crops], np.int32)
    index = np.array([crop.index for crop in crops], np.int32)
    psfs = [slice_psf(stack.spacing[:2], stack.thickness, profile) for stack in stacks]
    weights, covariances, offsets = (np.array(part)[number] for part in zip(*psfs, strict=True))
    counts = [1] * len(stacks) if interleave is None else interleave
    times, packages = zip(*(_in_time(stack, n) for stack, n in zip(stacks, counts, strict=True)), strict=True)
    spacing = np.array([stack.spacing[:2] for stack in stacks])[number]
    shape = np.array([crop.mask.shape for crop in crops], np.int32)
    return Slices(
        stack=number,
        index=index,
        shape=shape,
        corner=np.array([crop.corner for crop in crops], np.int32),
        offset=np.concatenate([[0], np.cumsum(shape.prod(axis=1))]).astype(np.int64),
        origin=-(shape - 1) / 2 * spacing,
        step=spacing,
        pixels=np.concatenate([crop.pixels.ravel() for crop in crops]).astype(np.float32),
        mask=np.concatenate([crop.mask.ravel() for crop in crops]),
        measured=np.concatenate([crop.measured.ravel() for crop in crops]),
        psf_weights=weights,
        psf_covariances=covariances,
        psf_offsets=offsets,
        time=np.array([times[stack][k] for stack, k in zip(number, index, strict=True)]),
        package=np.array([packages[stack][k] for stack, k in zip(number, index, strict=True)], np.int32),
        frame=Rigid(np.array([crop.frame for crop in crops])),
        motion=Rigid.identity(len(crops)),
    )


def _in_time(stack: Stack, interleave: int) -> tuple[Float, NDArray[np.integer]]:
    """(nz,) when the slices of a stack were acquired, in slices since it was begun, and their packages."""
    if stack.times is not None:
        return acquisition.ranks(stack.times), acquisition.packages(stack.times)
    return acquisition.acquisition_times(stack.n_slices, interleave), np.arange(stack.n_slices) % interleave


@dataclass(frozen=True, eq=False)
class _Crop:
    """A slice cropped to its mask."""

    stack: int
    index: int
    corner: NDArray[np.int64]
    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    frame: Float


def _crop(stack: Stack, number: int, k: int, margin: int) -> _Crop:
    """Slice `k` of a stack, with so many pixels around its mask."""
    mask = stack.mask[:, :, k]
    measured = np.ones_like(mask) if stack.measured is None else stack.measured[:, :, k]
    inside = np.argwhere(mask)
    low = np.maximum(inside.min(axis=0) - margin, 0)
    high = np.minimum(inside.max(axis=0) + 1 + margin, mask.shape)
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    frame = stack.pose(k, (low + high - 1) / 2)
    return _Crop(number, k, low, stack.data[:, :, k][box], mask[box], measured[box], frame)
