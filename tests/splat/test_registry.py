"""A backend is chosen by name, and refused by one line where it cannot be used."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from slicesplat.solvers.replay import Replay, repeated
from slicesplat.splat import CPU, Backend, CpuForwardModel, available_backends, choose_backend, register, registry


def test_a_backend_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("cpu") is CPU
    assert choose_backend("auto").name == available_backends()[0]
    with pytest.raises(ValueError, match=r"device 'tpu': choose auto, cpu or cuda$"):
        choose_backend("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert available_backends() == ("cpu",)
    with pytest.raises(ValueError, match="use --device cpu"):
        choose_backend("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("slicesplat.splat.registry.find_spec", lambda name: None)
    assert choose_backend("auto") is CPU
    with pytest.raises(ValueError, match="Triton is not installed"):
        choose_backend("cuda")


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton not installed")
def test_cuda_is_preferred_where_there_is_a_device_and_a_compiler_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert available_backends() == ("cuda", "cpu")
    found = choose_backend("auto")
    assert (found.name, found.device.type) == ("cuda", "cuda")


def test_each_choice_looks_once_whether_a_device_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(looked.append("looked")))
    assert choose_backend("auto") is CPU
    with pytest.raises(ValueError, match="no CUDA device"):
        choose_backend("cuda")
    assert choose_backend("cpu") is CPU
    assert len(looked) == 2


def test_work_is_replayed_as_a_graph_on_a_cuda_device_only() -> None:
    assert isinstance(repeated(print, "cuda"), Replay)
    assert repeated(print, "cpu") is repeated(print, "third") is print


def test_a_backend_that_is_registered_is_preferred_where_it_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "REGISTERED", registry.REGISTERED.copy())
    third = Backend("third", torch.device("cpu"), CpuForwardModel)
    reasons = [None, "there is no third; use --device cpu"]
    register("third", lambda: reasons[0], lambda: third)
    assert available_backends()[0] == "third"
    assert choose_backend("auto") is choose_backend("third") is third
    reasons.reverse()
    assert "third" not in available_backends()
    assert choose_backend("auto") is not third
    with pytest.raises(ValueError, match=r"^device 'third': there is no third; use --device cpu$"):
        choose_backend("third")
    with pytest.raises(ValueError, match="choose auto, cpu, cuda or third"):
        choose_backend("fourth")
    for taken in ("third", "cpu", "auto"):
        with pytest.raises(ValueError, match="choose another"):
            register(taken, lambda: None, lambda: third)
