"""A stack shows by itself how much it moved, how it was scanned and what it lost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import slicesplat.validation.simulate as simulation
from slicesplat.cli import main
from slicesplat.geometry.stack import Stack
from slicesplat.prepare.assess import assess, assess_stack, by_motion, least_motion
from slicesplat.validation.motion import Motion
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


@cache
def scan(
    motion: Motion, size_mm: float = 70.0, interleave: int = 2, dropout: float = 0.0, seed: int = 0
) -> tuple[Stack, ...]:
    config = SimulationConfig(motion=motion, interleave=interleave, dropout=dropout, pixel=2.2, seed=seed)
    return tuple(simulate(*brain_phantom(size_mm, 2.2, seed), config).stacks)


def typical_score(stacks: tuple[Stack, ...]) -> float:
    return float(np.median([stack.motion_score for stack in assess(stacks)]))


def test_more_motion_scores_higher_whatever_the_brain() -> None:
    motions: list[Motion] = ["none", "mild", "moderate", "severe"]
    scores = [[typical_score(scan(motion, size)) for size in (55.0, 70.0)] for motion in motions]
    for less, more in pairwise(scores):
        assert max(less) < min(more)


def test_score_is_a_length() -> None:
    """Every second slice shifted by 3 mm in its plane lies 3 mm from its neighbours."""
    still = scan("none")[0]
    pixels = round(3.0 / still.spacing[0])
    data, mask = still.data.copy(), still.mask.copy()
    data[:, :, ::2] = np.roll(data[:, :, ::2], pixels, axis=0)
    mask[:, :, ::2] = np.roll(mask[:, :, ::2], pixels, axis=0)
    score = assess_stack(replace(still, data=data, mask=mask)).motion_score
    assert score == pytest.approx(pixels * still.spacing[0], abs=0.3)


def test_score_depends_neither_on_intensity_scale_nor_on_slice_gain() -> None:
    stack = scan("moderate")[0]
    gains = np.random.default_rng(1).uniform(30, 90, stack.n_slices).astype(np.float32)
    assert assess_stack(replace(stack, data=stack.data * gains)).motion_score == pytest.approx(
        assess_stack(stack).motion_score, rel=1e-2
    )


@pytest.mark.parametrize("packages", [1, 2, 3])
def test_packages_show_where_the_subject_moved(packages: int) -> None:
    assert [seen.interleave for seen in assess(scan("moderate", interleave=packages))] == [packages] * 3


def test_packages_of_a_still_subject_cannot_be_told_and_count_as_one() -> None:
    assert [seen.interleave for seen in assess(scan("none", interleave=2))] == [1, 1, 1]


def test_lost_slices_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    gains: list[np.ndarray] = []
    draw = simulation._gains

    def recorded(*args: object) -> np.ndarray:
        gains.append(draw(*args))
        return gains[-1]

    monkeypatch.setattr(simulation, "_gains", recorded)
    stacks = scan("mild", dropout=0.08, seed=3)
    lost = 0
    for stack, gain in zip(stacks, gains, strict=True):
        area = stack.mask.sum(axis=(0, 1))
        expected = np.flatnonzero((gain < 0.5) & (area > 0.2 * area.max()))
        found = assess_stack(stack).dropouts
        assert set(expected) <= set(found)
        assert (gain[list(found)] < 0.5).all()
        lost += len(expected)
    assert lost > 0


def test_still_complete_stack_lost_nothing() -> None:
    assert [stack.dropouts for stack in assess(scan("none"))] == [(), (), ()]


def test_geometry_is_told() -> None:
    stack = scan("none")[0]
    seen = assess_stack(stack)
    assert seen.n_slices == stack.mask.any(axis=(0, 1)).sum()
    assert seen.volume_cm3 == pytest.approx(stack.mask.sum() * 2.2 * 2.2 * 3.3 / 1000)
    assert (seen.thickness, seen.spacing, seen.gap) == pytest.approx((3.0, 3.3, 0.3))


def test_choice_of_the_stillest_stack_does_not_depend_on_the_order() -> None:
    stacks = [*scan("severe"), scan("mild")[1], *scan("moderate")]
    seen = assess(stacks)
    for shift in range(len(stacks)):
        turned = stacks[shift:] + stacks[:shift]
        assert turned[least_motion(turned, seen[shift:] + seen[:shift])] is stacks[3]
    assert stacks[least_motion(stacks)] is stacks[3]


def test_tie_is_broken_by_content() -> None:
    stack = scan("mild")[0]
    elsewhere = stack.affine.copy()
    elsewhere[:3, 3] += 1.0
    pair = [stack, replace(stack, affine=elsewhere)]
    assert pair[::-1][least_motion(pair[::-1])] is pair[least_motion(pair)]


def test_stack_that_covers_a_part_only_is_no_reference() -> None:
    moved, still = scan("moderate")[0], scan("none")[0]
    mask = still.mask.copy()
    mask[:, :, : still.n_slices * 2 // 3] = False
    assert least_motion([replace(still, mask=mask), moved]) == 1
    with pytest.raises(ValueError, match="no stack"):
        least_motion([])


def test_a_stack_of_noise_is_no_reference_however_little_it_seems_to_move() -> None:
    moved = scan("severe")[0]
    sigma = 0.03 * np.percentile(moved.data, 99)
    noise = np.hypot(*np.random.default_rng(0).normal(0, sigma, (2, *moved.data.shape))).astype(np.float32)
    empty = replace(moved, data=noise)
    seen = assess([empty, moved])
    assert seen[0].noise_share == pytest.approx(1.0, abs=0.1) and seen[1].noise_share < 0.2
    still = replace(seen[0], motion_score=0.0)
    assert least_motion([empty, moved], [still, seen[1]]) == 1


def test_stack_too_short_to_be_judged_is_listed_last() -> None:
    stack = scan("none")[0]
    mask = stack.mask.copy()
    middle = stack.n_slices // 2
    mask[:, :, :middle], mask[:, :, middle + 2 :] = False, False
    short = replace(stack, mask=mask)
    seen = assess([short, stack, replace(stack, mask=np.zeros_like(mask))])
    assert math.isnan(seen[0].motion_score) and math.isfinite(seen[0].neighbour_ncc)
    assert (seen[2].n_slices, seen[2].interleave, seen[2].dropouts) == (0, 1, ())
    assert by_motion(seen)[0] == 1


def test_command_prints_the_stillest_first_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stacks = [scan("severe")[1], scan("none")[0], scan("mild")[0]]
    for name, stack in zip("abc", stacks, strict=True):
        nib.save(nib.Nifti1Image(stack.data, stack.affine), tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(stack.mask.astype(np.uint8), stack.affine), tmp_path / f"m{name}.nii.gz")
    args = ["assess", "--input-stacks", *(str(tmp_path / f"{name}.nii.gz") for name in "abc")]
    args += ["--stack-masks", *(str(tmp_path / f"m{name}.nii.gz") for name in "abc"), "--thicknesses", "3"]
    assert main([*args, "--output-json", str(tmp_path / "out.json"), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.index("b.nii.gz") < out.index("c.nii.gz") < out.index("a.nii.gz")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["least_motion"] == 1
    assert [stack["stack"] for stack in written["stacks"]] == [1, 2, 0]
    assert written["stacks"][0]["thickness"] == 3.0
    assert main([*args, "--output-json", str(tmp_path / "a.nii.gz")]) == 2
