"""Bias fields in the model: how a coil lights each stack, smooth, and fixed in the scanner while the region moves.

    log b_s(x) = sum_k c_sk phi_k(x)

x is where the scanner put a pixel of stack s, phi_k are products of Legendre polynomials. `likelihood.bias_step`
finds the coefficients. docs/method.md, Bias fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicesplat.config import BiasFieldSettings
from slicesplat.geometry.pixels import broadcast_to_pixels, over_pixels
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.geometry.stack import Stack

Float = NDArray[np.float64]
Values = TypeVar("Values", Float, Tensor)


@dataclass(frozen=True, eq=False)
class Basis:
    """Products of Legendre polynomials of the position, up to a total degree and without the constant.

    Attributes
    ----------
    centre : (3,) mm
    half : (3,) mm
        The box about the centre that the polynomials live in; beyond it they stay what they are at its faces.
    degree : int
    """

    centre: Float
    half: Float
    degree: int

    @classmethod
    def over(cls, points: Float, degree: int) -> Basis:
        """A basis on the box around positions (n, 3) mm."""
        low, high = points.min(axis=0), points.max(axis=0)
        return cls((low + high) / 2, np.maximum((high - low) / 2, 1.0), degree)

    @property
    def orders(self) -> list[tuple[int, ...]]:
        """K triples: the degree of each term along each axis."""
        powers = product(range(self.degree + 1), repeat=3)
        return [orders for orders in powers if 0 < sum(orders) <= self.degree]

    def terms(self, x: Values, y: Values, z: Values) -> Iterator[Values]:
        """The K terms, one after the other, at positions of any one shape, mm."""
        axes = [
            _legendre(((values - centre) / half).clip(-1.0, 1.0), self.degree)
            for values, centre, half in zip((x, y, z), self.centre.tolist(), self.half.tolist(), strict=True)
        ]
        for i, j, k in self.orders:
            yield axes[0][i] * axes[1][j] * axes[2][k]

    def at(self, points: Float) -> Float:
        """(n, K) the terms at positions (n, 3) mm."""
        return np.stack(list(self.terms(*points.T)), axis=1)


def _legendre(x: Values, degree: int) -> list[Values]:
    """Legendre polynomials of degree 0, 1, ... by their recurrence."""
    found = [x * 0 + 1, x]
    for n in range(1, degree):
        found.append(((2 * n + 1) * x * found[n] - n * found[n - 1]) / (n + 1))
    return found


def divided_by(stack: Stack, basis: Basis, coefficients: Float, level: float) -> Stack:
    """A stack divided by the field that has these coefficients (K,) of its logarithm, less `level`."""
    axes = np.ogrid[tuple(slice(size) for size in stack.data.shape)]
    x, y, z = (
        sum(step * index for step, index in zip(row[:3], axes, strict=True)) + row[3] for row in stack.affine[:3]
    )
    log = np.full(stack.data.shape, -level)
    for coefficient, term in zip(coefficients, basis.terms(x, y, z), strict=True):
        log += coefficient * term
    return replace(stack, data=(stack.data * np.exp(-log)).astype(np.float32))


def pixel_points(slices: Slices, pose: Rigid, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where every pixel is with its slice at a pose (S), mm: x, y and z, each (P,) float32."""
    each = partial(over_pixels, slices=slices, device=device)
    place = torch.arange(len(slices.pixels), device=device) - each(slices.offset[:-1])
    columns = each(slices.shape[:, 1])
    row, column = (number.float() for number in (place // columns, place % columns))
    # The first pixel of the crop, and the steps to the next row and column, in the world.
    turn, step = pose.rotation, slices.step
    corner = pose.translation + np.einsum("sij,sj->si", turn[:, :, :2], slices.origin)
    along = [turn[:, :, axis] * step[:, axis, None] for axis in (0, 1)]
    x, y, z = (
        each(corner[:, i].astype(np.float32))
        + row * each(along[0][:, i].astype(np.float32))
        + column * each(along[1][:, i].astype(np.float32))
        for i in range(3)
    )
    return x, y, z


@dataclass(frozen=True, eq=False)
class BiasField:
    """The fields of all stacks, and what finding them again takes.

    Attributes
    ----------
    basis : Basis
    coefficients : (n, K)
        Of the field's logarithm, by the number of the stack.
    level : (K,)
        The terms' means, taken off them: a field has the mean 1, about.
    pixel : (P,) float32
        The field at every pixel.
    chosen : (m,) int64
        Pixels that the fields are fitted to.
    points : (m, 3) mm
        Where the scanner put them.
    terms : (m, K)
        At them.
    """

    basis: Basis
    coefficients: Float
    level: Float
    pixel: Tensor
    chosen: NDArray[np.int64]
    points: Float
    terms: Float

    def at_chosen(self, *values: Tensor) -> list[Float]:
        """Per-pixel values (P,) at the chosen pixels."""
        at = torch.as_tensor(self.chosen, device=self.pixel.device)
        return [one[at].double().cpu().numpy() for one in values]

    def owner(self, slices: Slices) -> NDArray[np.int64]:
        """(m,) the slice of each chosen pixel."""
        return np.searchsorted(slices.offset, self.chosen, side="right") - 1

    def plus(self, slices: Slices, steps: Float) -> BiasField:
        """The same after steps (n, K) of the coefficients."""
        coefficients = self.coefficients + steps
        return replace(self, coefficients=coefficients, pixel=self._at_pixels(slices, coefficients))

    def ratios(self, slices: Slices) -> Float:
        """(n,) how many times more each stack is lit at its brightest fitted pixel than at its darkest."""
        stack = slices.stack[self.owner(slices)]
        log = np.einsum("pk,pk->p", self.terms, self.coefficients[stack])
        return np.array([
            np.exp(np.ptp(log[stack == number])) if (stack == number).any() else 1.0
            for number in range(len(self.coefficients))
        ])  # fmt: skip

    def light(self, points: Float, coefficients: Float) -> Float:
        """(n,) the field with coefficients (K,) of its logarithm at positions (n, 3) mm."""
        log = np.full(len(points), -float(np.einsum("k,k->", coefficients, self.level)))
        for coefficient, term in zip(coefficients, self.basis.terms(*points.T), strict=True):
            log += coefficient * term
        return np.exp(log)

    def divided_out(self, number: int, stack: Stack) -> Stack:
        """The stack of that number without its field."""
        owned = self.coefficients[number]
        return divided_by(stack, self.basis, owned, float(owned @ self.level))

    def factor(self, slices: Slices, pose: Rigid, coefficients: Float) -> Tensor:
        """(P,) the field with coefficients (S, K) of its logarithm for each slice, at their pixels at a pose (S)."""
        device = self.pixel.device
        log = broadcast_to_pixels(-coefficients @ self.level, slices, device)
        for k, term in enumerate(self.basis.terms(*pixel_points(slices, pose, device))):
            log += broadcast_to_pixels(coefficients[:, k], slices, device) * term
        return log.exp()

    def _at_pixels(self, slices: Slices, coefficients: Float) -> Tensor:
        return self.factor(slices, slices.frame, coefficients[slices.stack])


def even_bias_field(slices: Slices, inside: Tensor, settings: BiasFieldSettings) -> BiasField:
    """Fields of 1 everywhere, ready to be fitted.

    Parameters
    ----------
    slices : Slices
    inside : (P,) bool
        Pixels that they may be fitted to.
    settings : BiasFieldSettings
    """
    places = np.flatnonzero(inside.cpu().numpy())
    owner = slices.stack[np.searchsorted(slices.offset, places, side="right") - 1]
    by_stack = [places[owner == number] for number in np.unique(owner)]
    # So few coefficients need no more pixels than these.
    chosen = np.concatenate([own[:: max(1, len(own) // settings.most_pixels)] for own in by_stack])
    at = torch.as_tensor(chosen, device=inside.device)
    points = np.stack(
        [axis[at].double().cpu().numpy() for axis in pixel_points(slices, slices.frame, inside.device)], axis=1
    )
    basis = Basis.over(points, settings.degree)
    terms = basis.at(points)
    level = terms.mean(axis=0)
    none = np.zeros((int(slices.stack.max()) + 1, terms.shape[1]))
    even = torch.ones(len(slices.pixels), device=inside.device)
    return BiasField(basis, none, level, even, chosen, points, terms - level)
