"""How far a computation has come: plain values, quick to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a computation has come.

    Attributes
    ----------
    step : str
        What is being done.
    done, total : int
    loss : float or None
        Present value of what is being minimised.
    """

    step: str
    done: int
    total: int
    loss: float | None = None


Callback = Callable[[Progress], None]
ReportProgress = Callable[[int, int, float | None], None]
"""Told how much is done, of how much, and the present loss."""
