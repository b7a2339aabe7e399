"""Work that needs more memory than there is, is refused before it starts; what it needs is known from the geometry."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import slicesplat.pipeline
from slicesplat import machine
from slicesplat.config import Config, FitSettings
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.machine import available_memory
from slicesplat.pipeline import reconstruct, register
from slicesplat.prepare import memory
from slicesplat.prepare.memory import GB, estimate_memory, within_memory
from slicesplat.splat import CpuForwardModel
from slicesplat.splat.cpu.separable import SEPARABLE_FIELDS
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

SPACINGS = FitSettings().spacings
ON_CPU = Config(device="cpu", threads=1, resolution=2.0)


@cache
def stacks() -> tuple[Stack, ...]:
    config = SimulationConfig(motion="none", pixel=1.5, spacing=4.0, thickness=4.0, dropout=0.0, seed=1)
    return tuple(simulate(*brain_phantom(50.0, 1.4), config).stacks)


def whole(size: int = 400, slices: int = 60, number: int = 9) -> list[Stack]:
    """Stacks with a large field of view and no mask, on memory that nobody has written to."""
    data = np.zeros((size, size, slices), np.float32)
    mask = np.broadcast_to(np.ones(1, bool), data.shape)
    return [Stack(data, mask, np.diag([1.0, 1.0, 3.0, 1.0]), 3.0, f"epi-{n}.nii.gz") for n in range(number)]


def estimated(given: tuple[Stack, ...] | list[Stack], config: Config = ON_CPU, volume: bool = True) -> float:
    return estimate_memory(given, config, SPACINGS, volume).peak


def test_cut_off_is_the_one_of_the_forward_model() -> None:
    assert inspect.signature(CpuForwardModel).parameters["cutoff"].default == memory.FIT_CUTOFF


def test_a_pair_takes_what_the_forward_model_keeps_of_it() -> None:
    assert memory._PAIR_FIELDS == SEPARABLE_FIELDS


@pytest.mark.skipif(sys.platform == "win32", reason="the peak is asked from resource")
def test_estimate_is_within_30_percent_of_the_peak() -> None:
    # A process of its own: a peak is never lower than what earlier work took.
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED], capture_output=True, text=True, check=True, env={**os.environ}
    )
    resident, estimate, peak = map(float, done.stdout.split())
    assert estimate == pytest.approx(peak, rel=0.3)
    # And not because of what is there anyway.
    assert estimate > 1.7 * resident


_MEASURED = """
import resource, sys
from slicesplat.config import Config, FitSettings, RegistrationSettings
from slicesplat.validation.phantom import brain_phantom
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.memory import estimate_memory
from slicesplat.validation.simulate import SimulationConfig, simulate

scan = simulate(*brain_phantom(57.0, 1.6), SimulationConfig(motion="none", pixel=0.8, dropout=0.0, seed=1))
# As much memory in a fraction of the time.
fit, levels = FitSettings(pose_rounds=1, final_rounds=1, rounds=1, iterations=1, strengths=()), RegistrationSettings()
levels = RegistrationSettings(coarse=levels.coarse[:1], fine=levels.fine[:1])
config = Config(threads=1, device="cpu", resolution=1.0, fit=fit, registration=levels)
estimate = estimate_memory(scan.stacks, config, fit.spacings)
print(estimate.resident, estimate.peak)
reconstruct(scan.stacks, config)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def test_finer_output_takes_more() -> None:
    sizes = [
        estimate_memory(stacks(), replace(ON_CPU, resolution=resolution), SPACINGS).sample
        for resolution in (1.0, 0.4, 0.2, 0.1)
    ]
    assert sizes == sorted(sizes)
    # Eight times the voxels, and they are most of it.
    assert sizes[-1] > 5 * sizes[-2]


def test_poses_alone_take_less() -> None:
    assert estimated(stacks(), volume=False) < estimated(stacks())


def test_masks_make_the_difference() -> None:
    unmasked = [replace(stack, mask=np.ones_like(stack.mask)) for stack in stacks()]
    assert estimate_memory(unmasked, ON_CPU, SPACINGS).fit > 1.5 * estimate_memory(list(stacks()), ON_CPU, SPACINGS).fit


