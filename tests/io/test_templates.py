"""Templates are brains by themselves, in axes of their own; what is none is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from slicesplat.errors import InputError
from slicesplat.io.templates import built_in_templates, load_template


def test_built_in_brains_grow_with_age() -> None:
    templates = built_in_templates()
    volumes = [template.volume for template in templates]
    assert len(templates) == 5
    assert volumes == sorted(volumes)
    assert all(template.name.startswith("fetal ") for template in templates)
    for template in templates:
        np.testing.assert_allclose(template.affine[:3, :3], 2 * np.eye(3))
        # They are nearly symmetric from left to right, and the middle is where x is 0.
        x = np.average(np.arange(template.values.shape[0]), weights=template.inside.sum(axis=(1, 2)))
        assert abs(template.affine[0, 0] * x + template.affine[0, 3]) < 2


def test_they_come_with_their_licence_and_are_small() -> None:
    folder = Path(__file__).parents[2] / "src" / "slicesplat" / "templates"
    assert "CC0" in (folder / "LICENCE.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6


def saved(folder: Path, values: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0])), folder / "template.nii.gz")
    return folder / "template.nii.gz"


def test_a_template_of_the_users_own(tmp_path: Path) -> None:
    values = np.zeros((12, 12, 12))
    values[3:9, 3:9, 3:9] = 5.0
    template = load_template(saved(tmp_path, values))
    assert template.inside.sum() == 6**3
    assert template.volume == pytest.approx(12.0**3)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros((12, 12, 12)), "shows no brain"),
        (np.ones((12, 12, 12)), "fills its whole field of view"),
        (np.ones((12, 12, 3)), "shows no brain"),
    ],
)
def test_what_is_no_template_is_refused_by_name(tmp_path: Path, values: np.ndarray, problem: str) -> None:
    with pytest.raises(InputError, match=f"template.nii.gz: {problem}"):
        load_template(saved(tmp_path, values))
