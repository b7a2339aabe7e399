"""How far estimated slice poses are from the simulated motion, up to one rigid transform of the whole.

The definition is that of the project's scoring tool, so that numbers can be compared across programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from slicesplat.geometry.rigid import Rigid
from slicesplat.records import SliceRecord
from slicesplat.validation.motion import apply_motion
from slicesplat.validation.simulate import Truth

Float = NDArray[np.float64]
SliceKey = tuple[int, int]

# A slice with fewer pixels in its mask says little about its pose.
_MIN_SLICE_PIXELS = 100
_PIXEL_STRIDE = 7
_LARGE_ERROR = 2.0
_ALIGNMENT_ROUNDS = 10


@dataclass(frozen=True, repr=False)
class PoseError:
    """Error of the estimated slice poses in mm, up to one rigid transform of the whole reconstruction."""

    slices: int
    """Slices compared: those with at least 100 pixels in their mask and an estimate."""
    used: int
    """Those of them that the reconstruction used."""
    tre_mean: float
    """Mean over slices of the root mean square distance over a slice's mask pixels, mm."""
    tre_median: float
    """Median over slices, mm."""
    tre_p95: float
    """95th percentile over slices, mm."""
    tre_mean_used: float
    """Mean over used slices, mm; NaN if none is used."""
    over_2mm_used: int
    """Used slices that are off by more than 2 mm."""
    errors: dict[SliceKey, float] = field(default_factory=dict)
    """Error in mm of each compared slice, by (stack, slice)."""

    def __repr__(self) -> str:
        return (
            f"PoseError(median {self.tre_median:.2f} mm, mean {self.tre_mean:.2f} mm of {self.slices} slices, "
            f"{self.over_2mm_used} of {self.used} used ones over 2 mm)"
        )

    def json(self) -> dict[str, Any]:
        """The figures under their names, the errors as a list with one entry for each slice."""
        errors = [{"stack": stack, "slice": index, "mm": error} for (stack, index), error in self.errors.items()]
        return {**asdict(self), "errors": errors}


def _slice_distances(estimated: Sequence[Float], actual: Sequence[Float]) -> Float:
    """(S,) mm: root mean square distance of each slice's points after the best rigid transform of all of them.

    The transform is fitted to the better half of the slices, so that lost ones do not bend it.
    """
    keep = np.ones(len(estimated), dtype=bool)
    distances = np.zeros(len(estimated))
    for _ in range(_ALIGNMENT_ROUNDS):
        kept = np.flatnonzero(keep).tolist()
        there = Rigid.kabsch(np.concatenate([estimated[s] for s in kept]), np.concatenate([actual[s] for s in kept]))
        distances = np.array(
            [np.sqrt(((there.map(e) - a) ** 2).sum(axis=1).mean()) for e, a in zip(estimated, actual, strict=True)]
        )
        keep = distances <= np.median(distances)
    return distances


def _slice_points(mask: NDArray[np.bool_], affine: Float, index: int) -> Float:
    """(n, 3) mm: nominal world positions of every seventh mask pixel of a slice; none if the slice is too small."""
    inside = np.argwhere(mask[:, :, index])
    if len(inside) < _MIN_SLICE_PIXELS:
        return np.empty((0, 3))
    voxels = np.column_stack([inside, np.full(len(inside), index)])[::_PIXEL_STRIDE]
    return np.asarray(apply_affine(affine, voxels))


def pose_error(slices: Sequence[SliceRecord], truth: Truth, masks: Sequence[SpatialImage]) -> PoseError:
    """Compare estimated slice poses with the simulated motion.

    Parameters
    ----------
    slices : sequence of SliceRecord
        As a registration or a reconstruction gives them.
    truth : Truth
        Of the simulation.
    masks : sequence of nibabel images
        One for each stack.

    Returns
    -------
    PoseError

    Raises
    ------
    ValueError
        The number of masks is not that of the stacks, or no slice can be compared.
    """
    if len(masks) != len(truth.motion):
        raise ValueError(f"{len(masks)} masks for {len(truth.motion)} stacks")
    estimates = {(record.stack, record.slice): record for record in slices}
    compared: list[SliceRecord] = []
    estimated: list[Float] = []
    actual: list[Float] = []
    for i, image in enumerate(masks):
        mask, affine = np.asarray(image.dataobj) > 0, np.asarray(image.affine, dtype=np.float64)
        for k, motion in enumerate(truth.motion[i]):
            if (i, k) not in estimates or not len(points := _slice_points(mask, affine, k)):
                continue
            compared.append(estimates[i, k])
            estimated.append(np.asarray(apply_affine(estimates[i, k].world_transform, points)))
            actual.append(apply_motion(points, truth.centre, motion))
    if not compared:
        raise ValueError(f"no slice has both an estimated pose and {_MIN_SLICE_PIXELS} pixels in its mask")
    distances = _slice_distances(estimated, actual)
    used = np.array([record.used for record in compared])
    return PoseError(
        slices=len(compared),
        used=int(used.sum()),
        tre_mean=float(distances.mean()),
        tre_median=float(np.median(distances)),
        tre_p95=float(np.percentile(distances, 95)),
        tre_mean_used=float(distances[used].mean()) if used.any() else float("nan"),
        over_2mm_used=int((distances[used] > _LARGE_ERROR).sum()),
        errors={(r.stack, r.slice): error for r, error in zip(compared, distances.tolist(), strict=True)},
    )
