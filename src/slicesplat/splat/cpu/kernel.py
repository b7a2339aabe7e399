"""What every kernel of the CPU starts from: how it is compiled, and its share of the work."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from slicesplat.jit import jit

F32 = np.float32

JIT = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc"},
    "no_cfunc_wrapper": True,
}
# A call would pass vectors through memory and count references to arrays.
INLINE = {**JIT, "forceinline": True, "no_cpython_wrapper": True}


@jit(**INLINE)
def share(n, part, parts):
    """First and last + 1 of the things that belong to a part: neighbours, which find each other's data in the cache."""
    return n * part // parts, n * (part + 1) // parts
