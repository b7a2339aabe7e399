"""What a user should look at is in the log."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from reconstructions import result

from slicesplat.geometry.rigid import Rigid
from slicesplat.pipeline.doubts import log_doubts


def test_slices_that_do_not_show_where_they_are_and_slices_off_their_neighbours_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = result()
    held, odd = (made.slices.in_time(stack)[2] for stack in (0, 1))
    jump = np.zeros((len(made.slices), 6))
    jump[odd] = [0, 0, 8, 0.4, 0, 0]
    slices = made.slices.moved(Rigid.exp(jump) @ made.poses)
    weight, known = np.ones(len(slices)), np.full(len(slices), 0.1)
    known[held] = 0.7
    is_held = np.arange(len(slices)) == held
    with caplog.at_level(logging.INFO, logger="slicesplat"):
        log_doubts(replace(made, slices=slices, weight=weight, standard_error=known, held=is_held))
    said = [line for line in caplog.messages if "counting from 0" in line]
    first, second = (next(line for line in said if line.startswith(made.stacks[stack].name)) for stack in (0, 1))
    assert f"slices {slices.index[held]} (counting from 0) do not show where they are" in first
    assert "known to 0.7 mm" in first
    assert str(slices.index[odd]) in second and "where their neighbours in time are" in second


def test_nothing_is_said_of_poses_that_were_given(caplog: pytest.LogCaptureFixture) -> None:
    made = result()
    unknown = np.full(len(made.slices), np.nan)
    with caplog.at_level(logging.INFO, logger="slicesplat"):
        log_doubts(replace(made, standard_error=unknown))
    assert not [line for line in caplog.messages if "counting from 0" in line]
