"""Every test that asks for `backend` runs on each that is present."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from backends import interpreter

from slicesplat.splat import Backend, available_backends, choose_backend

INTERPRETER = "interpreter"
# Without a device, the kernels of the GPU run through Triton's interpreter.
PRESENT = list(available_backends())
if "cuda" not in PRESENT and find_spec("triton") is not None:
    PRESENT.append(INTERPRETER)


@pytest.fixture(params=PRESENT)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend that is present, in turn."""
    return interpreter() if request.param == INTERPRETER else choose_backend(request.param)
