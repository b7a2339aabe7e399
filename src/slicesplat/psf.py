"""Slice profiles as short sums of Gaussians: a PSF is a list of (weight, covariance).

In plane the point-spread function is a Gaussian of FWHM 1.2 x pixel spacing, through plane one of FWHM 1 x slice
thickness: the convention of SVRTK, NiftyMIC and NeSVoR. A profile that is not Gaussian stays closed form as a sum of
zero-mean Gaussians with signed weights (DESIGN.md section 1).
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

SliceProfile = Literal["gaussian", "box", "sinc"]

FWHM_TO_SIGMA = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
IN_PLANE_FWHM_IN_PIXELS = 1.2
# Standard deviations, in slice thicknesses, of the Gaussians that a profile is written in. Root-mean-square error over
# two thicknesses to either side, of the peak: sinc 1.0 %; box 13.8 %, its vertical edges being out of reach of centred
# Gaussians (the best three that a search found leave 11.7 %, with weights that cancel each other).
_COMPONENT_SIGMAS = {"box": (0.16, 0.23, 0.33), "sinc": (0.24, 0.36, 0.54)}
# A selective RF pulse of time-bandwidth product 3 excites a box whose edges are smoothed over a third of its width and
# followed by a small negative side lobe: a windowed sinc in time, seen in space.
_SINC_LOBES = 1.5


def profile_function(profile: SliceProfile, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The true slice profile at distances `z`, in slice thicknesses, scaled to integral 1.

    Parameters
    ----------
    profile : {"gaussian", "box", "sinc"}
    z : array
        Distance from the slice's centre divided by the slice thickness.

    Returns
    -------
    array of z's shape
        Density per slice thickness.
    """
    if profile == "gaussian":
        return np.exp(-0.5 * (z / FWHM_TO_SIGMA) ** 2) / (FWHM_TO_SIGMA * np.sqrt(2 * np.pi))
    if profile == "box":
        return np.where(np.abs(z) <= 0.5, 1.0, 0.0)
    # Fourier transform of a Hann-windowed sinc pulse of 2 x _SINC_LOBES zero crossings.
    time = np.linspace(-_SINC_LOBES, _SINC_LOBES, 257)
    pulse = np.sinc(time) * np.cos(np.pi * time / (2 * _SINC_LOBES)) ** 2
    step = time[1] - time[0]
    return (np.cos(2 * np.pi * np.multiply.outer(z, time)) * pulse).sum(-1) * step / pulse[128]


@cache
def _profile_components(profile: SliceProfile) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights (sum 1) and standard deviations, in slice thicknesses, of the Gaussians that make up a profile."""
    if profile == "gaussian":
        return (1.0,), (FWHM_TO_SIGMA,)
    z = np.linspace(-2.0, 2.0, 2001)
    sigmas = np.array(_COMPONENT_SIGMAS[profile])
    basis = np.exp(-0.5 * (z[:, None] / sigmas) ** 2) / (sigmas * np.sqrt(2 * np.pi))
    # Least squares with the integral held to 1: the last weight is what the others leave.
    free, *_ = np.linalg.lstsq(basis[:, :-1] - basis[:, -1:], profile_function(profile, z) - basis[:, -1], rcond=None)
    return (*map(float, free), float(1.0 - free.sum())), tuple(map(float, sigmas))


def slice_psf(
    pixel_spacing: ArrayLike, thickness: float, profile: SliceProfile = "gaussian"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The point-spread function of a slice in its own frame.

    Parameters
    ----------
    pixel_spacing : (2,) mm
    thickness : float
        Slice thickness, mm.
    profile : {"gaussian", "box", "sinc"}

    Returns
    -------
    weights : (K,)
        Sum 1; single ones may be negative.
    covariances : (K, 3) mm^2
        Diagonals along x, y (in plane) and z (through plane).

    Examples
    --------
    >>> weights, covariances = slice_psf((1.0, 1.0), 3.0)
    >>> float(weights[0]), covariances.round(3).tolist()
    (1.0, [[0.26, 0.26, 1.623]])
    """
    weights, sigmas = _profile_components(profile)
    in_plane = (IN_PLANE_FWHM_IN_PIXELS * FWHM_TO_SIGMA * np.asarray(pixel_spacing, dtype=np.float64)) ** 2
    covariances = np.array([[*in_plane, (sigma * thickness) ** 2] for sigma in sigmas])
    return np.array(weights), covariances
