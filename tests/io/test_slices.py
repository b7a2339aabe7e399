"""A folder of slices puts every pixel where the motion correction says it lies."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from slicesplat.errors import InputError
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.stack import Stack
from slicesplat.io.folder import MANIFEST, UNFINISHED
from slicesplat.io.slices import load_slices, save_slices
from slicesplat.records import SliceRecord

SHAPE = (9, 7, 5)


def make_stack(seed: int, mirrored: bool = False, thickness: float = 2.5) -> Stack:
    rng = np.random.default_rng(seed)
    pose = Rigid.exp([*rng.normal(0, 20, 3), *rng.normal(0, 0.5, 3)]).matrix
    affine = pose @ np.diag([1.1, 0.9, -3.3 if mirrored else 3.3, 1.0])
    data = rng.uniform(1, 900, SHAPE).astype(np.float32)
    return Stack(data, rng.random(SHAPE) < 0.5, affine, thickness, f"stack-{seed}.nii.gz")


def records(stacks: list[Stack], seed: int = 0) -> list[SliceRecord]:
    rng = np.random.default_rng(seed)
    return [
        SliceRecord(number, index, Rigid.exp([*rng.normal(0, 8, 3), *rng.normal(0, 0.4, 3)]).matrix)
        for number, stack in enumerate(stacks)
        for index in range(1, stack.n_slices)
    ]


@pytest.fixture
def stacks() -> list[Stack]:
    return [make_stack(1), make_stack(2, mirrored=True, thickness=4.0)]


def test_affine_holds_the_corrected_pose(tmp_path: Path, stacks: list[Stack]) -> None:
    slices = records(stacks)
    save_slices(tmp_path / "slices", stacks, slices)
    for number, record in enumerate(slices):
        image = nib.load(tmp_path / "slices" / f"{number}.nii.gz")
        stack, k = stacks[record.stack], record.slice
        pixels = np.argwhere(np.ones(SHAPE[:2]))
        scanned = apply_affine(stack.affine, np.column_stack([pixels, np.full(len(pixels), k)]))
        corrected = apply_affine(record.world_transform, scanned)
        written = apply_affine(image.affine, np.column_stack([pixels, np.zeros(len(pixels))]))
        # Headers hold float32.
        np.testing.assert_allclose(written, corrected, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(image.dataobj)[:, :, 0], stack.data[:, :, k])
        assert image.header.get_zooms()[2] == pytest.approx(stack.thickness)


def test_qform_agrees_with_sform(tmp_path: Path, stacks: list[Stack]) -> None:
    save_slices(tmp_path, stacks, records(stacks))
    for path in tmp_path.glob("*.nii.gz"):
        image = nib.load(path)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)


def test_folder_is_read_back(tmp_path: Path, stacks: list[Stack]) -> None:
    # More than ten slices for each stack in turn, so that the order by number is not the order by name.
    slices = [*records(stacks, 0), *records(stacks, 1)]
    save_slices(tmp_path, stacks, slices)
    loaded = load_slices(tmp_path)
    assert len(loaded) == len(slices) > 10
    for slice_, record in zip(loaded, slices, strict=True):
        stack, k = stacks[record.stack], record.slice
        np.testing.assert_array_equal(slice_.data[:, :, 0], stack.data[:, :, k])
        np.testing.assert_array_equal(slice_.mask[:, :, 0], stack.mask[:, :, k])
        assert slice_.thickness == pytest.approx(stack.thickness)
        expected = record.world_transform @ stack.pose(k)
        np.testing.assert_allclose(slice_.pose(0), expected, atol=1e-4)


def test_slice_without_a_mask_counts_where_it_is_not_zero(tmp_path: Path) -> None:
    data = np.zeros((4, 4, 1), np.float32)
    data[1, 2] = 5
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1, 3, 1])), tmp_path / "0.nii.gz")
    (only,) = load_slices(tmp_path)
    np.testing.assert_array_equal(only.mask, data > 0)


def test_longer_earlier_run_leaves_no_slices_behind(tmp_path: Path, stacks: list[Stack]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    save_slices(tmp_path, stacks, records(stacks))
    save_slices(tmp_path, stacks, records(stacks)[:2])
    names = {path.name for path in tmp_path.iterdir()} - {MANIFEST}
    assert names == {"0.nii.gz", "mask_0.nii.gz", "1.nii.gz", "mask_1.nii.gz", "notes.txt"}


def test_same_slices_give_the_same_bytes(tmp_path: Path, stacks: list[Stack]) -> None:
    for folder in ("a", "b"):
        save_slices(tmp_path / folder, stacks, records(stacks))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_unusable_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such folder; check the path"):
        load_slices(tmp_path / "none")
    with pytest.raises(InputError, match="holds no slices"):
        load_slices(tmp_path)
    (tmp_path / UNFINISHED).mkdir()
    with pytest.raises(InputError, match="not finished"):
        load_slices(tmp_path)
    (tmp_path / UNFINISHED).rmdir()
    nib.save(nib.Nifti1Image(np.ones((4, 4, 3), np.float32), np.eye(4)), tmp_path / "0.nii.gz")
    with pytest.raises(InputError, match=r"0\.nii\.gz: has 3 slices"):
        load_slices(tmp_path)
