"""``slicesplat animate``: snapshots of a fit as a moving picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from slicesplat.commands.base import BaseCommand
from slicesplat.io.outputs import Outputs
from slicesplat.report.snapshots import check_video, save_animation, snapshot_files


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Make a GIF or an MP4 of the snapshots that reconstruct --snapshots has written.

    Attributes
    ----------
    snapshots : path
        The folder with them, 0001.png and so on.
    output_animation : path
        What to write, .gif or .mp4; MP4 needs imageio-ffmpeg, the extra `video`.
    seconds : float
        That it takes.
    rest : float
        Seconds that the last picture stays.
    """

    snapshots: Path
    output_animation: Path
    seconds: float = 4.0
    rest: float = 2.0

    def __post_init__(self) -> None:
        for name in ("seconds", "rest"):
            if not 0 < getattr(self, name) < 3600:
                raise ValueError(f"--{name} {getattr(self, name):g}: give a number of seconds, more than 0")

    def execute(self, console: Console) -> None:
        """Check, write."""
        pictures = snapshot_files(self.snapshots)
        outputs = Outputs(pictures)
        outputs.add_file(self.output_animation, suffixes=(".gif", ".mp4"))
        check_video(self.output_animation)
        with outputs.writing() as write:
            write(self.output_animation, lambda path: save_animation(pictures, path, self.seconds, self.rest))
