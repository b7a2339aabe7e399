"""What SimpleITK reads from a transform file is the motion that was written."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.stack import Stack
from slicesplat.io.folder import MANIFEST
from slicesplat.io.slices import save_slices
from slicesplat.io.transforms import save_transforms, to_itk
from slicesplat.records import SliceRecord

LPS = np.array([-1.0, -1.0, 1.0])


def some_transforms() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    moved = [Rigid.exp([*rng.normal(0, 20, 3), *rng.normal(0, 1.0, 3)]).matrix for _ in range(12)]
    # A quarter turn about x is where Euler angles would not be unique.
    return [np.eye(4), Rigid.exp([1, 1, 1, np.pi / 2, 0, 0]).matrix, *moved]


def as_records(transforms: list[np.ndarray]) -> list[SliceRecord]:
    return [SliceRecord(0, k, matrix) for k, matrix in enumerate(transforms)]


def test_transform_point_gives_the_corrected_position(tmp_path: Path) -> None:
    transforms = some_transforms()
    save_transforms(tmp_path / "moved", as_records(transforms))
    points = np.random.default_rng(5).normal(0, 60, (20, 3))
    for number, matrix in enumerate(transforms):
        read = sitk.ReadTransform(str(tmp_path / "moved" / f"{number}.tfm"))
        corrected = points @ matrix[:3, :3].T + matrix[:3, 3]
        applied = np.array([read.TransformPoint(point) for point in (points * LPS).tolist()]) * LPS
        np.testing.assert_allclose(applied, corrected, atol=1e-9)


def test_file_is_a_rigid_transform(tmp_path: Path) -> None:
    save_transforms(tmp_path, as_records([np.eye(4)]))
    assert "VersorRigid3DTransform" in (tmp_path / "0.tfm").read_text()


def test_longer_earlier_run_leaves_no_transforms_behind(tmp_path: Path) -> None:
    save_transforms(tmp_path, as_records(some_transforms()))
    save_transforms(tmp_path, as_records(some_transforms()[:2]))
    assert {path.name for path in tmp_path.iterdir()} - {MANIFEST} == {"0.tfm", "1.tfm"}


def sitk_image(values: np.ndarray, affine: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(values.T.astype(np.float64))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((affine[:3, 3] * LPS).tolist())
    image.SetDirection((LPS[:, None] * affine[:3, :3] / spacing).ravel().tolist())
    return image


def test_resampling_through_the_transform_lands_where_the_affine_with_the_pose_does(tmp_path: Path) -> None:
    motion = Rigid.exp([4.0, -3.0, 2.0, 0.2, -0.3, 0.25]).matrix
    affine = Rigid.exp([-12.0, -10.0, 3.0, 0.1, 0.4, -0.2]).matrix @ np.diag([1.0, 1.2, 3.0, 1.0])
    data = np.random.default_rng(6).uniform(1, 9, (20, 16, 4)).astype(np.float32)
    stack, k = Stack(data, data > 0, affine, 3.0), 2
    record = SliceRecord(0, k, motion)
    save_slices(tmp_path / "slices", [stack], [record])
    save_transforms(tmp_path / "transforms", [record])
    transform = sitk.ReadTransform(str(tmp_path / "transforms" / "0.tfm"))
    posed = nib.load(tmp_path / "slices" / "0.nii.gz")
    posed = sitk_image(np.asarray(posed.dataobj), posed.affine)
    origin = affine.copy()
    origin[:3, 3] += k * affine[:3, 2]
    scanned = sitk_image(data[:, :, [k]], origin)

    grid = np.indices((40, 40, 40)) - 19.5
    smooth = np.sin(grid[0] / 6) + np.cos(grid[1] / 5) * np.sin(grid[2] / 7)
    start = np.eye(4)
    start[:3, 3] = posed.TransformContinuousIndexToPhysicalPoint([9.5, 7.5, 0.0]) * LPS - 19.5
    volume = sitk_image(smooth, start)
    through_transform = sitk.Resample(volume, scanned, transform, sitk.sitkLinear)
    through_affine = sitk.Resample(volume, posed, sitk.Transform(), sitk.sitkLinear)
    drawn = sitk.GetArrayFromImage(through_affine)
    assert np.ptp(drawn) > 1
    # The affine is stored in float32.
    np.testing.assert_allclose(sitk.GetArrayFromImage(through_transform), drawn, atol=1e-4)

    back = sitk.Resample(scanned, posed, transform.GetInverse(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(scanned))


def test_itk_transform_turns_as_the_matrix_does() -> None:
    quarter = Rigid.exp([0, 0, 0, 0, 0, np.pi / 2]).matrix
    # In RAS a quarter turn about z takes right to anterior; in LPS that is left to posterior.
    np.testing.assert_allclose(to_itk(quarter).TransformPoint([1.0, 0.0, 0.0]), [0, 1, 0], atol=1e-12)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_transform_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = sitk.WriteTransform
    # ITK itself says nothing.
    monkeypatch.setattr(
        sitk, "WriteTransform", lambda transform, path: (write(transform, "/dev/full"), Path(path).touch())
    )
    with pytest.raises(OSError, match="not written whole"):
        save_transforms(tmp_path / "moved", as_records(some_transforms()))
    assert not list(tmp_path.iterdir())
