"""A simulation as a folder of files: stacks, masks and the truth."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicesplat.io.folder import output_folder
from slicesplat.validation.simulate import Simulation

SIMULATION_FILES = re.compile(r"(stack|mask)-\d+\.nii\.gz|truth(-mask)?\.nii\.gz|truth\.json", re.IGNORECASE)
"""The names of a folder that holds a simulation."""


def _write_image(data: NDArray[Any], affine: ArrayLike, path: Path) -> None:
    """Write a NIfTI file in mm."""
    image = nib.Nifti1Image(data, np.asarray(affine))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def save(
    simulation: Simulation, folder: str | os.PathLike[str], volume: ArrayLike, affine: ArrayLike, mask: ArrayLike
) -> None:
    """Write stacks, masks and the truth.

    Parameters
    ----------
    simulation : Simulation
    folder : path-like
        Made if missing; written whole or not at all, in place of a simulation that an earlier run wrote there. Gets
        ``stack-i.nii.gz``, ``mask-i.nii.gz`` (i from 1), ``truth.nii.gz``, ``truth-mask.nii.gz`` and ``truth.json``.
    volume, affine, mask
        What was simulated from, as given to `simulate`.

    Raises
    ------
    OSError
        The files cannot be written, or the folder holds files of these names that no earlier run wrote.
    """
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with output_folder(folder, SIMULATION_FILES) as files:
        write_files(simulation, files, volume, affine, mask)


def write_files(simulation: Simulation, target: Path, volume: ArrayLike, affine: ArrayLike, mask: ArrayLike) -> None:
    """Write what `save` writes into an existing folder."""
    for number, stack in enumerate(simulation.stacks, start=1):
        _write_image(stack.data, stack.affine, target / f"stack-{number}.nii.gz")
        _write_image(stack.mask.astype(np.uint8), stack.affine, target / f"mask-{number}.nii.gz")
    _write_image(np.asarray(volume, dtype=np.float32), affine, target / "truth.nii.gz")
    _write_image((np.asarray(mask) > 0).astype(np.uint8), affine, target / "truth-mask.nii.gz")
    (target / "truth.json").write_text(json.dumps(simulation.truth.json()), encoding="utf-8")
