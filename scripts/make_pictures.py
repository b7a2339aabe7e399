"""Make the pictures of the documents: docs/demo.png, and docs/pictures/tutorial.png. About a minute.

python scripts/make_pictures.py [--folder docs]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

import slicesplat
from slicesplat.report.figure import save_png, three_planes
from slicesplat.validation.demo import demo

COLOURS = 64  # of grey: a quarter of the bytes, and nothing that is seen


def small(picture: Image.Image) -> Image.Image:
    """The same in few shades, which compress well."""
    return picture.quantize(COLOURS, dither=Image.Dither.NONE)


def panel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """An image as a row of a figure."""
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def main() -> None:
    """Make both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "docs")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as place:
        made = demo(Path(place) / "demo", slicesplat.reconstruct, slicesplat.Config())
        with Image.open(made.folder / "demo.png") as picture:
            save_png(small(picture), folder / "demo.png")
        numbers = (1, 2, 3)
        stacks = slicesplat.load_stacks(
            [made.folder / f"stack-{n}.nii.gz" for n in numbers],
            masks=[made.folder / f"mask-{n}.nii.gz" for n in numbers],
            thicknesses=3.0,
        )
        result = slicesplat.reconstruct(stacks, slicesplat.Config(uncertainty=True))
        shown = {"volume": result.volume, "standard error": result.uncertainty}
        rows = {"stack": panel(made.folder / "stack-1.nii.gz")}
        rows |= {name: (np.asarray(image.dataobj), image.affine) for name, image in shown.items()}
        save_png(small(three_planes(rows)), folder / "pictures" / "tutorial.png")


if __name__ == "__main__":
    main()
