"""Packages are where the scanner goes back, whichever way it goes and wherever it begins."""

from __future__ import annotations

import numpy as np
import pytest

from slicesplat.geometry.acquisition import acquisition_order, packages, ranks


def times(order: list[int]) -> np.ndarray:
    """(nz,) s, of slices acquired in this order."""
    out = np.empty(len(order))
    out[order] = 1.4 * np.arange(len(order))
    return out


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0, 0]),
        ([6, 5, 4, 3, 2, 1, 0], [0, 0, 0, 0, 0, 0, 0]),
        ([0, 2, 4, 6, 1, 3, 5], [0, 1, 0, 1, 0, 1, 0]),
        ([1, 3, 5, 0, 2, 4, 6], [1, 0, 1, 0, 1, 0, 1]),
        ([6, 4, 2, 0, 5, 3, 1], [0, 1, 0, 1, 0, 1, 0]),
        ([0, 3, 6, 1, 4, 7, 2, 5, 8], [0, 1, 2, 0, 1, 2, 0, 1, 2]),
        ([2, 0, 3, 1], [0, 0, 0, 0]),  # too few in each to mean anything
        ([0], [0]),
        ([], []),
    ],
)
def test_a_package_begins_where_the_scanner_goes_back(order: list[int], expected: list[int]) -> None:
    assert packages(times(order)).tolist() == expected


@pytest.mark.parametrize("interleave", [1, 2, 3, 4])
def test_packages_of_an_interleave_are_found_from_its_times(interleave: int) -> None:
    found = packages(times(acquisition_order(14, interleave).tolist()))
    assert found.tolist() == [k % interleave for k in range(14)]


def test_slices_that_were_not_acquired_are_in_no_package_of_their_own() -> None:
    known = times([0, 2, 4, 6, 1, 3, 5])
    known[3] = np.nan
    assert packages(known).tolist() == [0, 1, 0, 0, 0, 1, 0]
    assert ranks(known).tolist() == [0.0, 4.0, 1.0, 6.0, 2.0, 5.0, 3.0]
