"""When the slices of a stack were acquired, as the JSON file beside it says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slicesplat.geometry.acquisition import packages
from slicesplat.geometry.stack import Stack
from slicesplat.io.nifti import Image
from slicesplat.io.sidecar import sidecar_of, stated_times


def slice_times(image: Image) -> NDArray[np.float64] | None:
    """(nz,) s since the first slice was acquired, NaN for one that is missing; None where nothing tells."""
    if image.path is None:
        return None
    stated = stated_times(sidecar_of(image.path), image.data.shape[2])
    return None if stated is None else np.array(stated) - np.nanmin(stated)


def told_order(stack: Stack) -> str:
    """In how many passes a stack of known times was acquired, in words."""
    assert stack.times is not None
    count = int(packages(stack.times).max()) + 1
    return f"{count} packages, as its slices' times say" if count > 1 else "one package, as its slices' times say"
