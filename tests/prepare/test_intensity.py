"""Whatever scale the stacks come in, the volume comes out in it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from reconstructions import BRIEF, result, small

from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.intensity import intensity_offset, scale_intensities, signal
from slicesplat.result import Reconstruction
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate

CONFIG = Config(resolution=1.4, threads=1, fit=BRIEF)


@pytest.fixture(scope="module")
def stacks() -> list[Stack]:
    return small().stacks


@pytest.fixture(scope="module")
def usual(stacks: list[Stack]) -> Reconstruction:
    return result()


def scaled(stacks: list[Stack], factor: float, offset: float = 0.0) -> list[Stack]:
    return [replace(s, data=(s.data.astype(np.float64) * factor + offset).astype(np.float32)) for s in stacks]


def test_magnitudes_have_no_offset(stacks: list[Stack]) -> None:
    assert [intensity_offset(stack) for stack in stacks] == [0.0, 0.0, 0.0]
    # What interpolation overshoots is no offset either.
    assert [intensity_offset(stack) for stack in scaled(stacks, 1.0, -5.0)] == [0.0, 0.0, 0.0]


def test_shifted_intensities_come_back_shifted(stacks: list[Stack], usual: Reconstruction) -> None:
    result = reconstruct(scaled(stacks, 1.0, -1024.0), CONFIG)
    inside = np.asarray(usual.mask.dataobj) > 0
    a, b = np.asarray(result.volume.dataobj), np.asarray(usual.volume.dataobj)
    assert a.shape == b.shape
    # Twenty slices hardly determine their poses: another seed gives a correlation of 0.97 too.
    assert np.corrcoef(a[inside], b[inside])[0, 1] > 0.95
    assert np.median(a[inside]) == pytest.approx(np.median(b[inside]) - 1024.0, abs=0.02 * float(b.max()))
    outside = np.asarray(result.mask.dataobj) == 0
    assert a[outside].max() == a.min() == pytest.approx(-1024.0, abs=0.03 * float(b.max()))
    assert result.json()["intensity_offset"] == pytest.approx(-1024.0, abs=0.03 * float(b.max()))
    predicted, measured = result.simulated()[1], result.stacks[1]
    assert predicted.data[measured.mask].mean() == pytest.approx(measured.data[measured.mask].mean(), rel=0.02)


def test_z_scores_give_the_same_anatomy(stacks: list[Stack], usual: Reconstruction) -> None:
    tissue = [stack.data[stack.mask] for stack in stacks]
    mean, deviation = ([float(figure(values)) for values in tissue] for figure in (np.mean, np.std))
    normalised = [scaled([s], 1 / d, -m / d)[0] for s, m, d in zip(stacks, mean, deviation, strict=True)]
    result = reconstruct(normalised, CONFIG)
    inside = np.asarray(usual.mask.dataobj) > 0
    a, b = np.asarray(result.volume.dataobj), np.asarray(usual.volume.dataobj)
    assert np.corrcoef(a[inside], b[inside])[0, 1] > 0.95
    expected = (np.median(b[inside]) - np.median(mean)) / np.median(deviation)
    assert np.median(a[inside]) == pytest.approx(expected, abs=0.15)


def test_background_that_marks_what_was_cut_away_is_an_offset_only_if_tissue_lies_just_above_it(
    stacks: list[Stack],
) -> None:
    stack = stacks[0]
    shifted = np.where(stack.mask, stack.data - 1024, np.float32(-1024))
    marked = np.where(stack.mask, stack.data, np.float32(-9999))
    measured = stack.mask.copy()
    assert intensity_offset(replace(stack, data=shifted, measured=measured)) == -1024.0
    assert intensity_offset(replace(stack, data=marked, measured=measured)) == 0.0


@pytest.mark.parametrize("largest", [1e-42, 1e-38, 1e-20, 1e20, 1e35, 3.4e38])
def test_numbers_near_the_ends_of_single_precision_are_reckoned_with(stacks: list[Stack], largest: float) -> None:
    given = scaled(stacks, largest / max(float(stack.data.max()) for stack in stacks))
    working, intensities = signal(given)
    ready, intensities = scale_intensities(working, intensities)
    reference, known = scale_intensities(stacks)
    for a, b in zip(ready, reference, strict=True):
        # Denormal numbers have few digits.
        np.testing.assert_allclose(a.data, b.data, atol=2e-3 if largest < 1e-37 else 1e-5)
    back = intensities.volume(np.ones(1))
    assert np.isfinite(back).all()
    assert back[0] == pytest.approx(known.brightest * largest / max(float(s.data.max()) for s in stacks), rel=2e-2)
    for before, after in zip(given, working, strict=True):
        np.testing.assert_allclose(intensities.on_input_scale(after, 0).data, before.data, rtol=1e-6)


def test_huge_and_tiny_numbers_give_a_finite_volume_and_figures_that_are_not_rounded_away() -> None:
    # Enough slices for an error that is expected of the field.
    config = SimulationConfig(motion="none", pixel=1.6, seed=2)
    stacks = simulate(*brain_phantom(size_mm=40.0, spacing=1.6), config).stacks
    for factor in (3e-41, 3e34):
        result = reconstruct(scaled(stacks, factor), CONFIG)
        assert np.isfinite(np.asarray(result.volume.dataobj)).all()
        assert bool(result.field.amplitudes.isfinite().all())
        figures = json.loads(json.dumps(result.json(), allow_nan=False))
        assert figures["noise"] > 0 and figures["expected_error"] > 0
        assert 1 < result.evidence.contrast < 1000


def test_stack_that_is_dark_throughout_its_mask_is_refused_by_name(stacks: list[Stack]) -> None:
    dark = replace(stacks[1], data=np.zeros_like(stacks[1].data), name="dark.nii.gz")
    with pytest.raises(InputError, match=r"dark\.nii\.gz: more than half of its mask has no signal"):
        scale_intensities([stacks[0], dark])
