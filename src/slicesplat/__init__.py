"""Sharp 3-D volumes from motion-corrupted stacks of thick MR slices.

The public names load on first use: importing the package costs nothing, and PyTorch and the compiler are
loaded only by who reconstructs.
"""

from __future__ import annotations

import os

# Idle threads sleep instead of spinning: on a shared or busy machine they would take the cores from those that work.
# It has to be said before the first library that brings OpenMP is loaded; a user's own setting stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# As in `typing`, which takes longer to import than a signal can be left to Python's own handlers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slicesplat.config import Config
    from slicesplat.errors import InputError
    from slicesplat.geometry.stack import Stack
    from slicesplat.pipeline import reconstruct
    from slicesplat.prepare.load import load_stacks

    __version__: str

__all__ = ["Config", "InputError", "Stack", "__version__", "load_stacks", "reconstruct"]

_HOME = {
    "Config": "slicesplat.config",
    "InputError": "slicesplat.errors",
    "Stack": "slicesplat.geometry.stack",
    "load_stacks": "slicesplat.prepare.load",
    "reconstruct": "slicesplat.pipeline",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("slicesplat")
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
