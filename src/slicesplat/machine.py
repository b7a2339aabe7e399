"""What this machine, its container and this process have and use of memory, as far as the platform tells."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def peak_memory_mb() -> int | None:
    """Largest resident set of this process so far, in megabytes; None where the platform does not tell (Windows)."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1024 * 1024 if sys.platform == "darwin" else 1024))


def resident_memory() -> float | None:
    """Bytes that this process has in memory; None where the system does not say."""
    statm = _read(Path("/proc/self/statm"))
    if statm and resource is not None:
        return float(statm.split()[1]) * resource.getpagesize()
    return None


def available_memory() -> float | None:
    """Bytes that this process may still take, of the machine, its container and its own limit; None if unknown.

    Page cache counts as available. On macOS it is what is installed; Windows is not asked.
    """
    found = [_machine(), _control_group(), _own_limit()]
    known = [value for value in found if value is not None]
    return max(0.0, min(known)) if known else None


def has_cuda_driver() -> bool:
    """Whether NVIDIA's driver is installed: without it no library finds a GPU, and none has to be imported to ask."""
    import ctypes  # which not every Python is built with

    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _machine() -> float | None:
    available = re.search(r"^MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    if available:
        return float(available[1]) * 1024
    if sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return None


def _control_group(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """What the tightest of this process's control groups leaves, version 2 or 1; None where there is no limit."""
    left = []
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        group = top / path.lstrip("/")
        # In a container the path may be the host's, and only the top is there: it is the container's own group.
        for folder in (group, *group.parents):
            left.append(_left_in(folder))
            if folder == top:
                break
    known = [value for value in left if value is not None]
    return min(known) if known else None


def _left_in(group: Path) -> float | None:
    names = ("memory.max", "memory.current", "inactive_file")
    if not (group / names[0]).exists():
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, used = _read(group / names[0]).strip(), _read(group / names[1]).strip()
    if not (limit.isdigit() and used.isdigit()):
        return None
    cached = re.search(rf"^{names[2]} (\d+)", _read(group / "memory.stat"), re.MULTILINE)
    return float(limit) - float(used) + (float(cached[1]) if cached else 0.0)


def _own_limit() -> float | None:
    """What `ulimit -v` leaves of the address space."""
    statm = _read(Path("/proc/self/statm"))
    if resource is None or not statm:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    return float(limit) - float(statm.split()[0]) * resource.getpagesize()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
