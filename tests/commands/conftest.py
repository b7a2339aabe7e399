"""Files that many commands are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import SHAPE, write


@pytest.fixture
def stack(tmp_path: Path) -> str:
    return write(tmp_path / "stack.nii.gz", np.ones(SHAPE, np.float32))


@pytest.fixture
def mask(tmp_path: Path) -> str:
    return write(tmp_path / "mask.nii.gz", np.ones(SHAPE, np.uint8))
