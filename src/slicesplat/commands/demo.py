"""``slicesplat demo``: the whole way on made-up data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from slicesplat.commands.base import BaseCommand, ProgressDisplay, log, show
from slicesplat.commands.settings import Settings
from slicesplat.io.outputs import Outputs
from slicesplat.pipeline import reconstruct
from slicesplat.validation.demo import DEMO_FILES, DemoResult, demo


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Make a phantom, simulate stacks, reconstruct and score them.

    Attributes
    ----------
    output : path
        Folder for stacks, volume and a picture, demo.png.
    config : Settings
        Settings of the reconstruction.
    """

    output: Path = Path("demo")
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def execute(self, console: Console) -> None:
        """Simulate, reconstruct, print what was measured."""
        Outputs([]).add_folder(self.output, DEMO_FILES)
        with ProgressDisplay(console) as progress:
            result = demo(self.output, reconstruct, self.config, progress=progress)
        show(_table(result))
        log.info("stacks, volumes and demo.png are in %s", result.folder)


def _table(result: DemoResult) -> Table:
    table = Table("", "PSNR (dB)", "SSIM", "pose error (mm)")
    for row in result.rows:
        table.add_row(row.name, f"{row.psnr:.2f}", f"{row.ssim:.4f}", f"{row.pose_error:.2f}")
    return table
