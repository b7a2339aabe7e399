"""Sharp 3-D volumes from motion-corrupted stacks of thick MR slices.

The public names load on first use: importing the package costs nothing, and PyTorch and the compiler are
loaded only by who reconstructs.
"""

from __future__ import annotations

import os

from slicesplat.version import __version__

# Idle threads sleep instead of spinning: on a shared or busy machine they would take the cores from those that work.
# It has to be said before the first library that brings OpenMP is loaded; a user's own setting stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# As in `typing`, which takes longer to import than a signal can be left to Python's own handlers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slicesplat.config import Config
    from slicesplat.errors import InputError
    from slicesplat.field.gaussians import GaussianField
    from slicesplat.geometry.stack import Stack
    from slicesplat.io.model import Model, load_model, save_model
    from slicesplat.pipeline import reconstruct, register
    from slicesplat.pipeline.apply import apply, apply_labels
    from slicesplat.prepare.known_motion import load_motion
    from slicesplat.prepare.load import load_stacks
    from slicesplat.prepare.posed import load_posed_slices
    from slicesplat.prepare.survey import assess
    from slicesplat.sampling import Grid, sample_slices, sample_volume
    from slicesplat.validation.images import evaluate, simulate
    from slicesplat.validation.simulate import SimulationConfig

_HOME = {
    "Config": "slicesplat.config",
    "GaussianField": "slicesplat.field.gaussians",
    "Grid": "slicesplat.sampling",
    "InputError": "slicesplat.errors",
    "Model": "slicesplat.io.model",
    "SimulationConfig": "slicesplat.validation.simulate",
    "Stack": "slicesplat.geometry.stack",
    "apply": "slicesplat.pipeline.apply",
    "apply_labels": "slicesplat.pipeline.apply",
    "assess": "slicesplat.prepare.survey",
    "evaluate": "slicesplat.validation.images",
    "load_model": "slicesplat.io.model",
    "load_motion": "slicesplat.prepare.known_motion",
    "load_posed_slices": "slicesplat.prepare.posed",
    "load_stacks": "slicesplat.prepare.load",
    "reconstruct": "slicesplat.pipeline",
    "register": "slicesplat.pipeline",
    "sample_slices": "slicesplat.sampling",
    "sample_volume": "slicesplat.sampling",
    "save_model": "slicesplat.io.model",
    "simulate": "slicesplat.validation.images",
}
__all__ = [
    "Config",
    "GaussianField",
    "Grid",
    "InputError",
    "Model",
    "SimulationConfig",
    "Stack",
    "__version__",
    "apply",
    "apply_labels",
    "assess",
    "evaluate",
    "load_model",
    "load_motion",
    "load_posed_slices",
    "load_stacks",
    "reconstruct",
    "register",
    "sample_slices",
    "sample_volume",
    "save_model",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
