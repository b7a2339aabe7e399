"""Field and slices may move as one: the frame is that of the reference stack, on average."""

from __future__ import annotations

import numpy as np
import pytest
from balls import distance, full, three_stacks
from brains import registered

from slicesplat.geometry.rigid import Rigid
from slicesplat.motion.gauge import gauge
from slicesplat.validation.motion import Motion


@pytest.mark.parametrize("motion", ["mild", "moderate"])
def test_reference_stack_stays_on_average_where_the_scanner_put_it(motion: Motion) -> None:
    found = registered(motion)
    own = np.flatnonzero((found.slices.stack == found.reference) & (found.weight > 0.5)).tolist()
    scanned, corrected = (
        np.concatenate([slices.world_points(s) for s in own])
        for slices in (found.slices.moved(Rigid.identity(len(found.slices))), found.slices)
    )
    assert np.abs(scanned - corrected).max() > 0.3
    np.testing.assert_allclose(scanned.mean(axis=0), corrected.mean(axis=0), atol=1e-6)
    assert Rigid.kabsch(corrected, scanned).angle() < 1e-6


def test_motion_of_everything_is_undone() -> None:
    slices = three_stacks()
    rng = np.random.default_rng(0)
    slices = slices.moved(Rigid.exp(rng.normal(0, 0.02, (len(slices), 6))))
    drift = Rigid.exp([5.0, 3.0, -8.0, 0.2, -0.1, 0.3])
    drifted = slices.moved(drift @ slices.motion)
    kept, again = (gauge(where, 1, full(slices)) @ where.motion for where in (slices, drifted))
    np.testing.assert_allclose(again.matrix, kept.matrix, atol=1e-9)
    assert distance(slices, drifted.pose, again @ slices.frame).min() > 5


def test_slices_without_trust_do_not_hold_the_frame() -> None:
    slices = three_stacks()
    astray = np.arange(len(slices)) == slices.in_time(1)[3]
    moved = slices.moved(Rigid.exp(np.outer(astray, [9.0, 9, 9, 0.5, 0, 0])))
    np.testing.assert_allclose(gauge(moved, 1, np.where(astray, 0.0, 1.0)).matrix, np.eye(4), atol=1e-9)
    # Where none is trusted, all count.
    assert gauge(moved, 1, full(slices, 0.0)).angle() > 1e-3
