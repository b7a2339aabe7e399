"""In standard space volume, slices and model lie where the template has its brain; along its axes they stay put."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from reconstructions import brief, result, small, values

from slicesplat.geometry.rigid import Rigid
from slicesplat.result import Reconstruction
from slicesplat.sampling import Grid, sample_volume

TURN = Rigid.exp([5.0, -8.0, 12.0, 1.5, -0.9, 0.6])


@cache
def template(folder: Path) -> str:
    """What was reconstructed, turned and somewhere else."""
    made = result()
    shown = np.where(np.asarray(made.mask.dataobj) > 0, values(made), 0)
    path = folder / "template.nii.gz"
    nib.save(nib.Nifti1Image(shown.astype(np.float32), TURN.matrix @ made.volume.affine), path)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template")


@pytest.fixture(scope="module")
def standard(folder: Path) -> Reconstruction:
    return brief(small().stacks, orientation="standard", template=template(folder))


def test_everything_lies_where_the_template_is(standard: Reconstruction) -> None:
    plain, placed = result(), standard.placement
    assert placed is not None and not placed.doubtful
    assert np.degrees((~TURN @ placed.transform).angle()) < 2
    np.testing.assert_allclose(standard.poses.matrix, (placed.transform @ plain.poses).matrix, atol=1e-9)
    centre = np.argwhere(np.asarray(standard.mask.dataobj) > 0).mean(axis=0)
    before = np.argwhere(np.asarray(plain.mask.dataobj) > 0).mean(axis=0)
    there, here = (nib.affines.apply_affine(made.volume.affine, c) for made, c in ((standard, centre), (plain, before)))
    np.testing.assert_allclose(there, TURN.map(here), atol=1.0)
    np.testing.assert_allclose(standard.volume.affine[:3, :3], 1.4 * np.eye(3), atol=1e-12)


def test_it_is_the_field_that_was_moved_not_the_voxels(standard: Reconstruction) -> None:
    assert standard.placement is not None and standard.model.space == "standard"
    grid = Grid(standard.placement.transform.matrix @ result().volume.affine, result().volume.shape)
    again, _ = sample_volume(standard.model, grid)
    moved, plain = np.asarray(again.dataobj), values(result())
    shown = (moved > 0) & (plain > 0)
    assert shown.sum() > 0.98 * (plain > 0).sum()
    # To the rounding of positions in float32; linear interpolation of the voxels would be a hundred times as far off.
    np.testing.assert_allclose(moved[shown], plain[shown], atol=1e-3 * plain.max())


def test_along_the_brains_axes_the_volume_stays_in_scanner_space(folder: Path) -> None:
    made = brief(small().stacks, orientation="ras", template=template(folder))
    assert made.placement is not None and made.model.space == "scanner"
    np.testing.assert_array_equal(made.poses.matrix, result().poses.matrix)
    np.testing.assert_allclose(made.volume.affine[:3, :3], 1.4 * made.placement.axes, atol=1e-9)
    grid = Grid(result().volume.affine, result().volume.shape)
    np.testing.assert_allclose(np.asarray(sample_volume(made.model, grid)[0].dataobj), values(result()), atol=1e-4)


def test_the_json_says_how_it_lies_and_not_where_the_template_was(standard: Reconstruction, folder: Path) -> None:
    written = standard.json()
    assert written["standard_space"]["template"] == "given"
    assert np.shape(written["standard_space"]["world_transform"]) == (4, 4)
    assert written["settings"]["template"] == "template.nii.gz"
    assert str(folder) not in str(written)
    assert "standard_space" not in result().json()


def test_the_background_lies_there_too(folder: Path) -> None:
    settings = {"orientation": "standard", "template": template(folder), "with_background": True}
    made = brief(small().stacks, **settings)
    plain = brief(small().stacks, with_background=True)
    assert made.volume.shape != plain.volume.shape
    assert np.count_nonzero(values(made)) > 1.5 * np.count_nonzero(values(result()))


def test_a_template_needs_an_orientation() -> None:
    with pytest.raises(ValueError, match="ask for one of them"):
        brief(small().stacks, template="some.nii.gz")
