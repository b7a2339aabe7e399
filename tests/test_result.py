"""A result says what was asked, what it took, and what was found."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from reconstructions import COMPILING, STEPS, brief, result, small

from slicesplat.geometry.stack import Stack
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


def test_json_says_what_was_asked_what_it_took_and_where_every_slice_is() -> None:
    made = result()
    written = json.loads(json.dumps(made.json(), allow_nan=False))
    assert written["settings"]["resolution"] == 1.4
    assert {"settings", "versions", "steps", "reference_stack", "gaussians", "noise", "slices"} <= written.keys()
    assert {"slicesplat", "python", "torch", "numba", "numpy"} <= written["versions"].keys()
    assert [step["step"].replace(COMPILING, STEPS[0]) for step in written["steps"]] == STEPS
    for step in written["steps"]:
        assert step["seconds"] >= 0 and step["peak_memory_mb"] > 10
    assert written["gaussians"] == len(made.field) > 100
    keys = set()
    for record in written["slices"]:
        assert record.keys() >= {"stack", "slice", "world_transform", "weight", "gain"}
        transform = np.array(record["world_transform"])
        np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(transform[3], [0, 0, 0, 1])
        assert 0 <= record["weight"] <= 1 and 0.2 <= record["gain"] <= 5
        keys.add((record["stack"], record["slice"]))
    # Every slice that shows enough of the region, once.
    expected = {
        (i, k)
        for i, stack in enumerate(small().stacks)
        for k in range(stack.n_slices)
        if stack.mask[:, :, k].sum() >= 16
    }
    assert keys == expected and len(written["slices"]) == len(expected)


def test_a_result_has_its_verdict_and_so_has_its_json() -> None:
    made = result()
    assert made.verdict.grade == "pass" and not made.verdict.reasons
    lost = replace(made, weight=np.zeros(len(made.slices)))
    assert lost.verdict.grade == "fail"
    assert lost.json()["verdict"] == {"grade": "fail", "reasons": list(lost.verdict.reasons)}
    # Counted by the stacks that were given, one of which was left out.
    counted = lost.counted([small().stacks[0], *small().stacks], [1, 2, 3])
    assert any("stack 4 of 4" in reason for reason in counted.verdict.reasons)


def test_simulated_stacks_are_the_measured_ones_without_noise() -> None:
    scale = np.float32(20)
    stacks = [small().stacks[0], replace(small().stacks[1], data=small().stacks[1].data * scale), small().stacks[2]]
    made = brief(stacks)
    for given, predicted in zip(stacks, made.simulated(), strict=True):
        np.testing.assert_array_equal(predicted.affine, given.affine)
        assert predicted.data.shape == given.data.shape and predicted.data.dtype == np.float32
        used = given.mask & (given.mask.sum(axis=(0, 1)) >= 16)
        assert np.corrcoef(predicted.data[used], given.data[used])[0, 1] > 0.9
        # Each on its own scale.
        assert predicted.data[used].mean() == pytest.approx(given.data[used].mean(), rel=0.03)


def test_uneven_light_is_told_for_every_stack_and_shown_on_the_simulated_ones() -> None:
    config = SimulationConfig(motion="none", pixel=1.6, spacing=2.4, thickness=2.4, dropout=0.0, noise=0.02, seed=1)
    even = simulate(*brain_phantom(40.0, 1.4), config).stacks

    def lit(number: int) -> Stack:
        ramp = 1 + 0.3 * np.linspace(-1, 1, even[number].data.shape[number % 2], dtype=np.float32)
        ramp = ramp.reshape((-1, 1, 1) if number % 2 == 0 else (1, -1, 1))
        return replace(even[number], data=even[number].data * ramp)

    stacks = [lit(number) for number in range(3)]
    made, plain = brief(stacks, motion="none"), brief(even, motion="none")
    assert [record.stack for record in made.bias] == [0, 1, 2]
    assert all(record.own > 1.15 and record.common == 1.0 for record in made.bias)
    assert all(record.own == 1.0 for record in plain.bias) and plain.lit is None
    assert made.json()["bias_fields"] == [record.json() for record in made.bias]
    for stack, predicted in zip(stacks, made.simulated(), strict=True):
        assert np.corrcoef(stack.data[stack.mask], predicted.data[stack.mask])[0, 1] > 0.9
