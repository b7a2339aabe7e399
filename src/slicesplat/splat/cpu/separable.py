"""Pairs of round Gaussians that reach at most eight rows and columns: one Gaussian of the row times one of the column.

A round Gaussian has no mixed term in any slice: exp(a y^2 + b x^2) = exp(a y^2) exp(b x^2), two vectors of exponentials
a pair for all its pixels. Those of eight pairs are found together. Lattices are round, and their Gaussians little wider
than a pixel.

All pairs of a view go over as many rows, and over eight columns. What lies beyond a pair's cut-off is zero, and what
lies beyond the image is room beside it. How many rows a pair has by itself the processor would guess, often wrongly,
which costs more than the rows.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slicesplat.jit import jit
from slicesplat.splat.cpu.exponential import exp_of_sixteen_times
from slicesplat.splat.cpu.kernel import F32, INLINE, JIT, share
from slicesplat.splat.cpu.project import (
    ACROSS,
    BOTTOM,
    COLUMN_COLUMN,
    CUT,
    DOWN,
    LEFT,
    PAIR_FIELDS,
    PEAK,
    RIGHT,
    ROW_ROW,
    TOP,
    project_eight,
)
from slicesplat.splat.cpu.simd import LANES, at_most, item, keep_from, lane_numbers, load8, single, store8

# What is kept of a pair: what comes first in `project` too, and where on the canvas its window begins.
SEPARABLE_FIELDS = 7
CORNER = CUT + LANES
# Eight pairs' tables: by row and pair the Gaussian and what is left of the exponent's cut-off, by pair and column the
# Gaussian and its exponent.
TABLES = 4 * LANES * LANES
ROWS, LEFT_OF_CUT, COLUMNS, EXPONENTS = range(0, TABLES, LANES * LANES)

_EXACT = 1 << 24  # whole numbers up to here are float32s
_PLANES = 8  # that a canvas has at most
_ROUNDING = 1e-3  # pixels


def rows_of_windows(
    variance: NDArray[np.float64],
    blur: NDArray[np.float64],
    step: NDArray[np.float64],
    shape: NDArray[np.int64],
    cutoff: float,
) -> NDArray[np.int64] | None:
    """How many rows (V,) the pairs of each view go over; None where some reach further than a window.

    Parameters
    ----------
    variance : (N, 3) mm^2
        Of round Gaussians.
    blur : (V, 3) mm^2
    step : (V, 2) mm
    shape : (V, 2)
    cutoff : float
    """
    reach = cutoff * np.sqrt(variance.max(initial=0.0) + blur[:, :2]) / step
    size = np.floor(2 * reach + _ROUNDING).astype(np.int64) + 1
    room = (_PLANES * (shape + LANES).prod(axis=1) < _EXACT).all()
    return size[:, 0].copy() if room and size.max(initial=0) <= LANES else None


@jit(**INLINE)
def separate(pairs, stride, out, place):
    """The fields of eight pairs that `project_eight` left at the beginning of `pairs`, into `out`.

    `stride` is how far the canvas's rows lie apart. Pairs that touch no pixel have no peak, and begin anywhere.
    """
    touches = at_most(load8(pairs, BOTTOM) - load8(pairs, TOP), load8(pairs, RIGHT) - load8(pairs, LEFT))
    store8(out, place + PEAK, keep_from(load8(pairs, PEAK), touches, 1.0))
    store8(out, place + DOWN, load8(pairs, DOWN))
    store8(out, place + ACROSS, load8(pairs, ACROSS))
    store8(out, place + ROW_ROW, load8(pairs, ROW_ROW))
    store8(out, place + COLUMN_COLUMN, load8(pairs, COLUMN_COLUMN))
    store8(out, place + CUT, load8(pairs, CUT))
    store8(out, place + CORNER, keep_from(load8(pairs, TOP) * stride + load8(pairs, LEFT), touches, 1.0))


@jit(**JIT)
def project_separable(
    table, rotation, shift, weight, blur, origin, step, shape, start, gaussian, cutoff, flat, part, parts
):
    """Every pair as a product of a row's and a column's Gaussian: eight pairs' fields together, (Q / 8, 7, 8) float32.

    PEAK, DOWN, ACROSS, ROW_ROW, COLUMN_COLUMN and CUT as in `project`; the CORNER where the pair's window begins.
    """
    pairs = np.empty((PAIR_FIELDS, LANES), np.float32)
    begin, end = share(len(blur), part, parts)
    for v in range(begin, end):
        frame = (rotation[v], shift[v], weight[v], blur[v], origin[v], step[v, 0], step[v, 1], shape[v, 0], shape[v, 1])
        stride = F32(shape[v, 1] + LANES)
        for first in range(start[v], start[v + 1], LANES):
            project_eight(table, gaussian, first, *frame, cutoff, pairs, 0)
            separate(pairs, stride, flat, first * SEPARABLE_FIELDS)


@jit(**INLINE)
def tabulate_windows(flat, place, scale, rows, out):
    """The tables of eight pairs, the rows' Gaussians times `scale`, into `out`."""
    cut, curvature = load8(flat, place + CUT), load8(flat, place + ROW_ROW)
    y = load8(flat, place + DOWN)
    for i in range(rows):
        x = y * y * curvature
        store8(out, ROWS + i * LANES, _within(x, cut) * scale)
        store8(out, LEFT_OF_CUT + i * LANES, cut - x)
        y = y + F32(1)
    for lane in range(LANES):
        y = lane_numbers() + item(flat, place + ACROSS + lane)
        x = y * y * item(flat, place + COLUMN_COLUMN + lane)
        store8(out, COLUMNS + lane * LANES, _within(x, item(flat, place + CUT + lane)))
        store8(out, EXPONENTS + lane * LANES, x)


@jit(**INLINE)
def _within(x, cut):
    """Exp, zero beyond the cut-off, where the polynomial may be anything."""
    return keep_from(exp_of_sixteen_times(x), x - cut, 0.0)


@jit(**INLINE)
def row_of_window(tables, i, lane, exponents):
    """The Gaussian of row i of a pair's window in every column that it reaches, without that of the columns."""
    return keep_from(
        single(item(tables, ROWS + i * LANES + lane)), exponents, item(tables, LEFT_OF_CUT + i * LANES + lane)
    )
