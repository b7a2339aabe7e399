"""What the machine could do at best, measured in the same run as what is compared with it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def median_seconds(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median wall-clock and processor seconds of a call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = np.median(times, axis=0)
    return float(wall), float(cpu)


def sgemm_flops(size: int = 1536, repeats: int = 5) -> float:
    """Floating-point operations a second of one thread in a float32 matrix product."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a, b = torch.rand(size, size), torch.rand(size, size)
        _, cpu = median_seconds(lambda: a @ b, repeats)
    finally:
        torch.set_num_threads(threads)
    return 2 * size**3 / cpu


def copy_bandwidth(megabytes: int = 256, repeats: int = 5) -> float:
    """Bytes read and written a second by one thread that copies an array larger than the caches."""
    source = np.ones(megabytes << 18, np.float32)
    target = np.zeros_like(source)
    _, cpu = median_seconds(lambda: np.copyto(target, source), repeats)
    return 2 * source.nbytes / cpu


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
