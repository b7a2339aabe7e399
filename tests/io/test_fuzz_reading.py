"""Whatever is in a file, it is read or refused in one line: quickly, and without asking for memory.

A few seconds of every test run; 20,000 mutations behind the marker `slow`.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nifti_files import SHAPE, blob, plain_affine, write
from rich.console import Console

from slicesplat.commands.evaluate import Command as Evaluate
from slicesplat.errors import InputError
from slicesplat.io.files import load_json
from slicesplat.io.nifti import load_volume
from slicesplat.prepare.load import load_stacks

FEW, MANY = 60, 5000
"""Mutations a kind of file: of every test run, and of the slow one, whose kinds make 20,000 together."""
SECONDS = 2.0
"""Processor time of one case."""
MEGABYTES = 1000
"""Growth of the process's peak."""

NUMBERS = [0.0, -1.0, 1.0, 1e-3, 1e3, 1e9, -1e30, 3e38, 1e-42, float("nan"), float("inf")]
INTEGERS = [-32768, -1, 0, 1, 2, 3, 4, 7, 8, 16, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 32767]
# Offsets in nifti1.h.
SHORTS = [*range(40, 56, 2), 70, 72, 74, 252, 254]
FLOATS = [*range(76, 108, 4), 108, 112, 116, *range(256, 328, 4)]
NAMES = [
    "s.nii",
    "s.nii.gz",
    "s.NII",
    "s.hdr",
    "s.img",
    "s.mgz",
    "s.PAR",
    "s.gii",
    "s.mnc",
    "s.nii.bz2",
    "s",
    "x" * 300,
]

short_edits = st.tuples(st.sampled_from(SHORTS), st.just("h"), st.sampled_from(INTEGERS))
float_edits = st.tuples(st.sampled_from(FLOATS), st.just("f"), st.sampled_from(NUMBERS) | st.floats(width=32))
byte_edits = st.tuples(st.integers(0, 400), st.just("B"), st.integers(0, 255))
edits = st.lists(short_edits | float_edits | byte_edits, min_size=1, max_size=4)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def images(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file's name and content: a good image with fields changed, cut, prolonged, and packed well or badly."""
    kind = draw(st.sampled_from([nib.Nifti1Image, nib.Nifti1Image, nib.Nifti2Image]))
    order = draw(st.sampled_from("<>"))
    image = kind(
        blob().astype(draw(st.sampled_from(["f4", "i2", "f8"]))), plain_affine(), kind.header_class(endianness=order)
    )
    content = bytearray(image.to_bytes())
    for offset, layout, value in draw(edits):
        struct.pack_into(order + layout, content, offset, value)
    content = content[: draw(st.just(len(content)) | st.integers(0, len(content)))]
    content += b"\0" * draw(st.sampled_from([0, 0, 1, 512, 3 << 20]))
    if draw(st.booleans()):
        content = bytearray(gzip.compress(bytes(content), 1))
        for position in draw(st.lists(st.integers(0, len(content) - 1), max_size=2)):
            content[position] ^= 0x55
    return draw(st.sampled_from(NAMES[:2]) | st.sampled_from(NAMES)), bytes(content)


@st.composite
def json_texts(draw: st.DrawFn, good: bytes) -> bytes:
    """A JSON file: the good one with bytes changed, another document, or one that goes on and on."""
    document = draw(st.sampled_from(["edit", "other", "entry", "deep"]))
    if document == "deep":
        return draw(st.sampled_from([b"[", b'{"a":', b"9", b'"', b"\xff\xfe["])) * draw(
            st.sampled_from([1, 5000, 100_000])
        )
    if document == "other":
        return json.dumps(draw(json_values)).encode(draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "utf-8"])))
    if document == "entry":
        entries = json.loads(good)
        entries[draw(st.sampled_from(sorted(entries)))] = draw(json_values)
        return json.dumps(entries).encode()
    content = bytearray(good)
    for position, value in draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=5)):
        content[position] = value
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


def read_or_refused(read: Callable[[], object]) -> None:
    """No other exception, one line, and neither long nor large."""
    start = time.process_time()
    try:
        read()
    except InputError as error:
        assert "\n" not in str(error)
        assert "; " in str(error), error
    assert time.process_time() - start < SECONDS


def peak_megabytes() -> float:
    """Of this process; 0 where it cannot be told."""
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(params=[FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def fuzzed(request: pytest.FixtureRequest) -> Callable[[st.SearchStrategy, Callable], None]:
    """Run a check on so many drawn values, the same ones every time."""

    def run(strategy: st.SearchStrategy, check: Callable) -> None:
        before = peak_megabytes()
        limits = settings(
            max_examples=request.param,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        limits(given(strategy)(lambda value: read_or_refused(lambda: check(value))))()
        assert peak_megabytes() - before < MEGABYTES

    return run


def test_any_stack_or_volume_is_read_or_refused(folder: Path, fuzzed: Callable) -> None:
    def check(drawn: tuple[str, bytes]) -> None:
        path = folder / drawn[0]
        if len(drawn[0]) < 256:
            path.write_bytes(drawn[1])
        try:
            (stack,) = load_stacks([path])
            assert np.isfinite(stack.data).all() and np.isfinite(stack.affine).all() and stack.thickness > 0
            load_volume(path)
        finally:
            if len(drawn[0]) < 256:
                path.unlink()

    fuzzed(images(), check)


def test_any_mask_is_read_or_refused(folder: Path, fuzzed: Callable) -> None:
    stack = write(folder / "good.nii", blob())

    def check(drawn: tuple[str, bytes]) -> None:
        (folder / "mask.nii.gz").write_bytes(drawn[1])
        load_stacks([stack], [folder / "mask.nii.gz"])

    fuzzed(images(), check)


def test_any_sidecar_is_read_or_refused(folder: Path, fuzzed: Callable) -> None:
    stack = write(folder / "beside.nii", blob())

    def check(content: bytes) -> None:
        (folder / "beside.json").write_bytes(content)
        load_stacks([stack])

    good = b'{"SliceThickness": 3.0, "SliceEncodingDirection": "k", "Institution": "somewhere"}'
    fuzzed(json_texts(good), check)


def test_any_result_is_scored_or_refused(folder: Path, fuzzed: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    volume = write(folder / "truth.nii.gz", blob())
    for name in ("truth-mask", "mask-1"):
        write(folder / f"{name}.nii.gz", np.ones(SHAPE, np.uint8))
    slices = [{"stack": 0, "slice": k, "world_transform": np.eye(4).tolist(), "weight": 1.0} for k in range(SHAPE[2])]
    files = {
        "result.json": json.dumps({"slices": slices}).encode(),
        "truth.json": json.dumps({"centre": [0, 0, 0], "poses_deg_mm": [[[0.0] * 6] * SHAPE[2]]}).encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = Evaluate(volume=volume, simulation=folder, result_json=folder / "result.json", register=False, quiet=True)

    def check(drawn: tuple[str, bytes]) -> None:
        name, content = drawn
        try:
            (folder / name).write_bytes(content)
            load_json(folder / name)
            command.execute(Console(quiet=True))
        finally:
            (folder / name).write_bytes(files[name])
            capsys.readouterr()

    fuzzed(st.one_of(*(st.tuples(st.just(name), json_texts(good)) for name, good in files.items())), check)
