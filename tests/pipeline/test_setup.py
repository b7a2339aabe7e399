"""Kernels are compiled ahead, in a step that is called by what it does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import pytest
from reconstructions import COMPILING, STEPS, brief, small

import slicesplat.pipeline.setup
from slicesplat.progress import StepClock
from slicesplat.splat import CPU

WITH_KERNELS = ("slicesplat.splat.cpu", "slicesplat.priors")


def kernels_compiled_by_steps() -> dict[str, int]:
    """Kernels that this process has compiled or loaded when each step of a reconstruction begins, and at its end."""
    modules = [module for name, module in sys.modules.items() if name.startswith(WITH_KERNELS)]
    kernels = [kernel for module in modules for kernel in vars(module).values()]
    found: dict[str, int] = {}

    def count(step: str) -> None:
        found.setdefault(step, sum(len(getattr(kernel, "signatures", [])) for kernel in kernels))

    asked = {"slice_profile": "box", "uncertainty": True, "with_background": True, "threads": 1, "device": "cpu"}
    brief(small().stacks, lambda now: count(now.step), **asked).simulated()
    count("end")
    return found


@pytest.mark.slow
def test_everything_is_compiled_in_the_step_that_says_so() -> None:
    # In a process of its own: in this one, others have compiled.
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import json, test_setup as t; "
        "print(json.dumps(t.kernels_compiled_by_steps()))"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(here), str(here.parent / "helpers")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found.pop(COMPILING, 0) == 0
    assert [*found] == [*STEPS, "uncertainty", "end"]
    before, *after = found.values()
    assert before == 0 and after[0] > 0
    assert set(after) == {after[0]}


def compile_one(*_: object, **__: object) -> None:
    """In the place of `compile_kernels`: a kernel that is in no cache."""
    numba.njit(lambda x: x + 1)(1)


@pytest.mark.parametrize(
    ("kept", "needed", "names"),
    [
        (True, lambda *_, **__: None, [STEPS[0]]),
        (True, compile_one, [STEPS[0], COMPILING]),
        (False, compile_one, [STEPS[0], "compile kernels (in memory)"]),
    ],
)
def test_step_is_called_compiling_only_when_something_is_compiled(
    monkeypatch: pytest.MonkeyPatch, kept: bool, needed: Callable[..., None], names: list[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(slicesplat.pipeline.setup, "keeps_kernels", lambda: kept)
    monkeypatch.setattr(slicesplat.pipeline.setup, "compile_kernels", needed)
    clock = StepClock(lambda now: seen.append(now.step))
    slicesplat.pipeline.setup.load_kernels(CPU, clock)
    assert seen == names
    assert [step.step for step in clock.steps] == names[-1:]
