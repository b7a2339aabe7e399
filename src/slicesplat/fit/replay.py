"""Iterations of Adam that wait for no device: lists of pairs that hold for several, replayed as a CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from slicesplat.field import GaussianField
from slicesplat.splat import Splatter

# Steps between two looks at the lists, at most: to look more rarely gains nothing.
_LONGEST = 20
# A list that may not hold for so many steps more is made anew, if things have moved by half the margin.
_SHORTEST = 3


def adam_bound(step: int, betas: tuple[float, float]) -> float:
    """How far, in units of its learning rate, Adam moves a parameter at most in its step number `step`, from 1.

    Adam moves by m / sqrt(v), where m is the sum of (1 - b1) b1^k g_k over the gradients g_k of k steps ago, v that of
    (1 - b2) b2^k g_k^2, both divided by the sums of their weights (Kingma and Ba, ICLR 2015). By Cauchy and Schwarz,
    m^2 <= (1 - b1)^2 sum (b1^2 / b2)^k  sum b2^k g_k^2.

    Examples
    --------
    >>> adam_bound(1, (0.9, 0.99))
    1.0
    >>> round(adam_bound(1000, (0.9, 0.99)), 3)
    2.345
    """
    first, second = betas
    ratio = first**2 / second
    series = (1 - ratio**step) / (1 - ratio)
    return (1 - first) / (1 - first**step) * math.sqrt(series * (1 - second**step) / (1 - second))


class Placed(Protocol):
    """What renders a field: a splatter that keeps its list, and the poses of its slices on the device."""

    splatter: Splatter
    rotations: Tensor
    translations: Tensor


class KeptLists:
    """Lists of pairs that are looked at before they can have ceased to hold, and not in between.

    Looking waits for the device. How many iterations may lie between two looks follows from how far everything has
    moved and from how far Adam can move it at most: its learning rates times `adam_bound`. A Gaussian's ellipsoid at
    the cut-off moves with its mean, grows by the cut-off times the growth of its longest axis, and reaches elsewhere by
    no more than the cut-off times that axis times the angle by which it turns, which is twice that of its quaternion.

    Parameters
    ----------
    placed : sequence of Placed
        The splatters that render the field, and the poses of their slices.
    betas : (2,)
        Adam's.
    """

    def __init__(self, placed: Sequence[Placed], betas: tuple[float, float]) -> None:
        self.placed, self.betas = placed, betas
        self.margin = min(where.splatter.margin for where in placed)
        self.cutoff = max(where.splatter.cutoff for where in placed)
        self._left = 0

    @property
    def made(self) -> int:
        """Number of lists made so far."""
        return sum(where.splatter.lists for where in self.placed)

    def forget(self) -> None:
        """Look before the next iteration: something else than Adam has moved slices or Gaussians."""
        self._left = 0

    def hold(self, field: GaussianField, step: int, rates: Callable[[int], Mapping[str, float]]) -> None:
        """See to it that the lists hold for the field as it is now, before every step of Adam.

        Parameters
        ----------
        field : GaussianField
        step : int
            Number of Adam's next step, from 1.
        rates : callable
            Adam's learning rates by parameter, that many steps after the next one.
        """
        if self._left == 0:
            self._place(field, None)
            sizes = (field.log_scales.detach().max(), field.rotations.detach().norm(dim=1).min())
            found = torch.stack([x.double() for x in (*sizes, *(where.splatter.moved() for where in self.placed))])
            log_scale, quaternion, *moved = found.tolist()
            room = self.margin - max(moved)
            lasting = self._lasting(room, math.exp(log_scale), quaternion, step, rates)
            if lasting < _SHORTEST and room < self.margin / 2:
                self._place(field, True)
                lasting = self._lasting(self.margin, math.exp(log_scale), quaternion, step, rates)
            self._left = 1 + lasting
        self._left -= 1

    def _place(self, field: GaussianField, rebuild: bool | None) -> None:
        means, log_scales, rotations = (x.detach() for x in (field.means, field.log_scales, field.rotations))
        for where in self.placed:
            pose = (where.rotations, where.translations)
            where.splatter.place(means, log_scales, rotations, *pose, rebuild=rebuild)

    def _lasting(
        self, room: float, axis: float, quaternion: float, step: int, rates: Callable[[int], Mapping[str, float]]
    ) -> int:
        """Steps of Adam that move nothing by more than `room`, mm.

        Given the longest axis of any Gaussian, mm, and the least length of any quaternion.
        """
        for ahead in range(_LONGEST):
            bound = adam_bound(step + ahead, self.betas)
            rate = {name: bound * value for name, value in rates(ahead).items()}
            # A mean has three components, a quaternion four.
            turn = 2 * math.asin(min(1.0, 2 * rate["rotations"] / max(quaternion, 1e-12)))
            longer = axis * math.exp(rate["log_scales"])
            room -= math.sqrt(3) * rate["means"] + self.cutoff * (longer - axis + longer * turn)
            if room < 0:
                return ahead
            axis, quaternion = longer, quaternion - 2 * rate["rotations"]
        return _LONGEST


class Replay:
    """A function without arguments and result, run on a CUDA device as a graph: one launch for all its kernels.

    The first call runs it as it is, on a stream of its own, which compiles and allocates what comes into being at first
    use; the second one captures it, and every one from then on replays what was captured. All that the function reads
    and changes has to stay where it was: a new list of pairs or a new number of Gaussians needs a new `Replay`.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._warm = False
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Run the function once."""
        if not self._warm:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._function()
            torch.cuda.current_stream().wait_stream(side)
            self._warm = True
            return
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._function()
            self._graph = graph
        self._graph.replay()
