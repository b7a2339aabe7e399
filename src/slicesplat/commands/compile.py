"""``slicesplat compile``: what is compiled on first use, now."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from slicesplat.commands.base import BaseCommand, log
from slicesplat.estimate.warm_up import compile_kernels
from slicesplat.jit import folder_of_kernels, target_processor
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Compile the kernels now, while an image or an installation is made, so that no run has to.

    SLICESPLAT_PROCESSOR names the processor to compile for, where others are to use them too: generic, x86-64-v2,
    x86-64-v3 or x86-64-v4. It has to be set, to the same, when they are used.
    """

    def execute(self, console: Console) -> None:
        """Compile, or load what is compiled already, and say where it is kept."""
        compile_kernels(gradients=True)
        # What `simulate` and `demo` need beside it, on the smallest scan that there is.
        simulate(*brain_phantom(size_mm=20.0, spacing=4.0), SimulationConfig(stacks=1, pixel=4.0, spacing=4.0))
        log.info("kernels for %s are kept in %s", target_processor(), folder_of_kernels())
