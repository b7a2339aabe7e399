"""What stands in the JSON file beside an image is read where there is one way to understand it."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import pytest
from nifti_files import refused

from slicesplat.io.sidecar import sidecar_of, stated_axis, stated_thickness, stated_times, stem_of


@pytest.mark.parametrize(
    ("value", "thickness"),
    [(3, 3.0), (2.5, 2.5), ("3.0", 3.0), ("3,5", 3.5), (" 3 mm ", 3.0), ("3.", 3.0), (".5", 0.5), (None, None)],
)
def test_a_thickness_is_read_as_number_or_text(tmp_path: Path, value: object, thickness: float | None) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"SliceThickness": value}))
    assert stated_thickness(tmp_path / "s.json") == thickness


@pytest.mark.parametrize(
    "value", [True, False, [3], {"mm": 3}, "", "thick", "3 m", "3,000.5", "1_0", "nan", "٣", 10**400]
)
def test_a_thickness_that_is_no_number_of_mm_is_refused(tmp_path: Path, value: object) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"SliceThickness": value}))
    refused(
        lambda: stated_thickness(tmp_path / "s.json"), "s.json", "its SliceThickness cannot be read, it is no number"
    )


@pytest.mark.parametrize(
    ("direction", "axis"),
    [
        ("i", 0),
        ("j", 1),
        ("k", 2),
        ("k-", 2),
        ("i-", 0),
        ("", None),
        ("x", None),
        ("kk", None),
        (2, None),
        (None, None),
    ],
)
def test_the_slice_axis_is_that_of_slice_encoding_direction(
    tmp_path: Path, direction: object, axis: int | None
) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"SliceEncodingDirection": direction}))
    assert stated_axis(tmp_path / "s.json") == axis


def test_what_is_not_told_is_none(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")
    for name in ("s.json", "none.json"):
        assert stated_thickness(tmp_path / name) is None
        assert stated_axis(tmp_path / name) is None


def test_a_damaged_sidecar_is_refused_by_who_needs_it(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{")
    assert stated_axis(tmp_path / "s.json") is None
    refused(lambda: stated_thickness(tmp_path / "s.json"), "s.json", "is not readable JSON (line 1")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.NII.GZ", "a.hdr", "a.img.gz", "a.nii.bz2", "a"])
def test_a_sidecar_lies_beside_its_image(name: str) -> None:
    assert stem_of(Path("x") / name) == "a"
    assert sidecar_of(Path("x") / name) == Path("x/a.json")


def test_a_sidecar_may_be_called_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "a.JSON").write_text('{"SliceThickness": 2}')
    assert stated_thickness(sidecar_of(tmp_path / "a.nii")) == 2.0
    # Where case does not count it is the same file.
    (tmp_path / "a.json").write_text('{"SliceThickness": 3}')
    assert stated_thickness(sidecar_of(tmp_path / "a.nii")) == 3.0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pipe")
def test_a_pipe_beside_an_image_is_no_sidecar(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    assert stated_thickness(sidecar_of(tmp_path / "a.nii")) is None


@pytest.mark.parametrize(
    ("content", "times"),
    [
        ('{"SliceTiming": [0, 1.5, 0.7]}', [0.0, 1.5, 0.7]),
        ('{"SliceTiming": [0, 1.5, 0.7], "SliceEncodingDirection": "k-"}', [0.7, 1.5, 0.0]),
        ('{"SliceTiming": [0, 1.5, 0.7], "SliceEncodingDirection": "j"}', [0.0, 1.5, 0.7]),
        ('{"SliceTiming": [0, 1.5]}', None),
        ('{"SliceTiming": [0, 0, 0]}', None),
        ('{"SliceTiming": [0, null, null]}', None),
        ('{"SliceTiming": [0, "1", 2]}', None),
        ('{"SliceTiming": [0, NaN, 2]}', None),
        ('{"SliceTiming": 1}', None),
        ("{", None),
        ("[]", None),
        (None, None),
    ],
)
def test_slice_times_are_read_or_not_at_all(tmp_path: Path, content: str | None, times: list[float] | None) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    assert stated_times(tmp_path / "s.json", 3) == times


def test_a_slice_that_is_missing_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"SliceTiming": [0, null, 2]}')
    found = stated_times(tmp_path / "s.json", 3)
    assert found is not None and math.isnan(found[1]) and [found[0], found[2]] == [0.0, 2.0]
