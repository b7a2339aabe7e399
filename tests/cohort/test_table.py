"""A study as a table: what a row means, and what is refused, with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slicesplat.cohort.table import read_table
from slicesplat.errors import InputError


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_name_files_and_flags(tmp_path: Path) -> None:
    path = written(
        tmp_path / "study.csv",
        "id,stacks,masks,thicknesses,output-resolution,with_background,seed\n"
        'a,"one.nii.gz;two.nii.gz",one-mask.nii.gz,3;4,0.5,true,\n'
        "b,three.nii.gz,,,,no,7\n",
    )
    first, second = read_table(path)
    assert first.stacks == ("one.nii.gz", "two.nii.gz") and first.masks == ("one-mask.nii.gz",)
    assert first.options == {"--thicknesses": ("3", "4"), "--output-resolution": ("0.5",), "--with-background": ()}
    assert second.options == {"--seed": ("7",)} and second.masks == ()
    assert second.files()[0] == [tmp_path / "three.nii.gz"]


def test_the_three_kinds_say_the_same(tmp_path: Path) -> None:
    given = {"id": "a", "stacks": ["one.nii.gz", "two.nii.gz"], "thicknesses": [3, 4]}
    lines = written(tmp_path / "study.jsonl", json.dumps(given) + "\n\n")
    tabs = written(tmp_path / "study.tsv", "id\tstacks\tthicknesses\na\tone.nii.gz;two.nii.gz\t3;4\n")
    assert read_table(lines) == read_table(tabs)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,stacks\n", "has no rows"),
        ("id,masks\na,m.nii.gz\n", "line 2: has no stacks"),
        ("stacks\ns.nii.gz\n", "line 2: has no id"),
        ("id,stacks\na,s.nii.gz\nA,t.nii.gz\n", "line 3: the id A is there twice"),
        ("id,stacks\n../a,s.nii.gz\n", "line 2: '../a' is no id"),
        ("id,stacks\n.a,s.nii.gz\n", "line 2: '.a' is no id"),
        ("id,stacks,output-volume\na,s.nii.gz,v.nii.gz\n", "'output-volume' is no column"),
        ("id,stacks,threads\na,s.nii.gz,4\n", "'threads' is no column"),
        ("id,stacks,a b\na,s.nii.gz,4\n", "'a b' is no column"),
        ("id,stacks\na,s.nii.gz,t.nii.gz\n", "more cells than columns"),
    ],
)
def test_what_is_no_study_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match="; ") as refused:
        read_table(written(tmp_path / "study.csv", text))
    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[1]", '"a"', '{"id": "a", "stacks": [["b"]]}'])
def test_lines_that_are_no_objects_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="line 1"):
        read_table(written(tmp_path / "study.jsonl", text))


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no table"):
        read_table(written(tmp_path / "study.xlsx", ""))
