"""What the commands share that start from a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slicesplat.commands.base import BaseCommand, log
from slicesplat.config import Config
from slicesplat.jit import when_compiling
from slicesplat.splat import Backend, choose_backend
from slicesplat.splat.cpu.threads import limited_threads


@dataclass(frozen=True, kw_only=True)
class ModelCommand(BaseCommand):
    """Flags that name a model, and where to compute.

    Attributes
    ----------
    input_model : path
        What reconstruct --output-model has written, .safetensors.
    device : {"auto", "cpu", "cuda"}
        Where to compute. auto: on a CUDA device where there is one, else on the CPU.
    threads : int
        Threads to use. 0: all cores.
    """

    input_model: Path
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        Config(threads=self.threads)  # what a reconstruction refuses is refused here too

    @contextmanager
    def computing(self) -> Iterator[Backend]:
        """Lend the backend that was asked for, with as many threads.

        Raises
        ------
        InputError
            There is no such device.
        """
        backend = choose_backend(self.device)
        log.debug("device: %s", backend.name)
        with limited_threads(self.threads), when_compiling(lambda: log.info("compile kernels")):
            yield backend
