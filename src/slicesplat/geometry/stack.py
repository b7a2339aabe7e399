"""Stacks: images, masks, spacing and thickness as the scanner stored them.

World frame: RAS+ millimetres, as nibabel affines give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
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
    """

    data: NDArray[np.float32]
    mask: NDArray[np.bool_]
    affine: Float
    thickness: float
    name: str = "stack"
    carried: bool = False
    slice_axis: int = 2
    measured: NDArray[np.bool_] | None = None

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

    def pose(self, index: int, centre: Sequence[float] | None = None) -> Float:
        """Nominal pose (4, 4) of slice `index`: slice frame to world.

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
        return pose

    def masked_points(self) -> Float:
        """(n, 3) mm: world positions of the pixels inside the mask."""
        return np.argwhere(self.mask) @ self.affine[:3, :3].T + self.affine[:3, 3]
