"""Shares with 95 % intervals, of cases and of slices that come in cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

NORMAL_95 = 1.959964
"""The 97.5th percentile of the standard normal distribution."""


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share among so many independent ones.

    E. B. Wilson, Journal of the American Statistical Association 22, 1927, 209-212: it stays within 0 and 1, and says
    something where the share is 0 or 1.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(1.0, 100)]
    [0.963, 1.0]
    """
    if count <= 0:
        return 0.0, 1.0
    z = NORMAL_95**2 / count
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def of_cases(hits: Sequence[int], sizes: Sequence[int]) -> tuple[float, float, float]:
    """Share of hits among all slices, with its 95 % interval, where the slices of a case have a common fate.

    The number of slices is divided by the design effect (L. Kish, Survey Sampling, Wiley, 1965): the variance of the
    share over cases, as a ratio of sums, over that of as many independent slices. Without any hit it is not known, and
    a case counts as one slice would.

    Examples
    --------
    >>> [round(value, 3) for value in of_cases([0, 10], [10, 10])]  # whole cases: as many slices as there are cases
    [0.5, 0.095, 0.905]
    """
    found, number = np.asarray(hits, float), np.asarray(sizes, float)
    total = number.sum()
    if total == 0:
        return math.nan, 0.0, 1.0
    share = float(found.sum() / total)
    effect = float((number**2).sum() / total)
    if 0 < share < 1 and len(number) > 1:
        over_cases = ((found - share * number) ** 2).sum() / total**2
        effect = min(effect, max(1.0, float(over_cases / (share * (1 - share) / total))))
    return share, *wilson(share, total / effect)


def told(share: float, low: float, high: float) -> str:
    """A share and its interval in per cent."""
    return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
