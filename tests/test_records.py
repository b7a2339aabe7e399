"""A slice's record is the same inside the program and in a file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from slicesplat.geometry.rigid import Rigid
from slicesplat.records import USED_WEIGHT, SliceRecord

MOVED = Rigid.exp([1.0, 2.0, 3.0, 0.1, -0.2, 0.3]).matrix
RECORD = SliceRecord(1, 7, MOVED, weight=0.123456, gain=1.23456, ncc=0.98765, standard_error=0.123456, held=True)


def test_record_comes_back_from_its_file() -> None:
    entry = json.loads(json.dumps(RECORD.json()))
    names = ["weight", "gain", "ncc", "standard_error", "held", "left_out"]
    assert list(entry) == ["stack", "slice", "world_transform", *names]
    assert [entry[name] for name in names] == [0.1235, 1.2346, 0.9877, 0.1235, True, None]
    again = SliceRecord.from_json(entry)
    assert again.world_transform.tobytes() == MOVED.tobytes()
    assert again.json() == RECORD.json()


def test_place_and_transform_are_enough() -> None:
    record = SliceRecord.from_json({"stack": 0, "slice": 2, "world_transform": np.eye(4).tolist()})
    assert record.used and record.weight == record.gain == 1 and not record.held
    assert np.isnan(record.ncc) and np.isnan(record.standard_error)
    # JSON knows no NaN.
    assert np.isnan(SliceRecord.from_json({**RECORD.json(), "ncc": None}).ncc)


@pytest.mark.parametrize(("weight", "used"), [(0.0, False), (0.99 * USED_WEIGHT, False), (USED_WEIGHT, True)])
def test_slice_is_used_from_one_weight_on(weight: float, used: bool) -> None:
    assert SliceRecord(0, 0, MOVED, weight).used is used


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"stack": 0, "slice": 0},
        {**RECORD.json(), "stack": -1},
        {**RECORD.json(), "world_transform": [[1.0, 0.0]]},
        {**RECORD.json(), "world_transform": np.full((4, 4), np.inf).tolist()},
        {**RECORD.json(), "weight": "much"},
    ],
)
def test_what_is_no_record_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError)):
        SliceRecord.from_json(entry)


def test_record_prints_in_a_line() -> None:
    assert repr(RECORD) == "SliceRecord(stack 1, slice 7, weight 0.12, used)"
    assert repr(SliceRecord(0, 1, MOVED, 0.0, left_out="no match")).endswith("weight 0.00, no match)")
