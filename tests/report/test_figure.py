"""Pictures show the same anatomy at the same place, left on the left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slicesplat.report.figure import save_png, three_planes


def box_at(corner: tuple[int, int, int]) -> np.ndarray:
    """A frame that fixes the field of view, and a bright cube of 4 voxels at a corner."""
    volume = np.zeros((40, 50, 60), dtype=np.float32)
    volume[0, 0, 0] = volume[-1, -1, -1] = 0.01
    i, j, k = corner
    volume[i : i + 4, j : j + 4, k : k + 4] = 100
    return volume


def centred(shape: tuple[int, ...], spacing: float = 1.0) -> np.ndarray:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    return affine


def bright_spot(picture: Image.Image, row: int, rows: int) -> tuple[float, float]:
    """Column and row (within the panel) of the mean bright pixel of the axial plane."""
    pixels = np.asarray(picture, dtype=float)
    height = (pixels.shape[0] - 24) // rows
    panel = pixels[24 + row * height : 24 + (row + 1) * height, 130 : 130 + 117]
    y, x = np.nonzero(panel > 250)
    return float(x.mean()), float(y.mean())


def test_right_is_on_the_right_and_front_is_up() -> None:
    volume = box_at((32, 40, 28))
    picture = three_planes({"volume": (volume, centred(volume.shape))}, point=(0, 0, 0))
    x, y = bright_spot(picture, 0, 1)
    # 48 mm wide and 58 mm high at 0.4 mm; the cube's middle lies 14 mm to the right and 17 mm to the front.
    assert x == pytest.approx((14 + 23.5) / 0.4, abs=2)
    assert y == pytest.approx((28.5 - 17) / 0.4, abs=2)


def test_grids_and_orientations_do_not_move_the_anatomy() -> None:
    volume = box_at((32, 40, 28))
    affine = centred(volume.shape)
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = volume.shape[0] - 1
    turned = np.transpose(volume[::-1], (2, 0, 1))
    order = np.zeros((4, 4))
    order[[0, 1, 2, 3], [1, 2, 0, 3]] = 1
    picture = three_planes({"turned": (turned, affine @ flip @ order), "plain": (volume, affine)}, point=(0, 0, 0))
    assert bright_spot(picture, 0, 2) == pytest.approx(bright_spot(picture, 1, 2), abs=0.5)


def test_thick_slices_are_shown_as_they_are() -> None:
    stack = np.tile(np.array([10.0, 90.0])[None, None], (30, 30, 5))
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    picture = np.asarray(three_planes({"stack": (stack, affine)}, margin=0))
    coronal = picture[24 + 10 : 24 + 70, 130 + 75 + 4 + 20]
    # Only the two intensities, no steps between them; label ink is neither.
    assert len(np.unique(coronal)) == 2


def test_an_empty_volume_can_be_drawn() -> None:
    empty = np.zeros((8, 9, 10))
    assert three_planes({"empty": (empty, centred(empty.shape))}).mode == "L"


def test_the_picture_is_written_as_png(tmp_path: Path) -> None:
    picture = three_planes({"volume": (box_at((1, 2, 3)), np.eye(4))})
    save_png(picture, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as stored:
        assert stored.format == "PNG"
        assert np.array_equal(np.asarray(stored), np.asarray(picture))
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="no panels"):
        three_planes({})
    with pytest.raises(ValueError, match="3-D"):
        three_planes({"flat": (np.zeros((3, 3)), np.eye(4))})
