"""Make the built-in templates from the fetal brain atlas that they come from.

    python scripts/make_templates.py ATLAS_FOLDER

ATLAS_FOLDER holds gaNN-srr.nii.gz and gaNN-mask.nii.gz: Fidon et al., A spatio-temporal atlas of the developing fetal
brain with spina bifida aperta, Open Research Europe 1, 2021, 123; CC0 1.0. Each template is the brain alone, averaged
over voxels of 2 mm, its brightest tissue at 200 of 255, in the atlas's own axes.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

OUTPUT = Path(__file__).parents[1] / "src" / "slicesplat" / "templates"
WEEKS = (21, 24, 27, 30, 34)
SPACING, MARGIN = 2.0, 4.0  # mm
BRIGHT = 200.0


def template(folder: Path, week: int) -> nib.Nifti1Image:
    """The brain of one age."""
    image, mask = (nib.load(folder / f"ga{week}-{kind}.nii.gz") for kind in ("srr", "mask"))
    inside = np.asarray(mask.dataobj) > 0
    values = np.where(inside, np.asarray(image.dataobj, dtype=np.float64), 0.0)
    values *= BRIGHT / np.percentile(values[inside], 99)
    places = apply_affine(image.affine, np.argwhere(inside))
    low = np.floor((places.min(axis=0) - MARGIN) / SPACING) * SPACING
    shape = np.ceil((places.max(axis=0) + MARGIN - low) / SPACING).astype(int) + 1
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = low
    # A Gaussian of the voxels' width keeps what they cannot show from folding into them.
    blurred = ndimage.gaussian_filter(values, SPACING / 2.355 / np.array(image.header.get_zooms()))
    index = np.linalg.inv(image.affine) @ affine
    found = ndimage.affine_transform(blurred, index[:3, :3], index[:3, 3], tuple(shape), order=1)
    return nib.Nifti1Image(np.clip(np.rint(found), 0, 255).astype(np.uint8), affine)


def main() -> None:
    """Write all of them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, metavar="ATLAS_FOLDER")
    folder = options.parse_args().folder
    for week in WEEKS:
        # No time of day in the file: the same bytes every time.
        (OUTPUT / f"fetal-{week}-weeks.nii.gz").write_bytes(gzip.compress(template(folder, week).to_bytes(), mtime=0))


if __name__ == "__main__":
    main()
