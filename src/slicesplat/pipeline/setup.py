"""What the stages work with: threads, memory, a device and its kernels."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.estimate.fit import check_names
from slicesplat.estimate.warm_up import compile_kernels
from slicesplat.geometry.stack import Stack
from slicesplat.jit import keeps_kernels, when_compiling
from slicesplat.prepare.duplicates import find_copies, warn_of_copies
from slicesplat.prepare.memory import within_memory
from slicesplat.progress import StepClock
from slicesplat.splat import Backend, choose_backend
from slicesplat.splat.cpu.threads import limited_threads

log = logging.getLogger("slicesplat")

LOAD_KERNELS = "load kernels"


def numbers_with_a_region(stacks: Sequence[Stack]) -> list[int]:
    """All stacks but those in which a brain was looked for and not found."""
    return [number for number, stack in enumerate(stacks) if not stack.shows_nothing]


@contextmanager
def ready(stacks: Sequence[Stack], config: Config, volume: bool = True) -> Iterator[tuple[list[Stack], dict[int, int]]]:
    """Threads and memory for the work: the stacks to use, and those left out because they are copies of others.

    Nothing is told before it is known that the work can be done: a refusal is one line and nothing else.

    Raises
    ------
    InputError
        The work would take more memory than there is, or a volume is to be made and the settings name no prior or no
        strategy that there is.
    """
    if volume:
        check_names(config.fit)
    shown = numbers_with_a_region(stacks)
    found = {shown[copy]: shown[kept] for copy, kept in find_copies([stacks[n] for n in shown]).items()}
    copies = {} if config.keep_duplicates else found
    used = [stacks[number] for number in shown if number not in copies]
    with limited_threads(config.threads), within_memory(used, config, config.fit.spacings, volume):
        kept = (
            "both are used, as asked for" if config.keep_duplicates else "it is left out; --keep-duplicates uses both"
        )
        warn_of_copies(stacks, found, kept)
        yield used, copies


def chosen_backend(stacks: Sequence[Stack], config: Config) -> Backend:
    """The backend that was asked for, once it is known that the settings fit the stacks.

    Raises
    ------
    InputError
        There is no such device, or there are more packages than slices.
    """
    for stack in stacks:
        if config.interleave > stack.n_slices:
            raise InputError(
                f"{stack.name}: interleave {config.interleave}, but only {stack.n_slices} slices; "
                "give the number of packages, or 0 to detect it"
            )
    backend = choose_backend(config.device)
    log.info("device: %s", backend.name)
    return backend


def load_kernels(backend: Backend, clock: StepClock, strategy: str = "lattice") -> None:
    """The kernels that a strategy needs, loaded or compiled; the step is called by what it turns out to be."""
    compiles = f"compile kernels ({'once per installation' if keeps_kernels() else 'in memory'})"
    with clock.step(LOAD_KERNELS), when_compiling(lambda: clock.rename(compiles)):
        compile_kernels(backend, gradients=strategy != "lattice")
