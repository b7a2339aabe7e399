"""Make the pictures of the documents: docs/demo.png, and docs/pictures/tutorial.png.

Takes about a minute.

    python scripts/make_pictures.py [--folder docs] [--only demo|tutorial]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import slicesplat
from slicesplat.report.figure import save_png, three_planes
from slicesplat.validation.demo import DEMO_SIMULATION, demo
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import simulate

SHADES = 64  # of grey: a quarter of the bytes, and nothing that is seen
SMALL = 56.0, 1.0  # mm: length of the tutorial's brain and its voxels


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


PICTURES = {"demo": ("demo.png", of_demo), "tutorial": ("pictures/tutorial.png", of_tutorial)}


def main() -> None:
    """Make one or both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--only", choices=PICTURES)
    given = parser.parse_args()
    for name in [given.only] if given.only else PICTURES:
        path, draw = PICTURES[name]
        save_png(small(draw()), given.folder / path)


if __name__ == "__main__":
    main()
