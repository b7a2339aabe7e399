"""Progress is drawn on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from slicesplat.commands.base import ProgressDisplay
from slicesplat.progress import Progress


def test_terminal_shows_step_and_loss_in_a_bar() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with ProgressDisplay(console) as progress:
        progress(Progress(step="registration", done=1, total=1, loss=None))
        progress(Progress(step="joint fit", done=7, total=10, loss=0.0123))
    assert "registration" in screen.getvalue()
    assert "joint fit" in screen.getvalue()
    assert "10/10" in screen.getvalue()  # a step that ended early has ended all the same
    assert "loss 0.0123" in screen.getvalue()
