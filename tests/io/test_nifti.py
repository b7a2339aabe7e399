"""A volume comes back from its file as it was written, and nothing else comes with it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import SHAPE, blob, oblique_affine, plain_affine, refused, write

from slicesplat.errors import InputError
from slicesplat.io.masks import load_masked_volume
from slicesplat.io.nifti import load_volume, read_each, read_image, save_volume


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return write(tmp_path / "stack.nii.gz", blob())


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return write(tmp_path / "mask.nii.gz", (blob() > 0).astype(np.uint8))


def test_volume_comes_back_as_it_was_written(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=SHAPE)
    save_volume(nib.Nifti1Image(values, oblique_affine()), tmp_path / "v.nii.gz")
    image = nib.load(tmp_path / "v.nii.gz")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), values.astype(np.float32))
    np.testing.assert_allclose(image.get_sform(), oblique_affine(), atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), oblique_affine(), atol=1e-4)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_same_volume_is_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    image = nib.Nifti1Image(blob(), oblique_affine())
    for name in ("a.nii.gz", "b.nii.gz"):
        save_volume(image, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_nothing_of_the_input_header_reaches_the_output(tmp_path: Path) -> None:
    image = nib.Nifti1Image(blob(), plain_affine())
    image.header["descrip"] = b"Jane Doe"
    image.header["intent_name"] = b"Jane Doe"
    image.header["aux_file"] = b"Jane Doe"
    nib.save(image, tmp_path / "in.nii")
    save_volume(nib.load(tmp_path / "in.nii"), tmp_path / "out.nii")
    assert b"Jane" not in (tmp_path / "out.nii").read_bytes()


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "v.nii.gz"
    target.write_bytes(b"old")

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_volume(nib.Nifti1Image(blob(), plain_affine()), target)
    assert [p.name for p in tmp_path.iterdir()] == ["v.nii.gz"]
    assert target.read_bytes() == b"old"


def test_volume_with_nan_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "v.nii.gz", np.full(SHAPE, np.nan, np.float32))
    refused(lambda: load_volume(path), "v.nii.gz", "NaN")


def test_volume_and_mask_on_one_grid(tmp_path: Path, stack: Path, mask: Path) -> None:
    volume, region, notes = load_masked_volume(stack, mask)
    assert not notes
    np.testing.assert_array_equal(np.asarray(volume.dataobj), blob())
    np.testing.assert_array_equal(np.asarray(region.dataobj) > 0, blob() > 0)
    other = write(tmp_path / "m.nii.gz", np.ones((3, 4, 5), np.uint8))
    refused(lambda: load_masked_volume(stack, other), "m.nii.gz", "its shape")


def test_files_that_are_read_together_keep_their_order_and_the_first_that_cannot_be_is_told(tmp_path: Path) -> None:
    images = {name: blob() * factor for name, factor in (("b", 1.0), ("a", 2.0), ("c", 3.0))}
    paths = [write(tmp_path / f"{name}.nii.gz", values) for name, values in images.items()]
    for image, values in zip(read_each(read_image, paths), images.values(), strict=True):
        np.testing.assert_array_equal(image.data, values.astype(np.float32))
    for path in paths[1:]:
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        read_each(read_image, paths)
