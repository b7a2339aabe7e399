"""NIfTI files for tests, and what a refusal has to look like."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from slicesplat.errors import InputError

SHAPE = (12, 10, 6)
SPACING = (1.0, 1.0, 3.0)


def plain_affine(spacing: tuple[float, float, float] = SPACING, origin: tuple[float, ...] = (0, 0, 0)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def oblique_affine() -> np.ndarray:
    affine = plain_affine(origin=(-20, 5, 7))
    affine[:3, :3] = Rotation.from_rotvec([0.3, -0.7, 0.4]).as_matrix() @ affine[:3, :3]
    return affine


def blob(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    data = np.zeros(shape, np.float32)
    data[2:-2, 2:-2, 1:-1] = np.random.default_rng(0).uniform(100, 900, data[2:-2, 2:-2, 1:-1].shape)
    return data


def write(path: Path, data: np.ndarray, affine: np.ndarray | None = None, code: int = 1) -> Path:
    affine = plain_affine() if affine is None else affine
    image = nib.Nifti1Image(data, None)
    image.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    image.set_sform(affine, code=code)
    nib.save(image, path)
    return path


def edited(path: Path, offset: int, layout: str, *values: object) -> Path:
    """The uncompressed file with a field of its header changed."""
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{layout}", content, offset, *values)
    path.write_bytes(content)
    return path


def refused(call: Callable[[], object], file: str, problem: str) -> None:
    """The refusal is one line with file, problem and remedy."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert file in message
    assert problem in message
    assert "; " in message, "no remedy"
