"""JSON is read as programs and people write it; what is none is refused by problem."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nifti_files import refused

from slicesplat.io.files import load_json
from slicesplat.io.json_text import MAX_BYTES, read_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_make_no_difference(tmp_path: Path, encoding: str, line: str) -> None:
    content = {"SliceThickness": 3.5, "Institution": "Zürich"}
    path = tmp_path / "s.json"
    path.write_bytes(json.dumps(content, indent=1, ensure_ascii=False).replace("\n", line).encode(encoding))
    assert read_json(path, "repair it") == content
    assert load_json(path) == content


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1, "b": "Z\xfcrich"}'.encode("latin-1"),
        b'{"a": 1, "b": "one\x0dtwo\x00three"}',
        b'{"a": 1, "b": [1, 2, ], }',
        b'{"a": 1, "b": "a comma,] or two,}",\n}',
        b'{"a": 1, "a": 1}',
    ],
)
def test_faults_that_no_number_hangs_on_do_not_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.json").write_bytes(content)
    assert read_json(tmp_path / "s.json", "repair it")["a"] == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "line 1: expecting value"),
        (b'{\n"a": 1\n"b": 2}', "line 3: "),
        (b'{"a": 3,5}', "line 1: "),
        (b'{"a": ,}', "line 1: "),
        (b'{"a": "Jane Doe', "line 1: unterminated string"),
        (b"{'a': 1}", "line 1: "),
        (b"[" * 100_000, "too deeply nested"),
        (b'{"a":' * 100_000, "too deeply nested"),
        (b'{"a": ' + b"9" * 5000 + b"}", "an integer of thousands of digits"),
        (b"\x89PNG\r\n", "line 1: "),
        (b"0 " * (MAX_BYTES // 2 + 1), "more than 16 MiB"),
    ],
)
def test_what_is_no_json_is_refused_by_problem(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "s.json").write_bytes(content)
    refused(lambda: read_json(tmp_path / "s.json", "repair it"), "s.json", f"is not readable JSON ({told}")
    refused(lambda: load_json(tmp_path / "s.json"), "s.json", f"is not readable JSON ({told}")
    with pytest.raises(ValueError, match="JSON") as caught:
        load_json(tmp_path / "s.json")
    assert "Jane" not in str(caught.value)


def test_a_folder_is_no_json(tmp_path: Path) -> None:
    refused(lambda: load_json(tmp_path), str(tmp_path), "is a folder")
