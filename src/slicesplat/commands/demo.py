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
from slicesplat.errors import InputError
from slicesplat.io.outputs import Outputs
from slicesplat.pipeline import reconstruct
from slicesplat.validation.demo import DEMO_FILES, DEMO_SIZE, DemoResult, demo


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Make a phantom, simulate stacks, reconstruct and score them.

    Attributes
    ----------
    output : path
        Folder for stacks, volume and a picture, demo.png.
    size : float
        Length of the phantom, mm, from 30 to 150. A small one is reconstructed sooner, and less well.
    config : Settings
        Settings of the reconstruction.
    """

    output: Path = Path("demo")
    size: float = DEMO_SIZE
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def execute(self, console: Console) -> None:
        """Simulate, reconstruct, print what was measured."""
        if not 30 <= self.size <= 150:
            raise InputError(f"--size {self.size:g}: no length of a brain; give 30 to 150 mm")
        Outputs([]).add_folder(self.output, DEMO_FILES)
        with ProgressDisplay(console) as progress:
            result = demo(self.output, reconstruct, self.config.plain(), progress=progress, size_mm=self.size)
        show(_table(result))
        log.info("stacks, volumes and demo.png are in %s", result.folder)


def _table(result: DemoResult) -> Table:
    table = Table("", "PSNR (dB)", "SSIM", "pose error (mm)")
    for row in result.rows:
        table.add_row(row.name, f"{row.psnr:.2f}", f"{row.ssim:.4f}", f"{row.pose_error:.2f}")
    return table
