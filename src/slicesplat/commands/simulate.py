"""``slicesplat simulate``: known volume in, moved and noisy stacks and the truth out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from slicesplat.commands.base import BaseCommand, log
from slicesplat.io.masks import load_masked_volume
from slicesplat.io.outputs import Outputs
from slicesplat.validation.files import SIMULATION_FILES, save
from slicesplat.validation.protocols import PROTOCOLS, Protocol
from slicesplat.validation.simulate import SimulationConfig, simulate


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Simulate moved, noisy stacks from a known volume.

    Attributes
    ----------
    volume : path
        The known volume, NIfTI.
    mask : path
        The region to scan, on the volume's grid.
    output : path
        Folder for stack-i.nii.gz, mask-i.nii.gz, truth.nii.gz, truth-mask.nii.gz and truth.json.
    protocol : str
        A published simulation in place of the settings below, of which the seed counts; gsvr: Dannecker et al. (2026).
    config : SimulationConfig
        What the scanner and the subject do.
    """

    volume: Path
    mask: Path
    output: Path
    protocol: Protocol | None = None
    config: Annotated[SimulationConfig, tyro.conf.arg(name="")] = field(default_factory=SimulationConfig)

    def execute(self, console: Console) -> None:
        """Check, simulate, write."""
        outputs = Outputs([self.volume, self.mask])
        outputs.add_folder(self.output, SIMULATION_FILES)
        volume, mask, notes = load_masked_volume(self.volume, self.mask)
        config = replace(PROTOCOLS[self.protocol], seed=self.config.seed) if self.protocol else self.config
        simulation = simulate(volume.get_fdata(), volume.affine, mask.get_fdata(), config)
        for note in notes:
            log.info(note)
        with outputs.writing() as write:
            write(
                self.output,
                lambda path: save(simulation, path, volume.get_fdata(), volume.affine, mask.get_fdata()),
            )
        log.info("wrote %d stacks with masks and truth", len(simulation.stacks))
