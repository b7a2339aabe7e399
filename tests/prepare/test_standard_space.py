"""A brain is found in standard space from any orientation, whichever way its array is laid out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from slicesplat.geometry.rigid import Rigid
from slicesplat.io.templates import Template, built_in_templates
from slicesplat.prepare.standard_space import align_to_template

Brain = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]


def another(template: Template) -> Brain:
    """A brain that is like a template: a little larger, under a bias field."""
    affine = template.affine.copy()
    affine[:3, :3] *= 1.04
    x = np.linspace(-0.15, 0.15, len(template.values))[:, None, None]
    values = ndimage.gaussian_filter(template.values, 0.5) * (1 + x)
    return np.where(template.inside, values, 0).astype(np.float32), template.inside, affine


def in_a_skull(brain: Brain) -> Brain:
    """The brain with what a mask that was found holds too: 3 mm of dark bone, 3 mm of scalp."""
    values, inside, affine = brain
    values, inside, affine = np.pad(values, 6), np.pad(inside, 6), affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, 6)
    away = ndimage.distance_transform_edt(~inside, sampling=np.linalg.norm(affine[:3, :3], axis=0))
    tissue = np.median(values[inside])
    rim = np.select([away <= 3, away <= 6], [0.2 * tissue, 0.6 * tissue])
    return np.where(inside, values, rim).astype(np.float32), away <= 6, affine


def placed(seed: int, mirrored: bool, brain: Brain) -> tuple[Brain, Rigid]:
    """The brain turned anyhow and somewhere else, and the way that it went."""
    values, inside, affine = brain
    rng = np.random.default_rng(seed)
    moved = np.eye(4)
    moved[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    moved[:3, 3] = rng.uniform(-50, 50, 3)
    if mirrored:
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        flip[0, 3] = len(values) - 1
        values, inside, affine = values[::-1], inside[::-1], affine @ flip
    return (values, inside, moved @ affine), Rigid(moved)


@pytest.mark.parametrize(("seed", "mirrored"), [(0, False), (1, True)])
def test_any_orientation_comes_home(seed: int, mirrored: bool) -> None:
    # Looked for among the others: a brain is never its own template.
    templates = built_in_templates()
    brain, moved = placed(seed, mirrored, another(templates.pop(3)))
    found = align_to_template(*brain, templates)
    assert np.degrees((found.transform @ moved).angle()) < 5
    assert not found.doubtful
    np.testing.assert_allclose(found.axes, moved.rotation, atol=0.1)


def test_a_rim_of_skull_leaves_no_doubt() -> None:
    # Its outline is nearly the same back to front; the anatomy inside is not.
    templates = built_in_templates()
    brain, moved = placed(2, False, in_a_skull(another(templates.pop(2))))
    found = align_to_template(*brain, templates)
    assert np.degrees((found.transform @ moved).angle()) < 5
    assert found.lead > 0.06


def test_what_is_no_brain_is_doubtful() -> None:
    ball = np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0) < 10
    found = align_to_template(ball.astype(np.float32), ball, np.diag([2.0, 2.0, 2.0, 1.0]), built_in_templates())
    assert found.doubtful


def test_nothing_cannot_be_aligned() -> None:
    empty = np.zeros((8, 8, 8), bool)
    with pytest.raises(ValueError, match="the mask is empty"):
        align_to_template(empty.astype(np.float32), empty, np.eye(4), built_in_templates())
