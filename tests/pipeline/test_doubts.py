"""What a user should look at is in the log."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from brains import registered, scan
from reconstructions import result

from slicesplat.config import Config, RegistrationSettings
from slicesplat.geometry.rigid import Rigid
from slicesplat.pipeline import register
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


def test_registered_slices_whose_place_is_hardly_known_are_left_out() -> None:
    made = registered("moderate")
    known_to = float(np.quantile(made.standard_error, 0.9))
    again = register(scan("moderate").stacks, Config(threads=1, registration=RegistrationSettings(known_to=known_to)))
    np.testing.assert_array_equal(again.standard_error, made.standard_error)
    unknown = made.standard_error > known_to
    assert unknown.any()
    np.testing.assert_array_equal(again.weight, np.where(unknown, 0.0, made.weight))


def test_nothing_is_said_of_poses_that_were_given(caplog: pytest.LogCaptureFixture) -> None:
    made = result()
    unknown = np.full(len(made.slices), np.nan)
    with caplog.at_level(logging.INFO, logger="slicesplat"):
        log_doubts(replace(made, standard_error=unknown))
    assert not [line for line in caplog.messages if "counting from 0" in line]
