"""What a set of stacks cannot resolve, told before the work and not found out afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slicesplat.geometry.stack import Stack

# Pixels of 1.1 mm turned by this resolve 3.2 mm along the normal of the other slices: no better than their thickness.
PARALLEL = np.deg2rad(20.0)
# Fewer slices than this outline nothing along the normal: a brain of 90 mm has 27 of them.
FEW_SLICES = 6


def unresolved(stacks: Sequence[Stack]) -> list[str]:
    """What cannot be resolved from the stacks, a sentence each; none for stacks that cross and cover the region.

    Examples
    --------
    >>> data = np.ones((9, 9, 9), np.float32)
    >>> one = Stack(data, data > 0, np.diag([1.0, 1.0, 3.0, 1.0]), 3.0, "a.nii.gz")
    >>> unresolved([one])[0].partition(";")[0]
    'a.nii.gz: is the only stack, so that its slices stay where the scanner put them and detail across them is lost'
    """
    told = []
    if len(stacks) == 1:
        told.append(
            f"{stacks[0].name}: is the only stack, so that its slices stay where the scanner put them and detail "
            "across them is lost; give stacks of other orientations too"
        )
    elif all_parallel(stacks):
        told.append(
            f"{stacks[0].name} and the other stacks: are all parallel, so that detail across the slices is lost and "
            "motion is hardly seen; give stacks of other orientations too"
        )
    for stack in stacks:
        slices = int(np.count_nonzero(stack.mask.any(axis=(0, 1))))
        if slices < FEW_SLICES:
            told.append(
                f"{stack.name}: only {slices} of its slices show the region, so that it says little about what lies "
                "between them; check its mask, or rely on the other stacks"
            )
    return told


def all_parallel(stacks: Sequence[Stack]) -> bool:
    """Whether the normals of all stacks lie within `PARALLEL` of that of the first."""
    normals = np.array([stack.axes[:, 2] for stack in stacks])
    return bool((np.abs(normals @ normals[0]) > np.cos(PARALLEL)).all())