def test_mask_that_was_carried_over_counts_as_the_one_that_was_drawn() -> None:
    first, *others = stacks()
    carried = [replace(stack, mask=np.ones_like(stack.mask), carried=True) for stack in others]
    assert estimated([first, *carried]) == pytest.approx(estimated(stacks()), rel=0.2)


def test_large_field_of_view_without_masks_is_refused_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 22 * GB)
    start = time.perf_counter()
    with (
        pytest.raises(InputError, match=r"^epi-0.nii.gz and the other stacks: .* GB of memory.*--stack-masks"),
        within_memory(whole(), ON_CPU, SPACINGS),
    ):
        raise AssertionError("the work was begun")
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("work", [reconstruct, register])
def test_bound_that_was_given_is_kept(
    work: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def begun(*_: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr(slicesplat.pipeline, "_registered", begun)
    given = [*stacks(), stacks()[0]]
    with (
        caplog.at_level(logging.DEBUG, "slicesplat"),
        pytest.raises(InputError, match=r"--max-memory allows 0\.1 GB"),
    ):
        work(given, replace(ON_CPU, max_memory=0.1))  # type: ignore[operator]
    # A refusal is one line and nothing else.
    assert not caplog.records


def test_huge_output_is_refused_with_its_own_remedy() -> None:
    config = replace(ON_CPU, resolution=0.1, max_memory=2.0)
    with pytest.raises(InputError, match="coarser --output-resolution"), within_memory(stacks(), config, SPACINGS):
        raise AssertionError("the work was begun")


def test_bound_of_the_user_replaces_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 0.0)
    with pytest.raises(InputError), within_memory(stacks(), ON_CPU, SPACINGS):
        pass
    with within_memory(stacks(), replace(ON_CPU, max_memory=1000.0), SPACINGS):
        pass


def test_nothing_is_refused_where_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    with within_memory(whole(), ON_CPU, SPACINGS):
        pass


@pytest.mark.parametrize("number", [0, 1])
def test_stacks_without_a_region_are_left_to_the_work(number: int) -> None:
    empty = [replace(stack, mask=np.zeros_like(stack.mask)) for stack in stacks()[:number]]
    with within_memory(empty, ON_CPU, SPACINGS):
        pass


def test_estimate_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "slicesplat"), within_memory(stacks(), ON_CPU, SPACINGS):
        pass
    assert "memory: about" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 41.3 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ],
)
def test_failed_allocation_says_what_was_expected_and_what_to_do(error: Exception) -> None:
    with (
        pytest.raises(MemoryError, match=r"allocate.*GB was expected.*--stack-masks"),
        within_memory(stacks(), ON_CPU, SPACINGS),
    ):
        raise error


def test_other_failures_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^singular$"), within_memory(stacks(), ON_CPU, SPACINGS):
        raise RuntimeError("singular")


@pytest.mark.parametrize("size", [-1.0, float("nan")])
def test_bound_that_is_no_size_is_refused(size: float) -> None:
    with pytest.raises(ValueError, match="max memory"):
        Config(max_memory=size)


def test_available_memory_is_some() -> None:
    assert available_memory() is None or available_memory() > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/user/job\n", {"user/memory.max": 9e9, "user/memory.current": 5e9, "user/job/memory.max": "max"}),
        ("0::/host/path\n", {"memory.max": 9e9, "memory.current": 5e9}),
        (
            "3:cpu:/\n5:memory:/job\n",
            {"memory/job/memory.limit_in_bytes": 9e9, "memory/job/memory.usage_in_bytes": 5e9},
        ),
    ],
)
def test_limit_of_a_container_is_read(tmp_path: Path, own: str, files: dict[str, object]) -> None:
    (tmp_path / "own").write_text(own)
    for name, value in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value:.0f}\n" if isinstance(value, float) else f"{value}\n")
        if "usage" in name or "current" in name:
            path.with_name("memory.stat").write_text(
                "anon 1\ninactive_file 1000000000\ntotal_inactive_file 1000000000\n"
            )
    assert machine._control_group(tmp_path / "groups", tmp_path / "own") == pytest.approx(5e9)


def test_no_container_is_no_limit(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/\n")
    assert machine._control_group(tmp_path, tmp_path / "own") is None
