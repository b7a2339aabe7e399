"""A slice profile is a short sum of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from slicesplat.geometry.psf import FWHM_TO_SIGMA, SliceProfile, profile_function, slice_psf

PROFILES: list[SliceProfile] = ["gaussian", "box", "sinc"]
THICKNESS = 3.0
Z = np.linspace(-9.0, 9.0, 9001)  # mm; three thicknesses to either side


def mixture(profile: SliceProfile, z: np.ndarray, blur: float = 0.0) -> np.ndarray:
    """Density per mm of the through-plane profile as the forward model has it, smoothed by `blur` mm."""
    weights, covariances, offsets = slice_psf((1.0, 1.0), THICKNESS, profile)
    variance = covariances[:, 2] + blur**2
    return (weights / np.sqrt(2 * np.pi * variance) * np.exp(-0.5 * (z[:, None] - offsets) ** 2 / variance)).sum(1)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_constant_volume_keeps_its_value(profile: SliceProfile) -> None:
    weights, covariances, offsets = slice_psf((1.0, 1.2), THICKNESS, profile)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (covariances > 0).all()
    # Not to shift the volume against the slices.
    assert weights @ offsets == pytest.approx(0.0, abs=1e-12)
    assert mixture(profile, Z).sum() * (Z[1] - Z[0]) == pytest.approx(1.0, abs=1e-6)  # what lies beyond the interval


# Root-mean-square difference over two thicknesses to either side, as a fraction of the peak, as an object of that
# softness (in thicknesses) shows it. The Gaussian profile is itself. A box has edges, which no few Gaussians have.
@pytest.mark.parametrize(
    ("profile", "softness", "rms"),
    [("gaussian", 0.0, 1e-12), ("sinc", 0.0, 0.009), ("box", 0.0, 0.115), ("box", 0.15, 0.002), ("box", 0.3, 0.001)],
)
def test_the_sum_is_close_to_the_profile(profile: SliceProfile, softness: float, rms: float) -> None:
    step = 0.002
    z = (np.arange(2000) + 0.5) * step - 2.0  # no node on an edge
    true = profile_function(profile, z)
    if softness:
        true = gaussian_filter1d(true, softness / step, mode="constant", truncate=6.0)
    difference = mixture(profile, z * THICKNESS, softness * THICKNESS) * THICKNESS - true
    assert np.sqrt((difference**2).mean()) <= rms * true.max()


def test_full_widths_follow_the_convention() -> None:
    _, covariances, _ = slice_psf((1.0, 1.5), THICKNESS)
    assert np.sqrt(covariances[0]) / FWHM_TO_SIGMA == pytest.approx([1.2, 1.8, THICKNESS])
    assert mixture("gaussian", np.array([THICKNESS / 2]))[0] == pytest.approx(mixture("gaussian", np.zeros(1))[0] / 2)


def test_the_box_is_as_wide_as_a_box() -> None:
    weights, covariances, offsets = slice_psf((1.0, 1.0), THICKNESS, "box")
    # Its variance; a Gaussian of the same full width has more than twice as much.
    assert weights @ (covariances[:, 2] + offsets**2) == pytest.approx(THICKNESS**2 / 12, rel=0.02)


@pytest.mark.parametrize("profile", PROFILES)
def test_only_through_plane_depends_on_the_profile(profile: SliceProfile) -> None:
    _, covariances, _ = slice_psf((1.0, 1.2), THICKNESS, profile)
    _, gaussian, _ = slice_psf((1.0, 1.2), THICKNESS)
    np.testing.assert_array_equal(covariances[:, :2], np.repeat(gaussian[:, :2], len(covariances), axis=0))
