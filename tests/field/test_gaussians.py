"""The volume is a sum of anisotropic Gaussians."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation

from slicesplat.errors import InputError
from slicesplat.field.gaussians import GaussianField, rotation_matrices


@pytest.fixture
def field() -> GaussianField:
    rng = np.random.default_rng(5)
    n = 12
    parameters = (rng.uniform(-5, 5, (n, 3)), rng.uniform(-1, 1.5, (n, 3)), rng.normal(size=(n, 4)), rng.normal(size=n))
    return GaussianField(*map(torch.from_numpy, parameters))


def test_quaternions_are_scalar_first_and_of_any_length(field: GaussianField) -> None:
    expected = Rotation.from_quat(field.rotations.numpy(), scalar_first=True).as_matrix()
    for length in (1.0, 1e-3, 40.0):
        np.testing.assert_allclose(rotation_matrices(length * field.rotations).numpy(), expected, atol=1e-14)


def test_covariances_are_symmetric_and_positive(field: GaussianField) -> None:
    covariances = field.covariances()
    np.testing.assert_allclose(covariances, covariances.mT, rtol=0, atol=1e-13)
    variances = torch.linalg.eigvalsh(covariances)
    expected = (2 * field.log_scales).exp().sort(dim=-1).values
    np.testing.assert_allclose(variances, expected, rtol=1e-10)


def test_a_gaussian_alone_gives_its_amplitude_at_its_mean(field: GaussianField) -> None:
    for j in range(len(field)):
        alone = field.select(torch.tensor([j]))
        assert alone.evaluate(alone.means).item() == pytest.approx(field.amplitudes[j].item())


def test_one_standard_deviation_along_an_axis(field: GaussianField) -> None:
    alone = field.select(torch.tensor([0]))
    axes = rotation_matrices(alone.rotations)[0].T * alone.log_scales[0].exp()[:, None]
    np.testing.assert_allclose(
        alone.evaluate(alone.means + axes), alone.amplitudes.expand(3) * np.exp(-0.5), rtol=1e-12
    )


def test_the_field_is_the_sum_of_its_parts(field: GaussianField) -> None:
    points = torch.from_numpy(np.random.default_rng(6).uniform(-6, 6, (20, 3)))
    parts = [field.select(torch.arange(5)), field.select(torch.arange(5, 12))]
    np.testing.assert_allclose(sum(part.evaluate(points) for part in parts), field.evaluate(points), atol=1e-14)
    whole = GaussianField.concatenate(parts)
    assert all(torch.equal(value, field.tensors()[name]) for name, value in whole.tensors().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_field_comes_back_bit_by_bit(field: GaussianField, dtype: torch.dtype, tmp_path: Path) -> None:
    saved = field.to(dtype)
    saved.means.requires_grad_()
    saved.save(tmp_path / "field.safetensors")
    loaded = GaussianField.load(tmp_path / "field.safetensors")
    for name, value in saved.tensors().items():
        assert loaded.tensors()[name].dtype == dtype
        assert torch.equal(loaded.tensors()[name], value.detach())


def with_row(tensor: torch.Tensor, value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[3] = value
    return changed


BAD_TENSORS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "none": (lambda t: {}, "tensors are not"),
    "missing": (lambda t: {name: t[name] for name in t if name != "rotations"}, "tensors are not"),
    "additional": (lambda t: {**t, "colours": t["means"].clone()}, "tensors are not"),
    "empty": (lambda t: {name: value[:0] for name, value in t.items()}, "no Gaussian"),
    "a number": (lambda t: {**t, "amplitudes": torch.tensor(1.0)}, "no Gaussian"),
    "fewer means": (lambda t: {**t, "means": t["means"][:-1]}, "means are of shape (11, 3)"),
    "plane means": (lambda t: {**t, "means": t["means"][:, :2]}, "means are of shape (12, 2)"),
    "rotation vectors": (lambda t: {**t, "rotations": t["rotations"][:, :3]}, "rotations are of shape (12, 3)"),
    "amplitudes in columns": (lambda t: {**t, "amplitudes": t["amplitudes"][:, None]}, "amplitudes are of shape"),
    "integers": (lambda t: {**t, "amplitudes": t["amplitudes"].int()}, "not float32 or float64"),
    "half": (lambda t: {name: value.half() for name, value in t.items()}, "not float32 or float64"),
    "complex": (lambda t: {**t, "amplitudes": t["amplitudes"].to(torch.complex64)}, "not float32 or float64"),
    "NaN": (lambda t: {**t, "means": with_row(t["means"], np.nan)}, "NaN or infinite means"),
    "infinity": (lambda t: {**t, "amplitudes": with_row(t["amplitudes"], np.inf)}, "NaN or infinite amplitudes"),
    "endless": (lambda t: {**t, "log_scales": with_row(t["log_scales"], 400.0)}, "log_scales"),
    "flat": (lambda t: {**t, "log_scales": with_row(t["log_scales"], -400.0)}, "log_scales"),
    "zero quaternion": (lambda t: {**t, "rotations": with_row(t["rotations"], 0.0)}, "quaternion"),
}


@pytest.mark.parametrize(("change", "problem"), BAD_TENSORS.values(), ids=BAD_TENSORS.keys())
def test_file_that_holds_no_field_is_refused_in_one_line(
    tmp_path: Path,
    field: GaussianField,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    problem: str,
) -> None:
    path = tmp_path / "model.safetensors"
    try:
        save_file({name: value.contiguous() for name, value in change(field.tensors()).items()}, path)
    except KeyError as unknown:
        pytest.skip(f"this version of safetensors does not write {unknown}")
    with pytest.raises(InputError) as refusal:
        GaussianField.load(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ") and problem in message and "; " in message and "\n" not in message


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
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("make", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_file_that_is_no_safetensors_is_refused_in_one_line(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(InputError, match=r"model\.safetensors: .*; (write it again|check the file)$"):
        GaussianField.load(path)


def test_truncated_model_is_refused_wherever_it_ends(tmp_path: Path, field: GaussianField) -> None:
    path = tmp_path / "model.safetensors"
    field.save(path)
    whole = path.read_bytes()
    for end in (1, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match="damaged"):
            GaussianField.load(path)


def test_missing_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.safetensors: no such file; check the path"):
        GaussianField.load(tmp_path / "none.safetensors")
