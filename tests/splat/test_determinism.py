"""The same bits from run to run, for any number of threads, and in a forked process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from scenes import affordable, everything, place, scene

from slicesplat.splat import CPU, Backend


def test_same_bits_from_run_to_run(backend: Backend) -> None:
    slices, parameters = affordable(backend, *scene(n=2))
    runs = []
    for _ in range(2):
        made = backend.forward_model(slices, 3.0)
        place(made, parameters)
        runs.append(everything(made, parameters))
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_was_given_back_is_found_again(backend: Backend) -> None:
    slices, parameters = affordable(backend, *scene(n=2))
    made = backend.forward_model(slices)
    place(made, parameters)
    before = everything(made, parameters)
    made.free_scratch()
    for was, found in zip(before, everything(made, parameters), strict=True):
        np.testing.assert_array_equal(found, was)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core")
def test_same_bits_for_any_number_of_threads() -> None:
    slices, parameters = scene("box", n=200)
    before, runs = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            made = CPU.forward_model(slices, 3.0)
            place(made, parameters)
            runs.append(everything(made, parameters))
    finally:
        numba.set_num_threads(before)
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(not hasattr(os, "fork") or numba.config.NUMBA_NUM_THREADS < 2, reason="one core, or no fork")
def test_threads_work_in_a_forked_process() -> None:
    code = (
        "import os, numba; from scenes import place, scene; from slicesplat.splat import CPU\n"
        "slices, p = scene(n=4); numba.set_num_threads(2)\n"
        "made = CPU.forward_model(slices); place(made, p); made.apply(p[3], p[6])\n"
        "child = os.fork()\n"
        "if child: raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "made.apply(p[3], p[6]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1] / "helpers", check=True, timeout=120)
