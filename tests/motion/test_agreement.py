"""Stacks that do not show the same thing are told from those that do, whatever the fit says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices, cut_slices
from slicesplat.motion.agreement import agreement
from slicesplat.motion.relocate import convincing
from slicesplat.prepare.intensity import scale_intensities
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


@cache
def still(beyond: float = 0.0) -> Slices:
    """Slices of a subject that keeps still, with masks that reach so many mm into the air."""
    config = SimulationConfig(motion="none", pixel=1.4, dropout=0.0, seed=1)
    stacks = simulate(*brain_phantom(60.0, 1.6), config).stacks
    wide = [
        replace(stack, mask=distance_transform_edt(~stack.mask, sampling=stack.spacing) <= beyond) for stack in stacks
    ]
    return cut_slices(scale_intensities(wide)[0])


def turned(slices: Slices) -> Slices:
    """The slices with those of the last stack turned."""
    turn = Rigid.exp([0, 0, 0, 0, 0, np.deg2rad(85.0)]).about(slices.pose.translation.mean(axis=0))
    return slices.moved((turn @ slices.motion).where(slices.stack == 2, slices.motion))


def test_stacks_of_one_still_subject_agree() -> None:
    found = agreement(still(), np.ones(len(still())), 3)
    assert all(seen.ncc > 0.6 for seen in found)
    assert not any(seen.doubtful for seen in found)


def test_a_stack_that_is_turned_does_not_agree() -> None:
    found = agreement(turned(still()), np.ones(len(still())), 3)
    assert [seen.doubtful for seen in found] == [False, False, True]


def test_air_that_wide_masks_hold_is_no_agreement() -> None:
    slices = still(beyond=6.0)
    there, elsewhere = (agreement(here, np.ones(len(slices)), 3) for here in (slices, turned(slices)))
    assert [convincing(seen) for seen in there] == [True, True, True]
    assert not convincing(elsewhere[2])


def test_nothing_is_said_of_a_stack_alone_or_one_that_is_not_used() -> None:
    slices = still()
    only = slices.take(np.flatnonzero(slices.stack == 1))
    alone = agreement(only, np.ones(len(only)), 2)
    unused = agreement(slices, (slices.stack != 0).astype(float), 3)
    for seen in (*alone, unused[0]):
        assert np.isnan(seen.ncc) and not seen.doubtful
    assert unused[1].ncc == pytest.approx(agreement(slices, np.ones(len(slices)), 3)[1].ncc, abs=0.2)
