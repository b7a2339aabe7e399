"""Compression is told by content, and a file is never believed to be longer than it is."""

from __future__ import annotations

import bz2
import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nifti_files import blob, edited, refused, write

from slicesplat.io.compressed import MAX_REST
from slicesplat.io.nifti import read_image

Pack = Callable[[bytes], bytes]

LITTLE = 20e6
"""Bytes: what reading a small file may need."""


@pytest.fixture
def plain(tmp_path: Path) -> bytes:
    return write(tmp_path / "plain.nii", blob()).read_bytes()


@pytest.mark.parametrize("name", ["s.nii", "s.nii.gz", "s.NII.GZ", "s.nii.bz2"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_what_is_read_does_not_depend_on_the_suffix(tmp_path: Path, plain: bytes, name: str, pack) -> None:
    (tmp_path / name).write_bytes(pack(plain))
    np.testing.assert_array_equal(read_image(tmp_path / name).data, blob())


@pytest.mark.parametrize("rest", [b"\0" * 512, b"\0" * 2])
def test_padding_after_the_last_voxel_is_no_fault(tmp_path: Path, plain: bytes, rest: bytes) -> None:
    for name, content in (
        ("a.nii", plain + rest),
        ("b.nii.gz", gzip.compress(plain + rest)),
        ("c.nii.gz", gzip.compress(plain) + rest),
    ):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_image(tmp_path / name).data, blob())


def test_a_file_of_two_gzip_members_is_read(tmp_path: Path, plain: bytes) -> None:
    (tmp_path / "s.nii.gz").write_bytes(gzip.compress(plain[:500]) + gzip.compress(plain[500:]))
    np.testing.assert_array_equal(read_image(tmp_path / "s.nii.gz").data, blob())


def test_junk_after_a_gzip_is_refused(tmp_path: Path, plain: bytes) -> None:
    (tmp_path / "s.nii.gz").write_bytes(gzip.compress(plain) + b"junk" * 9)
    refused(lambda: read_image(tmp_path / "s.nii.gz"), "s.nii.gz", "damaged gzip")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_one_byte_too_few_is_refused(tmp_path: Path, plain: bytes, pack) -> None:
    (tmp_path / "s.nii").write_bytes(pack(plain[:-1]))
    refused(lambda: read_image(tmp_path / "s.nii"), "s.nii", f"holds {len(plain) - 1} of the {len(plain)} bytes")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((500, 500, 500), "cannot be read whole"),
        ((1600, 1600, 800), "2048 million voxels"),
        ((32767, 32767, 32767), "million voxels"),
    ],
)
def test_memory_is_not_asked_for_because_a_header_says_so(
    tmp_path: Path, plain: bytes, shape: tuple[int, ...], told: str, pack: Pack
) -> None:
    lie = edited(tmp_path / "plain.nii", 42, "3h", *shape).read_bytes()
    (tmp_path / "s.nii").write_bytes(pack(lie))
    tracemalloc.start()
    try:
        refused(lambda: read_image(tmp_path / "s.nii"), "s.nii", told)
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_a_file_that_goes_on_and_on_is_refused(tmp_path: Path, plain: bytes, pack) -> None:
    (tmp_path / "s.nii").write_bytes(pack(plain + bytes(8 * MAX_REST)))
    tracemalloc.start()
    try:
        refused(lambda: read_image(tmp_path / "s.nii"), "s.nii", "goes on after")
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def test_truncated_bzip2_is_refused(tmp_path: Path, plain: bytes) -> None:
    (tmp_path / "s.nii.bz2").write_bytes(bz2.compress(plain)[:-200])
    refused(lambda: read_image(tmp_path / "s.nii.bz2"), "s.nii.bz2", "ends too early")
