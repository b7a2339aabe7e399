"""Slices: every slice of every stack, cropped to its mask and laid out flat for the kernels.

Slice frame: x along the image's first axis, y along its second, z through-plane, origin at the slice's centre; a pose
takes slice frame to world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicesplat.geometry.psf import SliceProfile, slice_psf
from slicesplat.geometry.stack import Stack

Float = NDArray[np.float64]


@dataclass(eq=False, repr=False)
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
    nominal, pose : (S, 4, 4) float64
        Slice frame to world as scanned, and as estimated.
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
    nominal: Float
    pose: Float = field(default_factory=lambda: np.empty((0, 4, 4)))

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

    def world_transforms(self) -> Float:
        """(S, 4, 4): nominal world position of a slice's pixel to its motion-corrected position."""
        return self.pose @ np.linalg.inv(self.nominal)

    def plane_points(self, s: int, inside: bool = True) -> Float:
        """(n, 3) mm: slice-frame positions of slice s's pixels, those inside the mask only unless told otherwise."""
        i, j = np.indices(self.shape[s])
        keep = self.image(self.mask, s).astype(bool) if inside else np.ones(self.shape[s], bool)
        plane = self.origin[s] + np.stack([i[keep], j[keep]], axis=-1) * self.step[s]
        return np.concatenate([plane, np.zeros((len(plane), 1))], axis=1)

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
            nominal=self.nominal[which],
            pose=self.pose[which],
        )

    def binned(self, factor: int) -> Slices:
        """The same slices with `factor` x `factor` pixels averaged into one, outside the mask as zero.

        The PSF grows by the variance of the averaging window. Blocks of which less than half lies inside the mask are
        outside it. Rows and columns that fill no block are dropped at the far end.
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
            inside.append(mask.reshape(blocks).mean(axis=(1, 3)).ravel() >= 0.5)
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

    def with_poses(self, pose: Float) -> Slices:
        """The same slices elsewhere."""
        return replace(self, pose=np.array(pose, dtype=np.float64))


def pixel_indices(offset: NDArray[np.int64], which: NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions, in a flat per-pixel array, of the pixels of the slices `which`, one slice after the other.

    Examples
    --------
    >>> pixel_indices(np.array([0, 2, 5]), np.array([1, 0])).tolist()
    [2, 3, 4, 0, 1]
    """
    parts = [np.arange(offset[s], offset[s + 1]) for s in which]
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)


def cut_slices(
    stacks: Sequence[Stack], profile: SliceProfile = "gaussian", margin: int = 2, min_pixels: int = 16
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

    Raises
    ------
    ValueError
        No slice has that many pixels inside its mask.
    """
    rows: list[dict[str, Any]] = []
    for number, stack in enumerate(stacks):
        weights, covariances, offsets = slice_psf(stack.spacing[:2], stack.thickness, profile)
        for k in np.flatnonzero(stack.mask.sum(axis=(0, 1)) >= min_pixels):
            mask = stack.mask[:, :, k]
            measured = np.ones_like(mask) if stack.measured is None else stack.measured[:, :, k]
            inside = np.argwhere(mask)
            low = np.maximum(inside.min(axis=0) - margin, 0)
            high = np.minimum(inside.max(axis=0) + 1 + margin, mask.shape)
            crop = (slice(low[0], high[0]), slice(low[1], high[1]))
            size = high - low
            rows.append(
                {
                    "stack": number,
                    "index": k,
                    "shape": size,
                    "corner": low,
                    "origin": -(size - 1) / 2 * stack.spacing[:2],
                    "step": stack.spacing[:2],
                    "pixels": stack.data[:, :, k][crop].ravel(),
                    "mask": mask[crop].ravel(),
                    "measured": measured[crop].ravel(),
                    "psf_weights": weights,
                    "psf_covariances": covariances,
                    "psf_offsets": offsets,
                    "nominal": stack.pose(int(k), (low + high - 1) / 2),
                }
            )
    if not rows:
        raise ValueError(f"no slice has {min_pixels} pixels inside its mask: check the masks")

    def column(name: str, dtype: type) -> NDArray:
        return np.array([row[name] for row in rows], dtype=dtype)

    pixels = np.concatenate([np.asarray(row["pixels"], np.float32) for row in rows])
    nominal = column("nominal", np.float64)
    return Slices(
        stack=column("stack", np.int32),
        index=column("index", np.int32),
        shape=column("shape", np.int32),
        corner=column("corner", np.int32),
        offset=np.concatenate([[0], np.cumsum([np.size(row["pixels"]) for row in rows])]).astype(np.int64),
        origin=column("origin", np.float64),
        step=column("step", np.float64),
        pixels=pixels,
        mask=np.concatenate([np.asarray(row["mask"], bool) for row in rows]),
        measured=np.concatenate([np.asarray(row["measured"], bool) for row in rows]),
        psf_weights=column("psf_weights", np.float64),
        psf_covariances=column("psf_covariances", np.float64),
        psf_offsets=column("psf_offsets", np.float64),
        nominal=nominal,
        pose=nominal.copy(),
    )
