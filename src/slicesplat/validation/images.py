"""Simulation and score of images in memory: how the Python API enters this package."""

from __future__ import annotations

import logging

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from slicesplat.errors import InputError
from slicesplat.io.arrays import image_in_memory
from slicesplat.io.masks import masked_volume
from slicesplat.validation.evaluate import Score, score
from slicesplat.validation.simulate import Simulation, SimulationConfig
from slicesplat.validation.simulate import simulate as simulate_arrays

log = logging.getLogger("slicesplat")


def simulate(volume: SpatialImage, mask: SpatialImage, config: SimulationConfig | None = None) -> Simulation:
    """Scan a known volume that moves.

    Parameters
    ----------
    volume, mask : nibabel images
        Intensities, and the region of interest, on one grid. What surrounds the region moves with it.
    config : SimulationConfig, optional
        What the scanner and the subject do.

    Returns
    -------
    Simulation
        `stacks`, and the `truth` about them.

    Raises
    ------
    InputError
        Volume or mask are none, or not on one grid; a stack has fewer slices than it is to have packages.
    """
    known, region, notes = masked_volume(image_in_memory(volume, "volume"), image_in_memory(mask, "mask"))
    simulation = simulate_arrays(known.get_fdata(), known.affine, region.get_fdata(), config)
    for note in notes:
        log.info(note)
    return simulation


def evaluate(volume: SpatialImage, truth: SpatialImage, mask: SpatialImage, register: bool = True) -> Score:
    """Compare a reconstruction with the truth.

    Parameters
    ----------
    volume : nibabel image
        The reconstruction, on any grid.
    truth, mask : nibabel images
        The known volume, and where the score is taken; on one grid.
    register : bool
        Align rigidly first; else the world frames are taken as they are.

    Returns
    -------
    Score

    Raises
    ------
    InputError
        An image is none, truth and mask are not on one grid, or the reconstruction shows nothing inside the mask.
    """
    known, region, notes = masked_volume(image_in_memory(truth, "truth"), image_in_memory(mask, "mask"))
    made = image_in_memory(volume, "volume")
    if not np.isfinite(made.data).all():
        raise InputError("volume: has NaN or infinite values; replace them, by 0 outside the region")
    try:
        quality = score(nib.Nifti1Image(made.data, made.affine), known, region, register)
    except ValueError as error:
        raise InputError(f"volume: {error}; check that truth and reconstruction belong together") from error
    for note in notes:
        log.info(note)
    return quality
