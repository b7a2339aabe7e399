"""A slice profile is a short sum of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from slicesplat.psf import FWHM_TO_SIGMA, SliceProfile, profile_function, slice_psf

PROFILES: list[SliceProfile] = ["gaussian", "box", "sinc"]
THICKNESS = 3.0
Z = np.linspace(-9.0, 9.0, 9001)  # mm; three thicknesses to either side


def mixture(profile: SliceProfile, z: np.ndarray) -> np.ndarray:
    """Density per mm of the through-plane profile as the forward model has it."""
    weights, covariances = slice_psf((1.0, 1.0), THICKNESS, profile)
    variance = covariances[:, 2]
    return (weights / np.sqrt(2 * np.pi * variance) * np.exp(-0.5 * z[:, None] ** 2 / variance)).sum(1)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_constant_volume_keeps_its_value(profile: SliceProfile) -> None:
    weights, covariances = slice_psf((1.0, 1.2), THICKNESS, profile)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (covariances > 0).all()
    assert mixture(profile, Z).sum() * (Z[1] - Z[0]) == pytest.approx(1.0, abs=1e-6)  # what lies beyond the interval


# Root-mean-square difference over two thicknesses to either side, as a fraction of the peak. The Gaussian profile is
# itself. A box has edges: three Gaussians leave 0.138, and the best three of all would leave 0.117.
@pytest.mark.parametrize(("profile", "rms"), [("gaussian", 1e-12), ("box", 0.14), ("sinc", 0.011)])
def test_the_sum_is_close_to_the_profile(profile: SliceProfile, rms: float) -> None:
    z = np.linspace(-2.0, 2.0, 2001)
    true = profile_function(profile, z)
    difference = mixture(profile, z * THICKNESS) * THICKNESS - true
    assert np.sqrt((difference**2).mean()) <= rms * true.max()


def test_full_widths_follow_the_convention() -> None:
    _, covariances = slice_psf((1.0, 1.5), THICKNESS)
    assert np.sqrt(covariances[0]) / FWHM_TO_SIGMA == pytest.approx([1.2, 1.8, THICKNESS])
    assert mixture("gaussian", np.array([THICKNESS / 2]))[0] == pytest.approx(mixture("gaussian", np.zeros(1))[0] / 2)


def test_the_box_is_narrower_than_the_gaussian_profile() -> None:
    variance = {}
    for profile in ("gaussian", "box"):
        weights, covariances = slice_psf((1.0, 1.0), THICKNESS, profile)
        variance[profile] = weights @ covariances[:, 2]
    # A box has T^2 / 12; smooth edges add to it: 0.105 T^2, against 0.180 T^2 for a Gaussian of the same full width.
    assert THICKNESS**2 / 12 < variance["box"] < 0.6 * variance["gaussian"]


@pytest.mark.parametrize("profile", PROFILES)
def test_only_through_plane_depends_on_the_profile(profile: SliceProfile) -> None:
    _, covariances = slice_psf((1.0, 1.2), THICKNESS, profile)
    _, gaussian = slice_psf((1.0, 1.2), THICKNESS)
    np.testing.assert_array_equal(covariances[:, :2], np.repeat(gaussian[:, :2], len(covariances), axis=0))
