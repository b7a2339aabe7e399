"""How far every slice is from its prediction, without derivatives."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from slicesplat.jit import jit
from slicesplat.splat.cpu.kernel import JIT, share


@jit(**JIT)
def slice_misfits(image, offset, gain, pixels, weights, scale, cost, sums, part, parts):
    """Cost (S,) and sums (S, 6) of `slicesplat.splat.cpu.pose.pose_systems` from the image (P,) for gain 1."""
    begin, end = share(len(gain), part, parts)
    for s in range(begin, end):
        misfit = sw = swy = swp = swyy = swpp = swyp = 0.0
        g, per_scale = gain[s], 1.0 / scale[s]
        for i in range(offset[s], offset[s + 1]):
            w, y, p = float(weights[i]), float(image[i]), float(pixels[i])
            r = y * g - p
            robust = r * per_scale
            misfit += w * r * r / (robust * robust + 1.0)
            wy, wp = w * y, w * p
            sw += w
            swy += wy
            swp += wp
            swyy += wy * y
            swpp += wp * p
            swyp += wy * p
        cost[s] = misfit
        sums[s, 0], sums[s, 1], sums[s, 2] = sw, swy, swp
        sums[s, 3], sums[s, 4], sums[s, 5] = swyy, swpp, swyp
