"""Make the pictures of the documents: docs/demo.png, and docs/pictures/tutorial.png and primitives.png.

Takes two minutes.

    python scripts/make_pictures.py [--folder docs] [--only demo|tutorial|primitives]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import slicesplat
from slicesplat.config import FitSettings
from slicesplat.report.figure import save_png, three_planes
from slicesplat.validation.demo import DEMO_SIMULATION, demo
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import simulate

SHADES = 64  # of grey: a quarter of the bytes, and nothing that is seen
SMALL = 56.0, 1.0  # mm: length of the tutorial's brain and its voxels
ZOOM = 8  # pixels a voxel


def small(picture: Image.Image) -> Image.Image:
    """The same in few shades, which compress well."""
    return picture.quantize(SHADES, dither=Image.Dither.NONE)


def of_demo() -> Image.Image:
    """What `slicesplat demo` draws."""
    with tempfile.TemporaryDirectory() as place:
        made = demo(Path(place) / "demo", slicesplat.reconstruct, slicesplat.Config())
        with Image.open(made.folder / "demo.png") as picture:
            return picture.copy()


def of_tutorial() -> Image.Image:
    """A stack, the volume, and the standard error of its voxels."""
    stacks = simulate(*brain_phantom(*SMALL), DEMO_SIMULATION).stacks
    result = slicesplat.reconstruct(stacks, slicesplat.Config(uncertainty=True))
    assert result.uncertainty is not None
    shown = {"volume": result.volume, "standard error": result.uncertainty}
    panels = {name: (np.asarray(image.dataobj), image.affine) for name, image in shown.items()}
    return three_planes({"stack": (stacks[0].data, stacks[0].affine), **panels})


def of_primitives() -> Image.Image:
    """A plane of a volume, and the Gaussians of it: where the surface of one standard deviation of each cuts it."""
    stacks = simulate(*brain_phantom(*SMALL), DEMO_SIMULATION).stacks
    fit = FitSettings(strategy="primitives", gaussians=4000)
    result = slicesplat.reconstruct(stacks, slicesplat.Config(resolution=0.8, fit=fit))
    values, affine = np.asarray(result.volume.dataobj), result.volume.affine
    middle = values.shape[2] // 2
    plane = np.clip(values[:, :, middle] / np.percentile(values[values > 0], 99), 0, 1)
    grey = np.kron(255 * plane, np.ones((ZOOM, ZOOM))).T.astype(np.uint8)
    alone = Image.fromarray(grey).convert("RGB")
    drawn = Image.blend(alone, Image.new("RGB", alone.size), 0.35)
    pen = ImageDraw.Draw(drawn)
    for outline, colour in _outlines(result.field, np.linalg.inv(affine), middle):
        pen.line([(float(x), float(y)) for x, y in (outline + 0.5) * ZOOM], fill=colour)
    both = Image.new("RGB", (2 * alone.width, alone.height))
    both.paste(alone, (0, 0))
    both.paste(drawn, (alone.width, 0))
    return both.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def _outlines(
    field: slicesplat.GaussianField, to_voxels: np.ndarray, middle: int
) -> Iterator[tuple[np.ndarray, tuple[int, int, int]]]:
    """Ellipses (33, 2) in voxels of a plane, and a colour: from blue, round, to orange, thrice as long as thick."""
    turn = np.linspace(0, 2 * np.pi, 33)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    means = field.means.double().numpy() @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    covariances = to_voxels[:3, :3] @ field.covariances().double().numpy() @ to_voxels[:3, :3].T
    ratio = (field.log_scales.amax(dim=1) - field.log_scales.amin(dim=1)).exp().numpy()
    for mean, covariance, long, amplitude in zip(means, covariances, ratio, field.amplitudes.tolist(), strict=True):
        precision = np.linalg.inv(covariance)
        # In the plane the quadratic form is smallest at `centre`, and what is left of 1 there is the ellipse's size.
        across = precision[:2, :2]
        away = mean[2] - middle
        centre = mean[:2] + np.linalg.solve(across, precision[:2, 2]) * away
        left = 1 - away**2 / covariance[2, 2]
        if left <= 0 or amplitude < 0.05:
            continue
        root = np.linalg.cholesky(np.linalg.inv(across) * left)
        share = float(np.clip((long - 1) / 2, 0, 1))
        blue, orange = np.array([90, 160, 255]), np.array([255, 160, 40])
        yield (centre[:, None] + root @ circle).T, tuple((blue + share * (orange - blue)).astype(int).tolist())


PICTURES = {
    "demo": ("demo.png", of_demo),
    "tutorial": ("pictures/tutorial.png", of_tutorial),
    "primitives": ("pictures/primitives.png", of_primitives),
}


def main() -> None:
    """Make one or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--only", choices=PICTURES)
    given = parser.parse_args()
    for name in [given.only] if given.only else PICTURES:
        path, draw = PICTURES[name]
        save_png(small(draw()), given.folder / path)


if __name__ == "__main__":
    main()
