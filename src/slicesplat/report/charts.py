"""Charts of a page: where lines, ticks and labels are; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

# Okabe and Ito, Color Universal Design, 2008, those that stand out on white and on black alike.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("", "6 3", "2 2", "8 3 2 3")
"""One for each turn through the colours, so that lines of one colour differ."""
# van der Walt and Smith, viridis, at nine equal steps.
_VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
    (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip
WIDTH, HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 12, 40
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes
    ----------
    label : str
    points : sequence of (x, y)
        Those whose y is not finite are gaps.
    number : int
        What its colour and dashes are chosen by.
    hollow : set of int
        Places of points that are drawn hollow.
    """

    label: str
    points: Sequence[tuple[float, float]]
    number: int = 0
    hollow: frozenset[int] = field(default_factory=frozenset)

    @property
    def colour(self) -> str:
        """Of the line and its points."""
        return COLOURS[self.number % len(COLOURS)]

    @property
    def dash(self) -> str:
        """SVG's stroke-dasharray."""
        return DASHES[self.number // len(COLOURS) % len(DASHES)]


@dataclass(frozen=True)
class Chart:
    """Lines over common axes.

    Attributes
    ----------
    title, x_label, y_label : str
    lines : sequence of Line
    level : (str, float) or None
        A horizontal line, and what it is.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    level: tuple[str, float] | None = None

    width, height, left, right, top, bottom = WIDTH, HEIGHT, _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Where ticks are on the picture, and what they say."""
        low, high = self._x_range()
        return [(self._x(value), _number(value)) for value in ticks(low, high)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """The same of the other axis."""
        return [(self._y(value), _number(value)) for value in ticks(0.0, self._y_top())]

    @property
    def level_at(self) -> float:
        """Where the level is on the picture."""
        return self._y(self.level[1] if self.level else 0.0)

    def path(self, line: Line) -> str:
        """A line as SVG has it."""
        parts, pen = [], "M"
        for x, y in line.points:
            if not math.isfinite(y):
                pen = "M"
                continue
            parts.append(f"{pen}{self._x(x):.1f} {self._y(y):.1f}")
            pen = "L"
        return "".join(parts)

    def dots(self, line: Line) -> list[tuple[float, float, str, bool]]:
        """The points of a line: where they are, what they are, and whether they are hollow."""
        return [
            (self._x(x), self._y(y), f"{line.label}, {self.x_label} {_number(x)}: {y:.3g}", place in line.hollow)
            for place, (x, y) in enumerate(line.points)
            if math.isfinite(y)
        ]

    def _x(self, value: float) -> float:
        low, high = self._x_range()
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def _y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * value / self._y_top()

    def _x_range(self) -> tuple[float, float]:
        xs = [x for line in self.lines for x, _ in line.points] or [0.0]
        return min(xs), max(max(xs), min(xs) + 1.0)

    def _y_top(self) -> float:
        ys = [y for line in self.lines for _, y in line.points if math.isfinite(y)]
        top = max([*ys, self.level[1] if self.level and math.isfinite(self.level[1]) else 0.0, 0.0])
        return 1.05 * top if top > 0 else 1.0


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, about five.

    Examples
    --------
    >>> ticks(0.0, 23.0)
    [0.0, 5.0, 10.0, 15.0, 20.0]
    """
    step = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= _TICKS)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def viridis(share: float) -> str:
    """The colour of a number between 0 and 1; grey where it is not known.

    Examples
    --------
    >>> viridis(0.0), viridis(1.0), viridis(float("nan"))
    ('#440154', '#fde725', '#808080')
    """
    if math.isnan(share):
        return "#808080"
    place = min(max(share, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    first = min(int(place), len(_VIRIDIS) - 2)
    parts = [round(a + (b - a) * (place - first)) for a, b in zip(*_VIRIDIS[first : first + 2], strict=True)]
    return "#" + "".join(f"{part:02x}" for part in parts)


def _number(value: float) -> str:
    return f"{value:.6g}"
