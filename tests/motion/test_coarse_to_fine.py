"""From where the scanner put the slices to where they were: known motion is recovered."""

from __future__ import annotations

import numpy as np
import pytest
from balls import three_stacks
from brains import errors, errors_as_scanned, registered, scan

from slicesplat.config import WHOLE_STACK, Config
from slicesplat.geometry.rigid import Rigid, displacement
from slicesplat.motion.runs import runs_in_time
from slicesplat.pipeline import register
from slicesplat.result import Registration
from slicesplat.validation.motion import Motion


@pytest.mark.parametrize("interleave", [1, 2, 3])
def test_runs_are_consecutive_slices_of_one_package(interleave: int) -> None:
    slices = three_stacks(interleave)
    group = runs_in_time(slices, 3)
    assert sorted(set(group)) == list(range(group.max() + 1))
    for g in range(group.max() + 1):
        members = slices.index[group == g]
        assert len(np.unique(slices.stack[group == g])) == 1
        assert set(np.diff(members)) <= {interleave}
        assert 2 <= len(members) <= 4
    np.testing.assert_array_equal(runs_in_time(slices, WHOLE_STACK), slices.stack)
    np.testing.assert_array_equal(runs_in_time(slices, 1), np.arange(len(slices)))


# A brain of 45 mm under pixels of 1.5 mm, slices of 2.8 mm and 2 % noise holds structure of two or three pixels at
# most: a third of a pixel before the joint fit, on lattices that no finer detail would show on.
@pytest.mark.parametrize(("motion", "median"), [("mild", 0.5), ("moderate", 0.6)])
def test_known_motion_is_recovered(motion: Motion, median: float) -> None:
    found, before = errors(motion, registered(motion)), errors_as_scanned(motion)
    assert found.tre_median < median
    assert found.tre_median < 0.6 * before.tre_median
    assert found.tre_p95 < 1.5


def test_no_slice_of_a_moving_brain_is_given_up() -> None:
    assert (registered("moderate").weight < 0.1).mean() <= 0.03


@pytest.mark.parametrize("motion", ["mild", "moderate"])
def test_order_of_the_stacks_does_not_matter(motion: Motion) -> None:
    order = [2, 0, 1]
    again = register([scan(motion).stacks[i] for i in order], Config(threads=1))
    assert order[again.reference] == registered(motion).reference

    def by_name(found: Registration, places: list[int]) -> dict[tuple[int, int], Rigid]:
        slices = found.slices
        return {(places[slices.stack[s]], int(slices.index[s])): slices.motion[s] for s in range(len(slices))}

    one, other = by_name(registered(motion), [0, 1, 2]), by_name(again, order)
    assert one.keys() == other.keys()
    # Sums of float32 in another order, carried through a hundred linear solves, each of them stable.
    assert max(displacement(one[name], other[name]) for name in one) < 0.02
