"""Masks as people draw them and networks predict them: what is meant is taken, what is wrong is told."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.masks import as_region, load_masked_volume
from slicesplat.io.nifti import read_image
from slicesplat.io.slices import load_slices
from slicesplat.prepare.load import load_stacks
from slicesplat.prepare.mask_faults import mended

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared images are not beside this checkout")

AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])
SHAPE = (70, 60, 24)


def ball(centre: tuple[float, float, float], radius: float = 20.0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A body: centre in voxels, radius in mm."""
    away = np.moveaxis(np.indices(shape), 0, -1) - np.array(centre)
    return np.linalg.norm(away * np.diag(AFFINE)[:3], axis=-1) <= radius


BODY = ball((32, 30, 12))


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Tissue all over, brighter in the body, and some air at the far end."""
    data = np.random.default_rng(0).uniform(300, 600, SHAPE) + 200 * BODY
    data[56:] = np.random.default_rng(1).uniform(0, 30, data[56:].shape)
    return write(tmp_path / "stack.nii.gz", data.astype(np.float32))


def load(image: Path, drawn: np.ndarray) -> Stack:
    (stack,) = load_stacks([image], [write(image.with_name("mask.nii.gz"), drawn)], 3.0)
    return stack


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == level and r.getMessage().startswith("mask.nii.gz")]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "slicesplat")


def refusal(image: Path, drawn: np.ndarray) -> str:
    with pytest.raises(InputError) as caught:
        load(image, drawn)
    message = str(caught.value)
    assert "mask.nii.gz: " in message and "; " in message and "\n" not in message
    return message


# --- soft masks and labels

BLURRED = ndimage.gaussian_filter(BODY.astype(np.float32), [2, 2, 1])
NEVER_ZERO = (1e-5 + BODY * (1 - 2e-5)).astype(np.float32)
SPLINE = ndimage.shift(BODY.astype(np.float32), [0.4, 0.4, 0.0], order=3)
COLUMN = np.arange(SHAPE[0])[:, None, None]
HALVES = (BODY * (1 + (COLUMN > 32))).astype(np.uint8)
STRIPES = (BODY * (1 + COLUMN // 2 % 20)).astype(np.uint8)
PARCELS = (BODY * (1 + 9 * (COLUMN // 4) + np.arange(SHAPE[1])[:, None] // 8)).astype(np.int16)


@pytest.mark.parametrize(
    ("soft", "cut"),
    [
        (BLURRED, 0.5),
        (NEVER_ZERO, 0.5),
        (SPLINE, 0.5),
        (100 * BLURRED, 50),
        (np.rint(100 * BLURRED).astype(np.uint8), 50),
        (np.rint(255 * BLURRED).astype(np.uint8), 127.5),
        (0.4 * NEVER_ZERO, 0.2),
    ],
    ids=["blurred", "never zero", "spline", "percent", "whole percent", "8 bits", "low maximum"],
)
def test_soft_mask_is_cut_at_half_its_range(
    image: Path, soft: np.ndarray, cut: float, caplog: pytest.LogCaptureFixture
) -> None:
    np.testing.assert_array_equal(load(image, soft).mask, soft >= cut * (1 - 1e-4))
    (note,) = told(caplog, logging.INFO)
    assert "soft mask" in note and note.endswith(f"cut at {cut:g}")
    assert not told(caplog, logging.WARNING)


@pytest.mark.parametrize("factor", [1, 255, 0.25])
def test_mask_of_one_value_is_plain_whatever_the_value(
    image: Path, factor: float, caplog: pytest.LogCaptureFixture
) -> None:
    np.testing.assert_array_equal(load(image, (factor * BODY).astype(np.float32)).mask, BODY)
    assert not told(caplog, logging.INFO)


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (HALVES, "labels 1, 2, all inside"),
        (STRIPES, "14 labels, all inside"),
        (PARCELS, "27 labels, all inside"),
    ],
    ids=["two", "up to 20", "up to 104"],
)
def test_labels_are_all_inside(image: Path, labels: np.ndarray, note: str, caplog: pytest.LogCaptureFixture) -> None:
    np.testing.assert_array_equal(load(image, labels).mask, BODY)
    assert told(caplog, logging.INFO) == [f"mask.nii.gz: {note}"]


def test_labels_that_were_resampled_lose_their_rims_and_no_label(image: Path) -> None:
    soft = ndimage.shift(HALVES.astype(np.float32), [0.0, 0.5, 0.0], order=1)
    np.testing.assert_array_equal(load(image, soft).mask, soft >= 0.5)


def test_values_on_both_sides_of_zero_are_cut_at_zero(image: Path) -> None:
    logits = (20 * BLURRED - 10).astype(np.float32)
    np.testing.assert_array_equal(load(image, logits).mask, logits > 0)


@needs_data
def test_atlas_parcellations_are_labels() -> None:
    for path in sorted((DATA / "atlas-cc0").glob("*-parcellation.nii.gz"))[::4]:
        mask, notes = as_region(read_image(path))
        np.testing.assert_array_equal(mask.data > 0, read_image(path).data > 0)
        assert notes == [f"{path.name}: labels 1, 2, 3, 4, 5, 6, 7, 8, all inside"]


def test_soft_mask_of_a_volume_is_cut_and_told(image: Path) -> None:
    _, region, notes = load_masked_volume(image, write(image.with_name("mask.nii.gz"), BLURRED))
    np.testing.assert_array_equal(np.asarray(region.dataobj) > 0, BLURRED >= 0.5)
    assert notes == ["mask.nii.gz: soft mask, values up to 1, cut at 0.5"]


def test_soft_mask_of_a_slice_is_cut_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soft = BLURRED[:, :, 12:13]
    write(tmp_path / "0.nii.gz", np.ones_like(soft))
    write(tmp_path / "mask_0.nii.gz", soft)
    (read,) = load_slices(tmp_path)
    np.testing.assert_array_equal(read.mask, soft >= 0.5)
    assert "mask_0.nii.gz: soft mask, values up to 1, cut at 0.5" in caplog.messages


# --- what is no region


def test_mask_of_the_whole_image_is_warned_about(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(image, np.ones(SHAPE, np.uint8)).mask.all()
    (warning,) = told(caplog, logging.WARNING)
    assert "covers 100% of stack.nii.gz" in warning


def test_inverted_mask_is_refused(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "is inverted" in refusal(image, (~BODY).astype(np.uint8))
    assert not caplog.messages


def test_inverted_mask_of_a_body_that_reaches_an_edge_is_refused(image: Path) -> None:
    assert "is inverted" in refusal(image, (~ball((11, 30, 22))).astype(np.uint8))


def test_mask_of_nearly_everything_is_not_inverted(image: Path) -> None:
    drawn = ~ball((32, 30, 12), radius=5.0)
    np.testing.assert_array_equal(load(image, drawn.astype(np.uint8)).mask, drawn)


def test_mask_on_air_is_warned_about(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(image, ball((63, 30, 12), radius=9.0).astype(np.uint8))
    (warning,) = told(caplog, logging.WARNING)
    assert "lies on air in stack.nii.gz" in warning


def test_body_of_a_few_pixels_in_nothing_is_not_on_air(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = np.zeros(SHAPE, bool)
    body[33:36, 33:36, 8:12] = True
    load(write(image, np.where(body, 500, np.nan).astype(np.float32)), body.astype(np.uint8))
    assert not told(caplog, logging.WARNING)


@pytest.mark.parametrize("outside", [0.0, np.nan])
def test_body_that_was_cut_out_is_not_on_air(image: Path, outside: float, caplog: pytest.LogCaptureFixture) -> None:
    standard = (read_image(image).data - 600) / 100
    load(write(image, np.where(BODY, standard, outside).astype(np.float32)), BODY.astype(np.uint8))
    assert not told(caplog, logging.WARNING)


# --- pieces


def test_stray_voxels_are_left_out_and_told(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = BODY.astype(np.uint8)
    drawn[0, 0, 0] = drawn[69, 0, 23] = drawn[0, 59, 12] = 1
    np.testing.assert_array_equal(load(image, drawn).mask, BODY)
    (warning,) = told(caplog, logging.WARNING)
    assert "3 voxels in 3 pieces more than 15 mm from the body, left out" in warning


def test_small_piece_is_left_out_far_from_the_body_and_kept_near_it(image: Path) -> None:
    near, far = ball((32, 30, 21), radius=4.0), ball((6, 6, 3), radius=7.0)
    np.testing.assert_array_equal(load(image, (BODY | near | far).astype(np.uint8)).mask, BODY | near)


@pytest.mark.parametrize("label", [1, 2])
def test_two_bodies_are_kept_and_warned_about(image: Path, label: int, caplog: pytest.LogCaptureFixture) -> None:
    first, second = ball((14, 30, 12), 16.0), ball((44, 30, 12), 14.0)
    stack = load(image, (first + label * second).astype(np.uint8))
    np.testing.assert_array_equal(stack.mask, first | second)
    (warning,) = told(caplog, logging.WARNING)
    assert "has 2 parts of like size, 45 mm apart" in warning
    assert "one body at a time" in warning


def test_two_halves_of_one_body_are_one(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    halves = BODY.astype(np.uint8)
    halves[32] = 0
    np.testing.assert_array_equal(load(image, halves).mask, halves > 0)
    assert not told(caplog, logging.WARNING)


# --- slices left out


def only(slices: slice | list[int]) -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[:, :, slices] = BODY[:, :, slices]
    return drawn


def test_slice_left_out_between_drawn_ones_is_filled_in_and_told(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = BODY.astype(np.uint8)
    drawn[:, :, 12] = 0
    mask = load(image, drawn).mask
    np.testing.assert_array_equal(np.delete(mask, 12, axis=2), np.delete(BODY, 12, axis=2))
    assert (mask[:, :, 12] ^ BODY[:, :, 12]).sum() <= 0.05 * BODY[:, :, 12].sum()
    assert told(caplog, logging.INFO) == [
        "mask.nii.gz: 1 slice left out between drawn ones, filled in from the neighbours: 12 (counted from 0)"
    ]


@pytest.mark.parametrize("every", [2, 3, 4])
def test_body_drawn_on_every_few_slices_is_one_body(image: Path, every: int, caplog: pytest.LogCaptureFixture) -> None:
    drawn = only(slice(0, None, every))
    mask = load(image, drawn).mask
    covered = np.flatnonzero(drawn.any(axis=(0, 1)))
    inside = slice(covered[0], covered[-1] + 1)
    # Half a pixel, 0.75 mm, all around a ball of 20 mm.
    assert (mask[:, :, inside] ^ BODY[:, :, inside]).sum() <= 3 * 0.75 / 20 * BODY.sum()
    assert not mask[:, :, : covered[0]].any() and not mask[:, :, covered[-1] + 1 :].any()
    assert not told(caplog, logging.WARNING)


def test_stray_voxel_in_a_slice_left_out_does_not_keep_it_from_being_filled(image: Path) -> None:
    drawn = only(slice(0, None, 2))
    filled = load(image, drawn).mask
    drawn[0, 0, 13] = 1
    np.testing.assert_array_equal(load(image, drawn).mask, filled)


def test_wide_gap_is_two_bodies_and_not_filled(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = only([8, 9, 15, 16])
    np.testing.assert_array_equal(load(image, drawn).mask, drawn > 0)
    (warning,) = told(caplog, logging.WARNING)
    assert "2 parts of like size" in warning


def test_gap_that_motion_tore_at_the_end_of_a_body_is_left_alone(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = BODY & (np.arange(SHAPE[2]) < 18)
    drawn |= ball((32, 30, 19), radius=7.0) & (np.arange(SHAPE[2]) == 19)
    np.testing.assert_array_equal(load(image, drawn.astype(np.uint8)).mask, drawn)
    assert not told(caplog, logging.INFO) and not told(caplog, logging.WARNING)


# --- one mask for several stacks


def test_single_mask_on_a_shared_grid_is_the_first_ones(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    mask = write(image.with_name("mask.nii.gz"), BODY.astype(np.uint8))
    other = write(image.with_name("other.nii.gz"), np.ones((50, 50, 24), np.float32))
    repeat = write(image.with_name("repeat.nii.gz"), read_image(image).data)
    stacks = load_stacks([other, image, repeat], [mask], 3.0)
    assert [stack.carried for stack in stacks] == [True, False, True]
    np.testing.assert_array_equal(stacks[1].mask, BODY)
    assert stacks[2].mask[BODY].all() and stacks[2].mask.sum() > 2 * BODY.sum()
    assert told(caplog, logging.INFO) == [
        "mask.nii.gz: fits stack.nii.gz, repeat.nii.gz, taken as drawn on the first of them; --mask-of names another"
    ]


def test_single_mask_is_the_named_stacks(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    mask = write(image.with_name("mask.nii.gz"), BODY.astype(np.uint8))
    stacks = load_stacks([image, image, image], [mask], 3.0, mask_of=2)
    assert [stack.carried for stack in stacks] == [True, False, True]
    assert not told(caplog, logging.INFO)


def test_gap_in_a_carried_mask_is_filled_before_it_is_carried(image: Path) -> None:
    other = write(image.with_name("other.nii.gz"), read_image(image).data, np.diag([1.5, 1.5, 2.9, 1.0]))
    whole, torn = (
        load_stacks([image, other], [write(image.with_name("mask.nii.gz"), drawn)], 3.0)
        for drawn in (BODY.astype(np.uint8), np.where(np.arange(SHAPE[2]) == 12, 0, BODY).astype(np.uint8))
    )
    assert (whole[1].mask ^ torn[1].mask).sum() <= 0.01 * whole[1].mask.sum()


@pytest.mark.parametrize(
    ("masks", "mask_of", "problem"),
    [
        (1, 0, "there is no stack 0 (--mask-of); name one from 1 to 2"),
        (1, 3, "there is no stack 3 (--mask-of); name one from 1 to 2"),
        (1, 2, "is not on the grid of stack 2 (--mask-of); name one that it fits: 1"),
        (2, 1, "--mask-of is for a single mask; "),
        (0, 1, "there is no mask; give --stack-masks"),
    ],
)
def test_useless_mask_of_is_refused(image: Path, masks: int, mask_of: int, problem: str) -> None:
    mask = write(image.with_name("mask.nii.gz"), BODY.astype(np.uint8))
    other = write(image.with_name("other.nii.gz"), np.ones((50, 50, 24), np.float32))
    with pytest.raises(InputError) as caught:
        load_stacks([image, other], [mask] * masks, 3.0, mask_of=mask_of)
    assert problem in str(caught.value) and ".nii.gz: " in str(caught.value)


def test_single_mask_on_the_grid_of_no_stack_is_refused(image: Path) -> None:
    mask = write(image.with_name("mask.nii.gz"), np.ones((9, 9, 9), np.uint8))
    with pytest.raises(InputError, match=r"mask\.nii\.gz: is on the grid of none of the stacks; resample it to one$"):
        load_stacks([image, image], [mask], 3.0)


# --- masks in order


def _pairs() -> list[tuple[str, str]]:
    pairs = [(f"mial-sub01/stack-{i}.nii.gz", f"mial-sub01/mask-{i}.nii.gz") for i in range(1, 7)]
    pairs.append(("svrtk-simulated/stack-2.nii.gz", "svrtk-simulated/mask-for-stack-2.nii.gz"))
    anatomy, name = "sub-simu001/ses-01/anat", "sub-simu001_ses-01_run"
    for run in (1, 2, 3):
        stack = f"fabian-fetpype/{anatomy}/{name}-{run}_T2w.nii.gz"
        pairs.append((stack, f"fabian-fetpype/derivatives/masks/{anatomy}/{name}-{run}_mask.nii.gz"))
    for case, number in [("mild", 3), ("moderate", 6)]:
        folder = f"sim/fetal-{case}"
        pairs += [(f"{folder}/stack-{i}.nii.gz", f"{folder}/mask-{i}.nii.gz") for i in range(1, number + 1)]
    for case, number in [("still", 3), ("moderate", 6), ("severe", 6)]:
        folder = f"sim/infant-{case}"
        pairs += [(f"{folder}/stack-{i}.nii.gz", f"{folder}/mask-{i}.nii.gz") for i in range(1, number + 1)]
    pairs += [(f"sim/neonatal-mild/stack-{i}.nii.gz", f"sim/neonatal-mild/mask-{i}.nii.gz") for i in (1, 2, 3)]
    return pairs


@needs_data
@pytest.mark.parametrize(("stack", "mask"), _pairs())
def test_masks_in_order_are_taken_as_they_are(stack: str, mask: str) -> None:
    drawn = read_image(DATA / mask)
    read, notes = as_region(read_image(DATA / mask))
    region, more, warnings = mended(read.data > 0, read, read_image(DATA / stack))
    np.testing.assert_array_equal(region, drawn.data > 0)
    assert [*notes, *more, *warnings] == []
