"""The exponential that every pixel needs: a polynomial, without a branch or a call."""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numpy.polynomial import Chebyshev

from slicesplat.jit import jit
from slicesplat.splat.cpu.kernel import F32, INLINE
from slicesplat.splat.model import MAX_CUTOFF

# exp(x) for -MAX_CUTOFF^2 / 2 <= x <= 0 as p(x / 16)^16, p of degree 5: within 3e-6 of the largest value, no branch.
EXP_POWER = 16
_P = Chebyshev.interpolate(np.exp, 5, domain=[-(MAX_CUTOFF**2) / 2 / EXP_POWER, 0.0])
_P0, _P1, _P2, _P3, _P4, _P5 = (F32(c) for c in _P.convert(kind=np.polynomial.Polynomial).coef)


@jit(**INLINE)
def exp_of_sixteen_times(x):
    """exp(16 x): the polynomial, raised to the 16th power by squaring."""
    p = x * _P5 + _P4
    p = p * x + _P3
    p = p * x + _P2
    p = p * x + _P1
    p = p * x + _P0
    p = p * p
    p = p * p
    p = p * p
    return p * p
