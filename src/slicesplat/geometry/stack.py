"""Stacks: images, masks, spacing and thickness as the scanner stored them.

World frame: RAS+ millimetres, as nibabel affines give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicesplat.geometry.rigid import Rigid

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

Float = NDArray[np.float64]
Value = TypeVar("Value", bound=np.generic)


def values_where(values: NDArray[Value], where: NDArray[np.bool_]) -> NDArray[Value]:
    """The values of an array where a mask of its shape is set: (n,), in the order in which they lie in memory.

    Files have their first axis running fastest, and so do the arrays of them. numpy picks in the order of the last
    axis, which takes ten times as long on these.

    Examples
    --------
    >>> values_where(np.asfortranarray([[1, 2], [3, 4]]), np.asfortranarray([[True, True], [True, False]])).tolist()
    [1, 3, 2]
    """
    return values.T[where.T] if values.flags.f_contiguous and where.flags.f_contiguous else values[where]


def evenly_chosen(mask: NDArray[np.bool_], most: int) -> tuple[NDArray[np.intp], ...]:
    """Voxels where a mask is set, every n-th of them, less than twice so many: their indices along each axis."""
    inside = np.flatnonzero(mask)
    return np.unravel_index(inside[:: max(1, len(inside) // most)], mask.shape)


@dataclass(frozen=True, eq=False, repr=False)
class Stack:
    """One stack of parallel 2-D slices as the scanner stored it.

    Attributes
    ----------
    data : (nx, ny, nz) float32
        Intensities; slices lie along the third axis.
    mask : (nx, ny, nz) bool
        The region to reconstruct.
    affine : (4, 4) float64
        Voxel index to world, mm RAS+.
    thickness : float
        Slice thickness in mm (not the spacing between slice centres).
    name : str
        What to call the stack in messages: its file name.
    carried : bool
        The mask was drawn on another stack and carried over, wider: it holds surroundings of the region.
    slice_axis : int
        The axis of the file that the slices lie along.
    measured : (nx, ny, nz) bool, optional
        Where the scanner measured something; everywhere when not given. A stack that was cut out has one value where
        it was not.
    poses : Rigid (nz), optional
        Where each slice is known to be, from where the affine puts it; nowhere else when not given.
    times : (nz) float64, optional
        When each slice was acquired, s since the first one, NaN for one that was not; where it is not given, the order
        is found from the images.
    found : (nz,), optional
        Of a mask that a network found, how sure it is in each slice, 0 to 1; NaN where there is no mask. Not given:
        nobody looked, or the mask was drawn.

    Raises
    ------
    ValueError
        Data are no floating-point numbers in three dimensions, masks not of their shape or not boolean, the affine is
        not finite or singular, the thickness is not positive, or times are not one finite number for each slice.
    """

    data: NDArray[np.float32]
    mask: NDArray[np.bool_]
    affine: Float
    thickness: float
    name: str = "stack"
    carried: bool = False
    slice_axis: int = 2
    measured: NDArray[np.bool_] | None = None
    poses: Rigid | None = None
    times: Float | None = None
    found: Float | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.dtype.kind != "f":
            raise ValueError(
                f"data of {self.data.dtype} and shape {self.data.shape}: give floating-point numbers (nx, ny, nz)"
            )
        for name in ("mask", "measured"):
            values = getattr(self, name)
            if values is not None and (values.dtype != bool or values.shape != self.data.shape):
                raise ValueError(
                    f"{name} of {values.dtype} and shape {values.shape}: give booleans of the data's, {self.data.shape}"
                )
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all() or not np.linalg.det(self.affine):
            raise ValueError(f"affine {self.affine.tolist()}: give a finite, invertible matrix (4, 4)")
        if not (np.isfinite(self.thickness) and self.thickness > 0):
            raise ValueError(f"thickness {self.thickness} mm: give a positive number")
        if self.poses is not None and self.poses.matrix.shape != (self.n_slices, 4, 4):
            raise ValueError(f"poses of shape {self.poses.matrix.shape}: give one for each of {self.n_slices} slices")
        if self.times is not None and not (self.times.shape == (self.n_slices,) and not np.isinf(self.times).any()):
            raise ValueError(f"times of shape {self.times.shape}: give finite numbers, or NaN, one for each slice")
        if self.slice_axis not in (0, 1, 2):
            raise ValueError(f"slice axis {self.slice_axis}: give 0, 1 or 2")

    def __repr__(self) -> str:
        # No name: that of a file may be a patient's.
        size, spacing = " x ".join(map(str, self.data.shape)), " x ".join(f"{step:.3g}" for step in self.spacing)
        share = self.mask.mean() if self.mask.size else 0.0
        return f"Stack({size} voxels of {spacing} mm, slices {self.thickness:.3g} mm thick, {share:.0%} in the mask)"

    @classmethod
    def from_image(
        cls,
        image: SpatialImage | ArrayLike,
        mask: SpatialImage | ArrayLike | None = None,
        thickness: float | None = None,
        name: str = "stack",
        slice_axis: int | str | None = None,
        affine: ArrayLike | None = None,
    ) -> Stack:
        """A stack of what is in memory, checked and completed as `load_stacks` does with files.

        Parameters
        ----------
        image : nibabel image or array (nx, ny, nz)
            Intensities; nothing of it is changed. The axis that slices lie along is moved to third.
        mask : nibabel image or array, optional
            The region to reconstruct, on the image's grid: as in a file, labels and soft masks too. Not given: where
            the image is not zero.
        thickness : float, optional
            Slice thickness in mm. Not given: the distance between slices.
        name : str
            What to call the stack in messages.
        slice_axis : int or str, optional
            The axis that slices lie along, 1 to 3 or i, j, k. Not given: as the header says, or the spacing or the
            image shows.
        affine : (4, 4), optional
            Of an array: voxel index to world, mm RAS+. An image has its own.

        Raises
        ------
        InputError
            As `load_stacks`: values, shape, geometry, mask or thickness are none of a stack of slices.

        Examples
        --------
        >>> values = np.pad(np.random.default_rng(0).uniform(1, 2, (20, 24, 8)), 4)
        >>> Stack.from_image(values, affine=np.diag([1.0, 1.0, 3.0, 1.0]))
        Stack(28 x 32 x 16 voxels of 1 x 1 x 3 mm, slices 3 mm thick, 27% in the mask)
        """
        # The checks are those of files, above this floor; only this entrance is here, where its users look for it.
        from slicesplat.prepare.load import stack_from_image

        return stack_from_image(image, mask, thickness, name, slice_axis, affine)

    @property
    def shows_nothing(self) -> bool:
        """Whether a brain was looked for in the stack and not found."""
        return self.found is not None and not self.mask.any()

    @property
    def n_slices(self) -> int:
        """Number of slices along the third axis."""
        return int(self.data.shape[2])

    @property
    def spacing(self) -> Float:
        """(3,) mm: pixel spacing along both image axes and between slice centres."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def axes(self) -> Float:
        """(3, 3) right-handed rotation whose columns are the slice frame's x, y and z in world."""
        x, y = (self.affine[:3, :3] / self.spacing)[:, :2].T
        return np.stack([x, y, np.cross(x, y)], axis=1)

    def posed(self, poses: Rigid) -> Stack:
        """The same stack with its slices (nz) known to be elsewhere."""
        return replace(self, poses=poses)

    def slice_affine(self, index: int) -> Float:
        """Affine (4, 4) of slice `index` as an image of its own, its third voxel size the slice thickness."""
        affine = self.affine.copy()
        affine[:3, 3] += self.affine[:3, 2] * index
        affine[:3, 2] *= self.thickness / self.spacing[2]
        return affine if self.poses is None else np.asarray(self.poses.matrix[index] @ affine)

    def pose(self, index: int, centre: Sequence[float] | None = None) -> Float:
        """Pose (4, 4) of slice `index` before any motion is estimated: slice frame to world.

        Parameters
        ----------
        index : int
            Position along the third axis.
        centre : (2,) pixel indices, optional
            The slice frame's origin; the middle of the image when not given.
        """
        if centre is None:
            centre = ((self.data.shape[0] - 1) / 2, (self.data.shape[1] - 1) / 2)
        pose = np.eye(4)
        pose[:3, :3] = self.axes
        pose[:3, 3] = self.affine[:3, :3] @ [centre[0], centre[1], index] + self.affine[:3, 3]
        return pose if self.poses is None else np.asarray(self.poses.matrix[index] @ pose)

    def masked_points(self) -> Float:
        """(n, 3) mm: world positions of the pixels inside the mask."""
        return np.argwhere(self.mask) @ self.affine[:3, :3].T + self.affine[:3, 3]
