"""ITK transforms are read as they were written, by this or another program; others are refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nifti_files import refused

from slicesplat.geometry.rigid import Rigid
from slicesplat.io.transforms import load_transform, load_transforms, save_transforms
from slicesplat.records import SliceRecord

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MOVED = [Rigid.exp(step).matrix for step in np.random.default_rng(0).normal(0, 1, (12, 6)) * [20, 20, 20, 1, 1, 1]]


def test_transforms_come_back_as_they_were_written(tmp_path: Path) -> None:
    save_transforms(tmp_path, [SliceRecord(0, k, matrix) for k, matrix in enumerate(MOVED)])
    read = load_transforms(tmp_path)
    assert sorted(read) == [("", number) for number in range(12)]
    for number, matrix in enumerate(MOVED):
        np.testing.assert_allclose(read["", number], matrix, atol=1e-9)


@pytest.mark.parametrize("kind", [sitk.Euler3DTransform, sitk.AffineTransform, sitk.VersorRigid3DTransform])
def test_any_kind_of_itk_transform_with_any_centre_is_read(tmp_path: Path, kind: type) -> None:
    transform = kind(3) if kind is sitk.AffineTransform else kind()
    matrix = LPS @ MOVED[0] @ LPS
    transform.SetCenter((3.0, -40.0, 12.0))
    transform.SetMatrix(matrix[:3, :3].ravel().tolist(), *([] if kind is sitk.AffineTransform else [1e-6]))
    transform.SetTranslation((1.0, 2.0, 3.0))
    sitk.WriteTransform(transform, str(tmp_path / "t.tfm"))
    read = load_transform(tmp_path / "t.tfm")
    point = np.array([10.0, -20.0, 30.0])
    expected = np.array(transform.TransformPoint((point * [-1, -1, 1]).tolist())) * [-1, -1, 1]
    np.testing.assert_allclose(read[:3, :3] @ point + read[:3, 3], expected, atol=1e-9)


def test_transforms_of_niftymic_are_those_of_its_stacks(tmp_path: Path) -> None:
    for name, index in (("a_b", 0), ("a_b", 11), ("c.d", 3)):
        save_transforms(tmp_path / "one", [SliceRecord(0, 0, MOVED[index])])
        (tmp_path / "one" / "0.tfm").rename(tmp_path / f"{name}_slice{index}.tfm")
    (tmp_path / "a_b.tfm").write_text("of the whole stack")
    read = load_transforms(tmp_path)
    assert sorted(read) == [("a_b", 0), ("a_b", 11), ("c.d", 3)]
    np.testing.assert_allclose(read["a_b", 11], MOVED[11], atol=1e-9)


def test_what_is_no_rigid_transform_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tfm").write_text("no transform")
    refused(lambda: load_transform(tmp_path / "text.tfm"), "text.tfm", "no ITK transform")
    sitk.WriteTransform(sitk.ScaleTransform(3, (1.0, 1.0, 1.2)), str(tmp_path / "scale.tfm"))
    refused(lambda: load_transform(tmp_path / "scale.tfm"), "scale.tfm", "is not rigid")
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "plane.tfm"))
    refused(lambda: load_transform(tmp_path / "plane.tfm"), "plane.tfm", "is not rigid")
    refused(lambda: load_transform(tmp_path / "none.tfm"), "none.tfm", "no such file")
    refused(lambda: load_transforms(tmp_path / "none"), "none", "no such folder")
    refused(lambda: load_transforms(tmp_path), str(tmp_path), "holds no transforms of slices")


def test_transforms_of_mirtk_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "transformation0.dof").write_bytes(bytes(40))
    refused(lambda: load_transforms(tmp_path), "transformation0.dof", "MIRTK's own format")
