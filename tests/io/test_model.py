"""A model file comes back as it was, says nothing about anybody, and is refused where it is no model."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import made_up, one_gaussian
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from slicesplat.errors import InputError
from slicesplat.io.model import Model, load_model, save_model

Tensors = dict[str, torch.Tensor]


def parts(model: Model) -> Tensors:
    fields = {"": model.field, "region.": model.region, "background.": model.background}
    return {
        prefix + name: value for prefix, field in fields.items() if field for name, value in field.tensors().items()
    }


@pytest.fixture
def model() -> Model:
    return made_up(offset=-12.5, unit=2.0, slice_profile="box", background=one_gaussian(), margin=15.0)


def test_saved_model_comes_back_bit_by_bit(tmp_path: Path, model: Model) -> None:
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert parts(loaded).keys() == parts(model).keys()
    assert all(torch.equal(value, parts(model)[name]) for name, value in parts(loaded).items())
    for name in ("scale", "unit", "offset", "resolution", "slice_profile", "margin", "space", "brightest"):
        assert getattr(loaded, name) == getattr(model, name)


def test_same_model_gives_the_same_bytes(tmp_path: Path, model: Model) -> None:
    written = []
    for number in range(8):
        save_model(model, tmp_path / f"{number}.safetensors")
        written.append((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(set(written)) == 1


def test_metadata_are_numbers_and_names_of_settings(tmp_path: Path, model: Model) -> None:
    save_model(model, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as content:
        metadata = content.metadata()
    assert metadata.keys() == {"slicesplat"}
    told = json.loads(metadata["slicesplat"])
    assert {name for name, value in told.items() if isinstance(value, str)} == {"slice_profile", "space"}
    assert str(tmp_path).encode() not in (tmp_path / "model.safetensors").read_bytes()


# --- files of others


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "; " in message and "\n" not in message
    return message


def with_row(tensor: torch.Tensor, value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[3] = value
    return changed


BAD_TENSORS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "none": (lambda t: {}, "tensors are not"),
    "missing": (lambda t: {name: t[name] for name in t if name != "rotations"}, "tensors are not"),
    "additional": (lambda t: {**t, "colours": t["means"].clone()}, "tensors are not"),
    "no region": (lambda t: {name: t[name] for name in t if "." not in name}, "tensors are not"),
    "empty": (lambda t: {name: value[:0] for name, value in t.items()}, "no Gaussian"),
    "empty region": (
        lambda t: {n: v[:0] if n.startswith("region") else v for n, v in t.items()},
        "no Gaussian in region",
    ),
    "a number": (lambda t: {**t, "amplitudes": torch.tensor(1.0)}, "no Gaussian"),
    "fewer means": (lambda t: {**t, "means": t["means"][:-1]}, "means are of shape"),
    "plane means": (lambda t: {**t, "means": t["means"][:, :2]}, "means are of shape"),
    "rotation vectors": (lambda t: {**t, "rotations": t["rotations"][:, :3]}, "rotations are of shape"),
    "amplitudes in columns": (lambda t: {**t, "amplitudes": t["amplitudes"][:, None]}, "amplitudes are of shape"),
    "integers": (lambda t: {**t, "amplitudes": t["amplitudes"].int()}, "not float32 or float64"),
    "half": (lambda t: {name: value.half() for name, value in t.items()}, "not float32 or float64"),
    "complex": (lambda t: {**t, "amplitudes": t["amplitudes"].to(torch.complex64)}, "not float32 or float64"),
    "NaN": (lambda t: {**t, "means": with_row(t["means"], np.nan)}, "NaN or infinite means"),
    "infinity": (lambda t: {**t, "amplitudes": with_row(t["amplitudes"], np.inf)}, "NaN or infinite amplitudes"),
    "endless": (lambda t: {**t, "log_scales": with_row(t["log_scales"], 400.0)}, "log_scales"),
    "as large as a room": (lambda t: {**t, "log_scales": with_row(t["log_scales"], 8.0)}, "log_scales"),
    "flat": (lambda t: {**t, "log_scales": with_row(t["log_scales"], -400.0)}, "log_scales"),
    "far away": (lambda t: {**t, "means": with_row(t["means"], 1e6)}, "beyond all scanners"),
    "a region of metres": (
        lambda t: {**t, "region.means": with_row(t["region.means"], 5e3)},
        "a region of more than 1000 mm",
    ),
    "zero quaternion": (lambda t: {**t, "rotations": with_row(t["rotations"], 0.0)}, "quaternion"),
}


@pytest.mark.parametrize(("change", "problem"), BAD_TENSORS.values(), ids=BAD_TENSORS.keys())
def test_file_that_holds_no_volume_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[Tensors], Tensors], problem: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(made_up(), path)
    with safe_open(path, framework="pt") as content:
        metadata = content.metadata()
    try:
        save_file({name: value.contiguous() for name, value in change(load_file(path)).items()}, path, metadata)
    except KeyError as unknown:
        pytest.skip(f"this version of safetensors does not write {unknown}")
    assert problem in refusal(path)


BAD_SETTINGS: dict[str, tuple[Any, str]] = {
    "none": (None, "no slicesplat metadata"),
    "no JSON": ("{", "damaged metadata"),
    "nested without end": ("[" * 100_000, "damaged metadata"),
    "a list": ("[1]", "another version"),
    "a later version": ({"version": 2}, "another version"),
    "less": ({"scale": None}, "scale of another kind"),
    "a text for a number": ({"scale": "800"}, "scale of another kind"),
    "a truth for a number": ({"offset": True}, "offset of another kind"),
    "a number for a name": ({"slice_profile": 3}, "slice_profile of another kind"),
    "no scale": ({"scale": 0}, "scale 0"),
    "infinite": ({"unit": 10**400}, "unit inf"),
    "NaN": ({"offset": float("nan")}, "offset nan"),
    "no resolution": ({"resolution": 1e-6}, "resolution 1e-06 mm"),
    "another profile": ({"slice_profile": "../../etc/passwd"}, "slice profile"),
    "another space": ({"space": "mars"}, "space 'mars'"),
    "wide": ({"margin": 1e9}, "margin"),
    "more": ({"patient": "x"}, "metadata that do not say"),
}


@pytest.mark.parametrize(("settings", "problem"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_metadata_that_are_none_are_refused_in_one_line(tmp_path: Path, settings: Any, problem: str) -> None:
    path = tmp_path / "model.safetensors"
    save_model(made_up(), path)
    if isinstance(settings, dict):
        with safe_open(path, framework="pt") as content:
            settings = json.dumps({**json.loads(content.metadata()["slicesplat"]), **settings})
    save_file(load_file(path), path, None if settings is None else {"slicesplat": settings})
    assert problem in refusal(path)


def raw_safetensors(path: Path, header: bytes, body: bytes = b"", size: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + body)


def tensor_of(**entry: object) -> bytes:
    return json.dumps({"means": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **entry}}).encode()


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "another program's": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(range(200))),
    "a header longer than the file": lambda path: raw_safetensors(path, b"{}", size=2**62),
    "a header that is no JSON": lambda path: raw_safetensors(path, b"{{{{"),
    "data beyond the end": lambda path: raw_safetensors(path, tensor_of(data_offsets=[0, 10**12]), b"1234"),
    "a negative shape": lambda path: raw_safetensors(path, tensor_of(shape=[-1]), b"1234"),
    "a type that nobody knows": lambda path: raw_safetensors(path, tensor_of(dtype="F128"), b"1234"),
}


@pytest.mark.parametrize("make", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_file_that_is_no_safetensors_is_refused_in_one_line(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "model.safetensors"
    make(path)
    assert refusal(path).endswith("; write it again")


def test_model_of_another_tool_is_refused_by_its_kind(tmp_path: Path) -> None:
    torch.save({"model": torch.ones(3)}, tmp_path / "model.pt")
    assert "is a PyTorch file" in refusal(tmp_path / "model.pt")


def test_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    assert "is a folder; name the model file in it" in refusal(tmp_path)
    assert "no such file; check the path" in refusal(tmp_path / "none.safetensors")


def test_truncated_model_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(made_up(), path)
    whole = path.read_bytes()
    for end in (1, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert "damaged" in refusal(path)
