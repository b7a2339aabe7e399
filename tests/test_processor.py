"""Kernels are compiled for the processor that is named, and for none that is not there."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

from slicesplat.processor import PROCESSORS, VARIABLE, chosen_processor

CODE = """
from slicesplat import jit
print(jit.target_processor())
twice = jit.jit()(lambda x: 2 * x)
print(twice(21), jit.target_processor(), *twice.targetctx.codegen().magic_tuple()[1:])
"""


def target(named: str, cache: Path) -> list[str]:
    """What a kernel is compiled for in a process whose environment names a processor: its name, and features."""
    env = {**os.environ, VARIABLE: named, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.splitlines()
    assert before == get_host_cpu_name()  # nothing is decided before a kernel is made
    answer, *rest = after.split()
    assert answer == "42"
    return rest


def test_each_level_has_all_of_the_level_below() -> None:
    levels = [set(PROCESSORS[name]) for name in ("generic", "x86-64-v2", "x86-64-v3", "x86-64-v4")]
    assert all(lower < higher for lower, higher in itertools.pairwise(levels))
    # A name that LLVM does not know would be a feature that no processor has.
    known = set(get_host_cpu_features())
    assert "sse2" not in known or not levels[3] - known


def test_a_kernel_is_compiled_for_the_processor_that_is_named(tmp_path: Path) -> None:
    assert target("generic", tmp_path) == ["generic", "generic"]


def test_a_processor_that_is_not_there_is_not_compiled_for(tmp_path: Path) -> None:
    name, chosen, features = target("fast", tmp_path)
    assert name == chosen == get_host_cpu_name() and "," in features


def test_a_processor_that_lacks_a_feature_is_not_the_named_one() -> None:
    features = dict.fromkeys(PROCESSORS["x86-64-v3"], True)
    assert chosen_processor("x86-64-v3", features) == ("x86-64-v3", None)
    name, reason = chosen_processor("x86-64-v3", {**features, "fma": False})
    assert name is None and reason is not None and reason.endswith("lacks fma")
    assert chosen_processor(None, features) == chosen_processor("", features) == (None, None)
